"""Let the transformer of a graph read excerpts of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from studytag.errors import import_extra
from studytag.export.graph import export_part, rename_inputs, save_graph
from studytag.manifest import READ_TOKENS
from studytag.words.excerpt import Excerpt
from studytag.words.ngrams import Ngrams

if TYPE_CHECKING:
    from onnx import ModelProto

_PREFIX = "excerpt/"
_PLACES = "studytag_places"


def add_excerpt(graph: Path, ngrams: Ngrams) -> None:
    """Let callers of a graph say how many tokens of a text its transformer reads.

    The number is an initializer that may be fed (`READ_TOKENS`): programs that do not know of it
    read all tokens, as before.
    """
    onnx = import_extra("onnx", "export")
    model = onnx.load(graph)
    tokens = {READ_TOKENS: torch.tensor([8])}
    places = export_part(Excerpt(ngrams), tokens, _PLACES, graph.parent)
    _prepend(model, places)
    save_graph(model, graph)


def _prepend(model: ModelProto, places: ModelProto) -> None:
    """Put the nodes that find the places before the transformer's, which reads only those."""
    from onnx import TensorProto, compose, helper, numpy_helper

    places = compose.add_prefix(places, _PREFIX, rename_inputs=False, rename_outputs=False)
    inputs = {value.name: f"{value.name}/read" for value in model.graph.input}
    rename_inputs(model.graph, inputs)
    nodes = [
        *places.graph.node,
        *(
            helper.make_node("GatherElements", [name, _PLACES], [read], read, axis=1)
            for name, read in inputs.items()
        ),
        *model.graph.node,
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(places.graph.initializer)
    everything = np.array([2**31 - 1], dtype=np.int64)
    model.graph.initializer.append(numpy_helper.from_array(everything, READ_TOKENS))
    model.graph.input.append(helper.make_tensor_value_info(READ_TOKENS, TensorProto.INT64, [1]))
