"""A trained model to OpenVINO's int8: static ranges of activations, measured on real articles."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from studytag.errors import import_extra
from studytag.export.layers import faster_layers
from studytag.export.quantisation import HEAD_MODULES
from studytag.training.model_folder import TrainedModel

SAMPLES = 100
"""Articles that the ranges are measured on."""

_EXTRA = "export-openvino"


def export_openvino(trained: TrainedModel, texts: Sequence[str], target: Path) -> None:
    """Write the graph as OpenVINO's IR, `target` (.xml) and its weights beside it (.bin).

    It is the graph of layers.py, quantised by NNCF after SmoothQuant. Weights use 7 of their 8
    bits, as in quantisation.py and for the same reason; attention and the head stay in float32.

    Args:
        trained: The model.
        texts: Articles like those that will be tagged; `SAMPLES` of them are used, spread evenly.
        target: The graph's file.

    Raises:
        MissingDependencyError: openvino or nncf is not installed.
    """
    openvino = import_extra("openvino", _EXTRA)
    nncf = import_extra("nncf", _EXTRA)
    nncf.set_log_level(logging.WARNING)
    chosen = np.linspace(0, len(texts) - 1, min(SAMPLES, len(texts))).astype(int)
    inputs = [_inputs(trained, texts[index]) for index in chosen]
    model = _Logits(trained.model)
    with (
        faster_layers(trained.model, "openvino"),
        torch.inference_mode(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the tracer's remarks; int8 is measured afterwards
        graph = openvino.convert_model(model, example_input=inputs[0])
    for port in graph.inputs:  # a number of the trace stands beside the name
        port.get_tensor().set_names(port.get_names() & inputs[0].keys())
    graph.reshape({name: [-1, (1, trained.manifest.max_length)] for name in inputs[0]})
    quantised = nncf.quantize(
        graph,
        nncf.Dataset([{name: value.numpy() for name, value in each.items()} for each in inputs]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(
            types=["ScaledDotProductAttention"],
            patterns=[rf".*\.{module}/.*" for module in sorted({*HEAD_MODULES, "ngrams"})],
            validate=False,
        ),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
    )
    target.parent.mkdir(exist_ok=True)
    openvino.save_model(quantised, target, compress_to_fp16=False)


class _Logits(nn.Module):
    """A transformers model as a function of tensors alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def _inputs(trained: TrainedModel, text: str) -> dict[str, Tensor]:
    encoded = trained.tokenizer(
        text, truncation=True, max_length=trained.manifest.max_length, return_tensors="pt"
    )
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}
