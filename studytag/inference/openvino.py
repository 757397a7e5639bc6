"""OpenVINO as an engine: the part of onnxruntime's `InferenceSession` that studytag uses.

Lengths are padded to the next multiple of `BUCKET`, behind a mask, because OpenVINO compiles code
for each length that it has not met.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studytag.errors import import_extra
from studytag.hardware import available_cores, processor_flags

BUCKET = 16
"""Half of it is wasted on average, 2 % of an abstract; 512 tokens make 32 lengths to compile."""

_BFLOAT16 = "amx_bf16"
"""A processor with this flag multiplies bf16 many times as fast as float32, so attention and
whatever else is not int8 is bf16 there: 0.83 of the time, and less error than int8's own."""


@dataclass(frozen=True)
class Node:
    """An input or output of a graph, described as onnxruntime does."""

    name: str
    shape: list[int | str]
    type: str


class OpenVinoSession:
    """A compiled graph. Threads may share it."""

    def __init__(self, graph: Path, threads: int) -> None:
        """Compile an IR (.xml, its weights beside it) for `threads` threads a document.

        Raises:
            MissingDependencyError: openvino is not installed.
        """
        openvino = import_extra("openvino", "openvino")
        streams = max(available_cores() // threads, 1)
        options = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
            "INFERENCE_PRECISION_HINT": "bf16" if _BFLOAT16 in (processor_flags() or ()) else "f32",
            # Processes side by side would pin themselves to the same cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        self._model = openvino.Core().compile_model(graph, "CPU", options)
        self._longest = self._model.inputs[0].partial_shape[1].max_length
        self._local = threading.local()

    def get_inputs(self) -> list[Node]:
        """What the graph reads."""
        return [
            Node(port.any_name, ["batch", "length"], "tensor(int64)") for port in self._model.inputs
        ]

    def get_outputs(self) -> list[Node]:
        """What the graph gives."""
        width = self._model.outputs[0].partial_shape[1].get_length()
        return [Node("logits", ["batch", width], "tensor(float)")]

    def run(
        self, names: Sequence[str] | None, feed: Mapping[str, NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        """The logits, shape (batch, labels), alone in a list; `names` are not looked at."""
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._model.create_infer_request()
        request.infer({name: self._padded(values) for name, values in feed.items()})
        return [request.get_output_tensor().data.copy()]

    def _padded(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Zeros behind the tokens; of the mask they mean that nothing is there."""
        length = values.shape[1]
        bucket = min(-length % BUCKET + length, self._longest)
        return np.pad(values, ((0, 0), (0, bucket - length)))
