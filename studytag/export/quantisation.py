"""A float32 graph to int8."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studytag.errors import import_extra
from studytag.export.graph import save_graph
from studytag.manifest import weights_file

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

HEAD_MODULES = frozenset({"classifier", "pre_classifier", "pooler", "score"})
"""What transformers calls the layers after the encoder. They stay in float32: they cost next to
nothing, and their error would reach the logits directly."""

ACTIVATION_MODULES = frozenset({"activation", "intermediate_act_fn"})
"""What transformers calls GELU or ReLU between the two feed-forward products."""

WEIGHT_RANGE = 64
"""Weights are rounded to -64 ... 64, 7 of their 8 bits; see `quantise`."""

ZERO_POINT = 16
"""What stands for 0 among the 256 levels of a token after GELU."""

_PREFIX = "studytag_"


def quantise(source: Path, target: Path) -> None:
    """Write `source` with int8 weights, one scale for each channel; activations as they come.

    Embeddings become int8 too: no faster, but the file is a quarter instead of two thirds of the
    size. Weights use 7 of their 8 bits (`reduce_range`): processors without VNNI add pairs of
    products in 16 bits and would saturate, and a bundle may be served on any machine. That costs a
    tenth more error (mean 0.0014 instead of 0.0012 of a probability), the embeddings less, neither
    any time.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    onnx = import_extra("onnx", "export")
    quantization = import_extra("onnxruntime.quantization", "export")
    inference = import_extra("onnxruntime.quantization.shape_inference", "export")
    with TemporaryDirectory(dir=target.parent) as folder, _quiet_root_logger():
        inferred = Path(folder, "inferred.onnx")
        large = source.with_name(weights_file(source.name)).exists()
        inference.quant_pre_process(
            str(source),
            str(inferred),
            skip_optimization=True,
            skip_symbolic_shape=True,
            save_as_external_data=large,
            all_tensors_to_one_file=True,
        )
        model = onnx.load(inferred)
        flat = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
        head = [node.name for node in model.graph.node if _in_head(node.name)]
        # Weights of one matrix a head are read by a single token (see layers.py).
        small = [
            node.name
            for node in model.graph.node
            if node.op_type == "MatMul" and node.input[1] not in flat
        ]
        narrowing = [node.name for node in _narrowing(model)]
        quantization.quantize_dynamic(
            inferred,
            inferred,
            use_external_data_format=large,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
            # onnxruntime first splits every Gemm into a MatMul of this name and an Add.
            nodes_to_exclude=[*head, *(f"{name}_MatMul" for name in head), *small, *narrowing],
            # The type of what attention puts out, which ONNX's inference does not know.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        model = onnx.load(inferred)
        _quantise_by_token(model)
        save_graph(model, target)


def _narrowing(model: ModelProto) -> list[NodeProto]:
    """The second products of the feed-forward layers: right after the activation, and they narrow.

    Where something stands between the two, such as the gate of a gated layer, values may be as
    negative as positive, and the product is left to onnxruntime.
    """
    narrow = {
        tensor.name
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and tensor.dims[0] > tensor.dims[1]
    }
    activated = {
        output
        for node in model.graph.node
        if not ACTIVATION_MODULES.isdisjoint(_modules(node.name))
        for output in node.output
    }
    return [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.input[0] in activated
        and node.input[1] in narrow
        and not _in_head(node.name)
    ]


def _quantise_by_token(model: ModelProto) -> None:
    """Quantise what enters the feed-forward layers' second products with a scale for each token.

    After GELU a few tokens hold values many times larger than the rest, which would lose their low
    bits if all shared one scale. A token's scale is its maximum; since GELU never falls below
    -0.17, the zero point can be the same for all and nothing need be searched for the minimum. That
    is as exact as dividing each token by its maximum and quantising the whole, and faster (4.3
    instead of 5.3 ms for a product of 280 tokens, 3072 x 768).
    """
    from onnx import helper, numpy_helper

    # The zero point leaves room for -0.17 from this maximum on.
    floor = 0.17 * (255 - ZERO_POINT) / ZERO_POINT
    shared = {
        "last_axis": np.array([-1]),
        "floor": np.float32(floor),
        "level": np.float32(1 / (255 - ZERO_POINT)),
        "one": np.float32(1),
        "zero_point": np.uint8(ZERO_POINT),
    }
    constants: dict[str, NDArray[Any]] = {
        _PREFIX + name: np.asarray(value) for name, value in shared.items()
    }
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    products = {node.name for node in _narrowing(model)}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.name in products:
            weight = numpy_helper.to_array(weights[node.input[1]])
            added, values = _product_by_token(node, weight)
            constants |= values
            nodes += added
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    kept += [numpy_helper.from_array(value, name) for name, value in constants.items()]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _product_by_token(
    node: NodeProto, matrix: NDArray[np.float32]
) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """The nodes that take a MatMul's place, and the constants they read, named after its weight.

    Args:
        node: Multiplies tokens (b, n, inner) by the matrix.
        matrix: Shape (inner, width).
    """
    from onnx import helper

    (tokens, weight), (product,), name = node.input, node.output, node.name
    scale = np.maximum(np.abs(matrix).max(axis=0), np.finfo(np.float32).tiny) / WEIGHT_RANGE
    constants = {
        f"{weight}/weight": np.rint(matrix / scale).astype(np.int8),
        f"{weight}/scale": scale.astype(np.float32),
        f"{weight}/offset": np.zeros(matrix.shape[1], np.int8),
        f"{weight}/inner": np.array([-1, matrix.shape[0]]),
        f"{weight}/width": np.array([matrix.shape[1]]),
    }
    nodes: list[NodeProto] = []

    def add(kind: str, *inputs: str, to: str, **options: Any) -> str:
        output = f"{name}/{to}"
        nodes.append(helper.make_node(kind, inputs, [output], output, **options))
        return output

    rows = add("Reshape", tokens, f"{weight}/inner", to="rows")  # (b n, inner)
    highest = add("ReduceMax", rows, f"{_PREFIX}last_axis", to="highest")
    highest = add("Max", highest, f"{_PREFIX}floor", to="range")
    steps = add("Mul", highest, f"{_PREFIX}level", to="steps")  # (b n, 1)
    step = add("Reshape", steps, f"{_PREFIX}last_axis", to="step")  # (b n,)
    zeros = add("Expand", f"{_PREFIX}zero_point", add("Shape", step, to="count"), to="zeros")
    quantised = add("QuantizeLinear", rows, step, zeros, to="quantised", axis=0)
    factors = (f"{weight}/weight", f"{_PREFIX}one", f"{weight}/scale", f"{_PREFIX}zero_point")
    result = add(
        "MatMulIntegerToFloat",
        *(quantised, *factors, f"{weight}/offset"),
        to="product",
        domain="com.microsoft",
    )
    result = add("Mul", result, steps, to="scaled")
    leading = add("Shape", tokens, to="leading", end=-1)
    shape = add("Concat", leading, f"{weight}/width", to="shape", axis=0)
    nodes.append(helper.make_node("Reshape", [result, shape], [product], name))
    return nodes, constants


def _in_head(name: str) -> bool:
    return not HEAD_MODULES.isdisjoint(_modules(name))


def _modules(name: str) -> list[str]:
    """The modules in a node's name; one that is called again is `activation_1` there."""
    return [re.sub(r"_\d+$", "", part) for part in name.split("/")]


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
