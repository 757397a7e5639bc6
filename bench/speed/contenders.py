"""What a user would pick instead of studytag's predictor, each set up as its documentation says.

Every contender is a function from n articles to probabilities of shape (n, labels), on all cores.
The weights are one model's; optimum and OpenVINO get optimum's own export of it, not studytag's.
OpenVINO and CTranslate2 are also given studytag's way of using the cores, which they do not offer
by default: one unpadded article on each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.harness.machine import has_fast_bf16
from studytag import Predictor
from studytag.hardware import available_cores, has_fast_int8
from studytag.inference.model import sigmoid
from studytag.manifest import Manifest, load_manifest
from studytag.records import Row

Probabilities = NDArray[np.floating]
Contender = Callable[[list[Row]], Probabilities]
Feed = dict[str, NDArray[np.int64]]
SAMPLES = 100
"""Articles that static quantisation is calibrated on."""


class Setting(NamedTuple):
    """Where the models lie: the trained one; in a folder, exports as `bundle` and `optimum`."""

    model: Path
    folder: Path

    def manifest(self) -> Manifest:
        """Of the bundle; its files are not verified."""
        return load_manifest(self.folder / "bundle", variants=())

    def articles(self, name: str) -> list[Row]:
        """The `samples` of static quantisation, or the `articles` to tag."""
        return list(json.loads((self.folder / f"{name}.json").read_text("utf-8")))


def studytag(setting: Setting, variant: Any, threads: int) -> Contender:
    """The predictor, which forgets the words of earlier rounds: they are the warm-up's too."""
    predictor = Predictor(setting.folder / "bundle", variant=variant, threads_per_worker=threads)

    def run(articles: list[Row]) -> Probabilities:
        predictor._model._encoder.forget()
        return predictor.predict_proba(articles)

    return run


@cache
def torch_model(folder: Path, kind: str) -> Any:
    """The model in PyTorch: fp32, bf16, or its linear layers quantised dynamically."""
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    if kind == "int8":
        quantise: Any = torch.ao.quantization.quantize_dynamic
        return quantise(model, {torch.nn.Linear}, dtype=torch.qint8)
    return model


@cache
def optimum_model(folder: Path, file: str) -> Any:
    """Optimum's ORTModelForSequenceClassification."""
    from optimum.onnxruntime import ORTModelForSequenceClassification

    return ORTModelForSequenceClassification.from_pretrained(folder, file_name=file)


def pipeline(setting: Setting, load: Callable[[], Any], batch_size: int) -> Contender:
    """`transformers.pipeline` over a model."""
    from transformers import AutoTokenizer
    from transformers import pipeline as make

    manifest = setting.manifest()
    tokenizer = AutoTokenizer.from_pretrained(setting.model)
    tag: Any = make("text-classification", model=load(), tokenizer=tokenizer, top_k=None)

    def run(articles: list[Row]) -> Probabilities:
        options = {"truncation": True, "max_length": manifest.max_length}
        texts = manifest.text_recipe.compose_records(articles)
        outputs = tag(texts, batch_size=batch_size, **options)
        scores = [{entry["label"]: entry["score"] for entry in output} for output in outputs]
        return np.array([[of_one[label] for label in manifest.labels] for of_one in scores])

    return run


def encoder_of(setting: Setting) -> Callable[[Row], Feed]:
    """From an article to the inputs of a graph, unpadded."""
    from tokenizers import Tokenizer

    manifest = setting.manifest()
    tokenizer = Tokenizer.from_file(str(setting.model / "tokenizer.json"))
    tokenizer.enable_truncation(manifest.max_length)
    tokenizer.no_padding()

    def encode(article: Row) -> Feed:
        ids = np.array([tokenizer.encode(manifest.text_recipe.compose_record(article)).ids])
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    return encode


def export_with_optimum(folder: Path, target: Path) -> None:
    """What optimum's documentation has a user do: export, and quantise for the processor."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    model = ORTModelForSequenceClassification.from_pretrained(folder, export=True)
    model.save_pretrained(target)
    options = {"is_static": False, "per_channel": True}
    if has_fast_int8():
        recipe = AutoQuantizationConfig.avx512_vnni(**options)
    else:
        recipe = AutoQuantizationConfig.avx2(**options, reduce_range=True)
    ORTQuantizer.from_pretrained(model).quantize(save_dir=target, quantization_config=recipe)


def openvino_int8(setting: Setting) -> Path:
    """OpenVINO's own int8: static ranges after SmoothQuant, by NNCF, from real articles."""
    import nncf
    import openvino as ov

    target = setting.folder / "optimum" / "openvino-int8.xml"
    if not target.exists():
        samples = nncf.Dataset(setting.articles("samples"), encoder_of(setting))
        graph = ov.Core().read_model(setting.folder / "optimum" / "model.onnx")
        options = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": SAMPLES}
        ov.save_model(nncf.quantize(graph, samples, **options), target, compress_to_fp16=False)
    return target


def openvino(setting: Setting, kind: str, streams: int) -> Contender:
    """OpenVINO over unpadded articles: `streams` at a time, which share the cores."""
    import openvino as ov

    graph = (
        openvino_int8(setting)
        if kind.startswith("int8")
        else setting.folder / "optimum" / "model.onnx"
    )
    precision = "bf16" if kind.endswith("bf16") else "f32"
    options = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": str(streams)}
    model = ov.Core().compile_model(graph, "CPU", options)
    encode = encoder_of(setting)
    queue = ov.AsyncInferQueue(model, streams)

    def run(articles: list[Row]) -> Probabilities:
        logits = np.empty((len(articles), len(setting.manifest().labels)), dtype=np.float32)

        def keep(request: Any, place: int) -> None:
            logits[place] = request.get_output_tensor().data[0]

        queue.set_callback(keep)
        for place, article in enumerate(articles):
            queue.start_async(encode(article), place)
        queue.wait_all()
        return sigmoid(logits)

    return run


def ctranslate2(setting: Setting) -> Contender:
    """CTranslate2's encoder in int8, one article on each core; the small head in NumPy."""
    import ctranslate2 as ct2
    from safetensors.numpy import load_file

    folder = setting.folder / "optimum" / "ctranslate2"
    if not folder.exists():
        ct2.converters.TransformersConverter(str(setting.model)).convert(str(folder))
    cores = available_cores()
    model = ct2.Encoder(str(folder), compute_type="int8", inter_threads=cores, intra_threads=1)
    head = load_file(setting.model / "model.safetensors")
    encode = encoder_of(setting)

    def tag(article: Row) -> NDArray[np.floating]:
        output = model.forward_batch(encode(article)["input_ids"].tolist())
        values = np.array(output.last_hidden_state)[0, 0]
        values = head["pre_classifier.weight"] @ values + head["pre_classifier.bias"]
        logits = head["classifier.weight"] @ np.maximum(values, 0) + head["classifier.bias"]
        return sigmoid(logits)

    def run(articles: list[Row]) -> Probabilities:
        with ThreadPoolExecutor(cores) as pool:
            return np.array(list(pool.map(tag, articles)))

    return run


def all_contenders(
    setting: Setting, batch_sizes: Sequence[int]
) -> dict[str, Callable[[], Contender]]:
    """Everything that can be measured, each to be loaded by a call."""
    cores = available_cores()
    contenders: dict[str, Callable[[], Contender]] = {}
    for variant in setting.manifest().variants:
        contenders[f"studytag, {variant}"] = partial(studytag, setting, variant, 1)
        name = f"studytag, each article on all cores, {variant}"
        contenders[name] = partial(studytag, setting, variant, cores)
    contenders["CTranslate2 int8, an article a core"] = partial(ctranslate2, setting)
    bf16 = ["bf16"] if has_fast_bf16() else []
    precisions = ("fp32", *bf16, "int8")
    mixed = [f"int8 and {kind}" for kind in bf16]
    for kind in (*precisions, *mixed):
        name = f"OpenVINO {kind}, an article a core"
        contenders[name] = partial(openvino, setting, kind, cores)
        name = f"OpenVINO {kind}, each article on all cores"
        contenders[name] = partial(openvino, setting, kind, 1)
    for size in batch_sizes:
        for kind in precisions:
            load = partial(torch_model, setting.model, kind)
            name = f"transformers pipeline {kind}, batch {size}"
            contenders[name] = partial(pipeline, setting, load, size)
        for kind, graph in (("fp32", "model.onnx"), ("int8", "model_quantized.onnx")):
            load = partial(optimum_model, setting.folder / "optimum", graph)
            contenders[f"optimum {kind}, batch {size}"] = partial(pipeline, setting, load, size)
    return contenders
