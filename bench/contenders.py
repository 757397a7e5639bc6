"""What a user would pick instead of studytag's predictor, each set up as its documentation says.

Every contender is a function from articles to probabilities, on all cores. The weights are one
model's; optimum and OpenVINO get optimum's own export of it, not studytag's. OpenVINO's int8 and
CTranslate2 are given studytag's own way of using the cores, which they do not offer by default:
one unpadded article on each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from machine import processor_flags

from studytag import Predictor
from studytag.inference.runtime import FUSIONS_OFF, available_cores

Contender = Callable[[list[dict]], object]
Feed = dict[str, np.ndarray]
INPUTS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Setting:
    """Where the models lie, and how much of a text they read.

    Attributes:
        model: Folder of the trained model.
        bundle: studytag's export of it.
        optimum: optimum's export of it, float32 and int8.
        max_length: Tokens that every contender reads at most.
        samples: JSON list of articles that static quantisation is calibrated on.
    """

    model: Path
    bundle: Path
    optimum: Path
    max_length: int
    samples: Path


def text(article: dict) -> str:
    """What the contenders read; cut as the tokenizer cuts."""
    return f"{article['title']} {article['abstract']}".strip()


def studytag(setting: Setting, variant: str, threads_per_record: int = 1) -> Contender:
    """The predictor, from records to decisions."""
    options = {"variant": variant, "threads_per_record": threads_per_record}
    return Predictor.from_pretrained(setting.bundle, **options).predict


@cache
def torch_model(folder: Path, kind: str) -> object:
    """The model in PyTorch: fp32, compiled, bf16, or its linear layers quantised dynamically."""
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    if kind == "int8":
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    if kind == "compiled":
        model.forward = torch.compile(model.forward, dynamic=True)
    return model


def pipeline(
    setting: Setting, model: object, batch_size: int, by_length: bool = False
) -> Contender:
    """`transformers.pipeline` over a model; optionally longest first, so that little is padded."""
    from transformers import AutoTokenizer
    from transformers import pipeline as make

    tokenizer = AutoTokenizer.from_pretrained(setting.model)
    tag = make("text-classification", model=model, tokenizer=tokenizer, top_k=None)

    def run(articles: list[dict]) -> object:
        texts = [text(article) for article in articles]
        if by_length:
            texts.sort(key=len, reverse=True)
        options = {"truncation": True, "max_length": setting.max_length}
        return tag(texts, batch_size=batch_size, **options)

    return run


def export_with_optimum(folder: Path, target: Path) -> None:
    """What optimum's documentation has a user do: export; quantise for AVX512-VNNI; optimise."""
    from optimum.onnxruntime import (
        ORTModelForSequenceClassification,
        ORTOptimizer,
        ORTQuantizer,
    )
    from optimum.onnxruntime.configuration import AutoOptimizationConfig, AutoQuantizationConfig

    model = ORTModelForSequenceClassification.from_pretrained(folder, export=True)
    model.save_pretrained(target)
    recipe = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(model).quantize(save_dir=target, quantization_config=recipe)
    ORTOptimizer.from_pretrained(model).optimize(
        save_dir=target, optimization_config=AutoOptimizationConfig.O3()
    )


@cache
def optimum_model(folder: Path, file: str) -> object:
    """Optimum's ORTModelForSequenceClassification."""
    from optimum.onnxruntime import ORTModelForSequenceClassification

    return ORTModelForSequenceClassification.from_pretrained(folder, file_name=file)


def fixed_padding(setting: Setting, batch_size: int = 8) -> Contender:
    """Plain onnxruntime with its defaults, every text padded to the greatest length."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(setting.optimum / "model.onnx")
    tokenizer = Tokenizer.from_file(str(setting.model / "tokenizer.json"))
    tokenizer.enable_truncation(setting.max_length)
    tokenizer.enable_padding(length=setting.max_length)

    def run(articles: list[dict]) -> object:
        results = []
        for begin in range(0, len(articles), batch_size):
            part = [text(article) for article in articles[begin : begin + batch_size]]
            encoded = tokenizer.encode_batch(part)
            feed = {
                "input_ids": np.array([each.ids for each in encoded]),
                "attention_mask": np.array([each.attention_mask for each in encoded]),
            }
            results.append(session.run(None, feed)[0])
        return results

    return run


def encoder_of_texts(setting: Setting) -> Callable[[dict], Feed]:
    """From an article to the inputs of a graph, unpadded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(setting.model / "tokenizer.json"))
    tokenizer.enable_truncation(setting.max_length)
    tokenizer.no_padding()

    def encode(article: dict) -> Feed:
        ids = np.array([tokenizer.encode(text(article)).ids])
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    return encode


def own_graph(setting: Setting, variant: str, batch_size: int) -> Contender:
    """Studytag's graph as others would run it: all cores on a batch of articles of like length."""
    import onnxruntime

    file = {"fp32": "model.onnx", "quantized": "model_quantized.onnx"}[variant]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(
        setting.bundle / "onnx" / file, options, disabled_optimizers=FUSIONS_OFF
    )
    encode = encoder_of_texts(setting)

    def run(articles: list[dict]) -> object:
        ids = sorted((encode(article)["input_ids"][0] for article in articles), key=len)
        results = []
        for begin in range(0, len(ids), batch_size):
            part = ids[begin : begin + batch_size]
            feed = {name: np.zeros((len(part), len(part[-1])), np.int64) for name in INPUTS}
            for place, each in enumerate(part):
                feed["input_ids"][place, : len(each)] = each
                feed["attention_mask"][place, : len(each)] = 1
            results.append(session.run(None, feed)[0])
        return results

    return run


def openvino_int8(setting: Setting) -> Path:
    """OpenVINO's own int8: static ranges after SmoothQuant, by NNCF, from 100 real articles."""
    import nncf
    import openvino as ov

    target = setting.optimum / "openvino-int8.xml"
    if not target.exists():
        samples = nncf.Dataset(json.loads(setting.samples.read_text()), encoder_of_texts(setting))
        graph = ov.Core().read_model(setting.optimum / "model.onnx")
        options = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": 100}
        ov.save_model(nncf.quantize(graph, samples, **options), target, compress_to_fp16=False)
    return target


def openvino(setting: Setting, kind: str, streams: int) -> Contender:
    """OpenVINO over unpadded articles: `streams` at a time, which share the cores."""
    import openvino as ov

    graph = openvino_int8(setting) if kind == "int8" else setting.optimum / "model.onnx"
    precision = "bf16" if kind == "bf16" else "f32"
    options = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": str(streams)}
    model = ov.Core().compile_model(graph, "CPU", options)
    encode = encoder_of_texts(setting)
    queue = ov.AsyncInferQueue(model, streams)

    def run(articles: list[dict]) -> object:
        results: dict[int, np.ndarray] = {}
        queue.set_callback(
            lambda request, place: results.update({place: request.get_output_tensor().data.copy()})
        )
        for place, article in enumerate(articles):
            queue.start_async(encode(article), place)
        queue.wait_all()
        return results

    return run


def ctranslate2(setting: Setting) -> Contender:
    """CTranslate2's encoder in int8, one article on each core; the head, a trifle, in numpy."""
    import ctranslate2 as ct2
    from safetensors.numpy import load_file

    folder = setting.optimum / "ctranslate2"
    if not folder.exists():
        ct2.converters.TransformersConverter(str(setting.model)).convert(str(folder))
    cores = available_cores()
    model = ct2.Encoder(str(folder), compute_type="int8", inter_threads=cores, intra_threads=1)
    head = load_file(setting.model / "model.safetensors")
    encode = encoder_of_texts(setting)

    def tag(article: dict) -> np.ndarray:
        output = model.forward_batch(encode(article)["input_ids"].tolist())
        values = np.array(output.last_hidden_state)[0, 0]
        values = head["pre_classifier.weight"] @ values + head["pre_classifier.bias"]
        logits = head["classifier.weight"] @ np.maximum(values, 0) + head["classifier.bias"]
        return 1 / (1 + np.exp(-logits))

    def run(articles: list[dict]) -> object:
        with ThreadPoolExecutor(cores) as pool:
            return list(pool.map(tag, sorted(articles, key=lambda each: -len(text(each)))))

    return run


GRAPHS = {"fp32": "model.onnx", "fp32 O3": "model_optimized.onnx", "int8": "model_quantized.onnx"}
"""What optimum's export writes."""


def all_contenders(setting: Setting, batch_sizes: list[int]) -> dict[str, Callable[[], Contender]]:
    """Everything that can be measured, each to be loaded by a call."""
    cores = available_cores()
    found: dict[str, Callable[[], Contender]] = {
        "studytag, int8": partial(studytag, setting, "quantized"),
        "studytag, fp32": partial(studytag, setting, "fp32"),
        "studytag, each article on all cores, int8": partial(studytag, setting, "quantized", cores),
        "studytag, each article on all cores, fp32": partial(studytag, setting, "fp32", cores),
        "studytag's graph, batches of 8 by length, int8": partial(
            own_graph, setting, "quantized", 8
        ),
        "studytag's graph, batches of 8 by length, fp32": partial(own_graph, setting, "fp32", 8),
        "onnxruntime, padded to the greatest length": partial(fixed_padding, setting),
        "CTranslate2 int8, an article a core": partial(ctranslate2, setting),
    }
    # Without instructions for bf16 it is emulated, 20 to 50 times slower than float32.
    bf16 = [] if processor_flags().isdisjoint({"avx512_bf16", "amx_bf16"}) else ["bf16"]
    for kind in ("fp32", *bf16, "int8"):
        found |= {
            f"OpenVINO {kind}, an article a core": partial(openvino, setting, kind, cores),
            f"OpenVINO {kind}, each article on all cores": partial(openvino, setting, kind, 1),
        }
    for size in batch_sizes:
        for kind in ("fp32", "compiled", *bf16, "int8"):
            found[f"transformers pipeline {kind}, batch {size}"] = partial(
                _torch_pipeline, setting, kind, size
            )
        for kind, graph in GRAPHS.items():
            found[f"optimum {kind}, batch {size}"] = partial(
                _optimum_pipeline, setting, graph, size
            )
        found[f"transformers pipeline fp32, batch {size}, by length"] = partial(
            _torch_pipeline, setting, "fp32", size, by_length=True
        )
    return found


def _torch_pipeline(setting: Setting, kind: str, size: int, by_length: bool = False) -> Contender:
    return pipeline(setting, torch_model(setting.model, kind), size, by_length)


def _optimum_pipeline(setting: Setting, graph: str, size: int) -> Contender:
    return pipeline(setting, optimum_model(setting.optimum, graph), size)
