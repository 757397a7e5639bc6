"""PyTorch to ONNX, and float32 to int8."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from studytag.errors import missing_dependency

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEAD_MODULES = frozenset({"classifier", "pre_classifier", "pooler", "score"})
"""What transformers calls the layers after the encoder. They stay in float32: they cost next to
nothing, and their error would reach the logits directly."""


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Drop what onnxruntime tells the root logger of every single tensor."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)


def export_graph(model: PreTrainedModel, target: Path) -> None:
    """Write `model` as ONNX with free batch size and length, through optimum.

    The graph keeps to the standard's own operators. onnxruntime fuses them when it loads the graph;
    fusing beforehand, with its transformer optimiser, was measured 4 to 13 % slower (6 layers of
    384, one thread), in float32 and int8 alike.

    Raises:
        MissingDependencyError: optimum is not installed.
    """
    try:
        from optimum.exporters.onnx import onnx_export_from_model
    except ImportError as error:
        raise missing_dependency("optimum-onnx", "export") from error
    with TemporaryDirectory(dir=target.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks; parity is measured afterwards
        onnx_export_from_model(model, folder, task="text-classification", do_validation=False)
        shutil.move(Path(folder, "model.onnx"), target)


def quantise(source: Path, target: Path) -> None:
    """Write `source` with int8 weights, one scale for each channel; activations as they come.

    Embeddings become int8 too: no faster, but the file is a quarter instead of two thirds of the
    size. Weights use 7 of their 8 bits (`reduce_range`): processors without VNNI add pairs of
    products in 16 bits and would saturate, and a bundle may be served on any machine. It was
    measured to cost neither accuracy nor time.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise missing_dependency("onnx", "export") from error
    head = [
        node.name
        for node in onnx.load(source, load_external_data=False).graph.node
        if not HEAD_MODULES.isdisjoint(node.name.split("/"))
    ]
    with TemporaryDirectory(dir=target.parent) as folder, _quiet_root_logger():
        inferred = Path(folder, "inferred.onnx")
        quant_pre_process(source, inferred, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(
            inferred,
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            # onnxruntime first splits every Gemm into a MatMul of this name and an Add.
            nodes_to_exclude=[*head, *(f"{name}_MatMul" for name in head)],
            extra_options={"MatMulConstBOnly": True},
        )
