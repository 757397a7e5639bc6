"""A graph opened on the engine that runs it, and the choice between variants."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from studytag.errors import BundleError, StudytagError
from studytag.inference.openvino import OpenVinoSession

FUSIONS_OFF = ["SkipLayerNormFusion"]
"""onnxruntime 1.32 runs its fused skip + layer norm slower than the two on their own: on 6 layers
of 384 at 300 tokens, turning it off took int8 from 38 to 35 ms, float32 from 64 to 62."""


class Session(Protocol):
    """What studytag uses of onnxruntime's `InferenceSession`, whatever the engine."""

    def get_inputs(self) -> Sequence[Any]:
        """What the graph reads: nodes with `name`, `shape` and `type`."""

    def get_outputs(self) -> Sequence[Any]:
        """What the graph gives."""

    def run(
        self, names: Sequence[str] | None, feed: Mapping[str, NDArray[np.int64]], /
    ) -> Sequence[NDArray[np.float32]]:
        """The outputs of one batch."""


def choose_variant(
    offered: Collection[str], rates: Mapping[str, float], fast_int8: bool | None
) -> tuple[str, str]:
    """What `variant="auto"` means here: the variant's name, and why.

    Args:
        offered: Variants of the bundle whose engines are installed, at least one.
        rates: Documents a second that were measured on this machine, by variant.
        fast_int8: Whether the processor has int8 instructions; None where that is not known.
    """
    if len(offered) == 1:
        (only,) = offered
        return only, "no other is offered"
    if rates.keys() >= set(offered):
        ranked = sorted(offered, key=lambda name: -rates[name])
        figures = ", ".join(f"{name} {rates[name]:.3g}" for name in ranked)
        return ranked[0], f"measured on this machine, documents/s: {figures}"
    if "int8" not in offered:
        return next(iter(offered)), "the bundle has no int8 variant"
    if fast_int8:
        return "int8", "the processor has int8 instructions (VNNI or dotprod); not measured here"
    return "int8", "faster than float32 also without int8 instructions; not measured here"


def open_session(graph: Path, threads: int = 1) -> Session:
    """Load a graph so that each run keeps to `threads` threads.

    The calling one is among them with onnxruntime; OpenVINO (an IR, .xml) has its own.

    Many documents are done soonest side by side, each on its own core (1.2 times as fast on two
    cores, docs/experiments.md); a single one is done sooner by several. The arena is kept, because
    its blocks are used again whatever their shape. Memory patterns are not: one would be stored for
    each length ever seen, up to `max_length` of them (after 100 documents of 20 to 512 tokens the
    process held 170 MB with them, 135 MB without, at equal speed).
    """
    if graph.suffix == ".xml":
        return OpenVinoSession(graph, threads)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors, which are raised besides
    session: Session = ort.InferenceSession(
        str(graph),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=FUSIONS_OFF,
    )
    return session


@contextmanager
def load_or_refuse(failure: str) -> Iterator[None]:
    """Turn whatever onnxruntime and tokenizers raise in the block into one error of one line.

    Their exceptions have no common base. A panic of the Rust code in tokenizers is not even an
    Exception, so that only its name tells it from an interrupt.

    Args:
        failure: What failed, for the message.

    Raises:
        BundleError: the block raised.
    """
    try:
        yield
    except StudytagError:
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if not (panic or isinstance(error, Exception)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{failure} ({reason}); export it again") from error
