"""PyTorch to ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from studytag.errors import import_extra
from studytag.export.layers import faster_layers
from studytag.manifest import weights_file

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from transformers import PreTrainedModel

OPSET = 18
"""The version of ONNX's operators; quantisation writes nodes of its own in it."""

LARGEST_GRAPH = 2**31 - 2**24
"""Bytes of weights in one file: protobuf's limit is 2 GB, and the nodes need some of it."""


def export_graph(model: PreTrainedModel, target: Path) -> None:
    """Write `model` as ONNX with free batch size and length, through optimum.

    onnxruntime fuses most of it when it loads the graph. Its transformer optimiser, run beforehand,
    was measured 4 to 13 % slower (6 layers of 384, one thread), in float32 and int8 alike; what
    does pay is done while tracing.

    Raises:
        MissingDependencyError: optimum is not installed.
    """
    onnx = import_extra("onnx", "export")
    exporter = import_extra("optimum.exporters.onnx", "export")
    with (
        TemporaryDirectory(dir=target.parent) as folder,
        warnings.catch_warnings(),
        faster_layers(model),
    ):
        warnings.simplefilter("ignore")  # the tracer's remarks; parity is measured afterwards
        exporter.onnx_export_from_model(
            model, folder, task="text-classification", opset=OPSET, do_validation=False
        )
        graph = onnx.load(Path(folder, "model.onnx"))
    _read_shared_weights_directly(graph)
    _unmask_where_nothing_is_padded(graph)
    save_graph(graph, target)


def export_part(
    module: nn.Module, others: Mapping[str, Tensor], output: str, folder: Path
) -> ModelProto:
    """The graph of a part that stands beside the transformer; its parity is measured afterwards.

    Args:
        module: Takes token ids and mask, both (b, n), and `others`.
        others: Further inputs by name, with examples.
        output: What the graph calls its only output.
        folder: For a file in between.
    """
    onnx = import_extra("onnx", "export")
    names = ["input_ids", "attention_mask"]
    example = torch.ones((2, 32), dtype=torch.int64)
    with TemporaryDirectory(dir=folder) as between, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks
        part = Path(between, "part.onnx")
        torch.onnx.export(
            module,
            (example, example, *others.values()),
            part,
            input_names=[*names, *others],
            output_names=[output],
            dynamic_axes={name: {0: "batch_size", 1: "sequence_length"} for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
        graph: ModelProto = onnx.load(part)
    return graph


def save_graph(graph: ModelProto, target: Path) -> None:
    """Write a graph; weights beyond what one file of ONNX can hold go to a file beside it."""
    onnx = import_extra("onnx", "export")
    size = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    if size <= LARGEST_GRAPH:
        onnx.save(graph, target)
        return
    onnx.save(
        graph,
        target,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=weights_file(target.name),
    )


def rename_inputs(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Let the nodes of a graph, those of its branches included, read other values."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename_inputs(attribute.g, names)


def _read_shared_weights_directly(model: ModelProto) -> None:
    """Remove the nodes that copy weights for a second layer, as in ALBERT.

    Quantisation would take a copy for an activation, and its original out of the graph.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    copies: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in weights:
            copies[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    rename_inputs(model.graph, copies)


def _unmask_where_nothing_is_padded(model: ModelProto) -> None:
    """Attend without the mask where it hides nothing: onnxruntime has a faster way for that.

    The predictor never pads; others may, and then the mask is used as before.
    """
    from onnx import TensorProto, helper

    if all(node.op_type != "MultiHeadAttention" for node in model.graph.node):
        return
    unpadded = "studytag_unpadded"
    nodes = [
        helper.make_node("ReduceMin", ["attention_mask"], [f"{unpadded}_int"], keepdims=0),
        helper.make_node("Cast", [f"{unpadded}_int"], [unpadded], to=TensorProto.BOOL),
    ]
    for node in model.graph.node:
        if node.op_type != "MultiHeadAttention":
            nodes.append(node)
            continue
        ways = {}
        for way, inputs in (("then_branch", node.input[:3]), ("else_branch", node.input)):
            result = f"{node.output[0]}_{way}"
            attend = helper.make_node(
                node.op_type, inputs, [result], f"{node.name}/{way}", domain=node.domain
            )
            attend.attribute.extend(node.attribute)
            output = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
            ways[way] = helper.make_graph([attend], f"{node.name}/{way}", [], [output])
        nodes.append(helper.make_node("If", [unpadded], node.output, f"{node.name}/If", **ways))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
