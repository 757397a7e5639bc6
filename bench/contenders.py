"""What a user would pick instead of studytag's predictor, each set up as its documentation says.

Every contender is a function from articles to probabilities, on all cores. The weights are one
model's; optimum and OpenVINO get optimum's own export of it, not studytag's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from studytag import Predictor
from studytag.inference.runtime import available_cores

Contender = Callable[[list[dict]], object]


@dataclass(frozen=True)
class Setting:
    """Where the models lie, and how much of a text they read.

    Attributes:
        model: Folder of the trained model.
        bundle: studytag's export of it.
        optimum: optimum's export of it, float32 and int8.
        max_length: Tokens that every contender reads at most.
    """

    model: Path
    bundle: Path
    optimum: Path
    max_length: int


def text(article: dict) -> str:
    """What the contenders read; cut as the tokenizer cuts."""
    return f"{article['title']} {article['abstract']}".strip()


def studytag(setting: Setting, variant: str) -> Contender:
    """The predictor, from records to decisions."""
    return Predictor.from_pretrained(setting.bundle, variant=variant).predict


@cache
def torch_model(folder: Path, kind: str = "fp32") -> object:
    """The model in PyTorch: fp32, bf16, or with its linear layers quantised dynamically."""
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    if kind == "int8":
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
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
    """What optimum's documentation has a user do: export, then quantise for AVX512-VNNI."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    model = ORTModelForSequenceClassification.from_pretrained(folder, export=True)
    model.save_pretrained(target)
    recipe = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(model).quantize(save_dir=target, quantization_config=recipe)


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


def openvino(setting: Setting) -> Contender:
    """OpenVINO in float32 at its best here: unpadded texts, one stream for each core."""
    import openvino as ov
    from tokenizers import Tokenizer

    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": str(available_cores())}
    model = ov.Core().compile_model(setting.optimum / "model.onnx", "CPU", options)
    tokenizer = Tokenizer.from_file(str(setting.model / "tokenizer.json"))
    tokenizer.enable_truncation(setting.max_length)
    tokenizer.no_padding()

    def run(articles: list[dict]) -> object:
        queue = ov.AsyncInferQueue(model, available_cores())
        results: dict[int, np.ndarray] = {}
        queue.set_callback(
            lambda request, place: results.update({place: request.get_output_tensor().data.copy()})
        )
        for place, article in enumerate(articles):
            ids = np.array([tokenizer.encode(text(article)).ids])
            queue.start_async({"input_ids": ids, "attention_mask": np.ones_like(ids)}, place)
        queue.wait_all()
        return results

    return run


def all_contenders(setting: Setting, batch_sizes: list[int]) -> dict[str, Callable[[], Contender]]:
    """Everything that can be measured, each to be loaded by a call."""
    found: dict[str, Callable[[], Contender]] = {
        "studytag, int8": lambda: studytag(setting, "quantized"),
        "studytag, fp32": lambda: studytag(setting, "fp32"),
        "onnxruntime, padded to the greatest length": lambda: fixed_padding(setting),
        "OpenVINO fp32, one stream a core": lambda: openvino(setting),
    }
    graphs = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}
    for size in batch_sizes:
        for kind, graph in graphs.items():
            found |= {
                f"transformers pipeline {kind}, batch {size}": partial(
                    _torch_pipeline, setting, kind, size
                ),
                f"optimum {kind}, batch {size}": partial(_optimum_pipeline, setting, graph, size),
            }
        found[f"transformers pipeline fp32, batch {size}, by length"] = partial(
            _torch_pipeline, setting, "fp32", size, by_length=True
        )
    return found


def _torch_pipeline(setting: Setting, kind: str, size: int, by_length: bool = False) -> Contender:
    return pipeline(setting, torch_model(setting.model, kind), size, by_length)


def _optimum_pipeline(setting: Setting, graph: str, size: int) -> Contender:
    return pipeline(setting, optimum_model(setting.optimum, graph), size)
