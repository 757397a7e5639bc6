"""onnxruntime set up for this machine: one core for each document."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime as ort

from studytag.errors import BundleError

FUSIONS_OFF = ["SkipLayerNormFusion"]
"""onnxruntime 1.32 runs its fused skip + layer norm slower than the two on their own: on 6 layers
of 384 at 300 tokens, turning it off took int8 from 38 to 35 ms, float32 from 64 to 62."""


def choose_variant(offered: Collection[str], fast_int8: bool | None) -> tuple[str, str]:
    """What `variant="auto"` means here: the variant's name, and why.

    Args:
        offered: Variants of the bundle, at least one.
        fast_int8: Whether the processor has int8 instructions; None where that is not known.
    """
    if len(offered) == 1:
        (only,) = offered
        return only, "the bundle has no other"
    if "int8" not in offered:
        return next(iter(offered)), "the bundle has no int8 variant"
    if fast_int8 is None:
        return "int8", "the system does not tell what the processor has; int8 is rarely slower"
    if fast_int8:
        return "int8", "the processor has int8 instructions (VNNI or dotprod)"
    return "fp32", "the processor has no int8 instructions (VNNI or dotprod)"


def open_session(graph: Path, threads: int = 1) -> ort.InferenceSession:
    """Load a graph so that each run keeps to `threads` threads, the calling one among them.

    Many documents are done soonest side by side, each on its own core (1.2 times as fast on two
    cores, docs/experiments.md); a single one is done sooner by several. The arena is kept, because
    its blocks are used again whatever their shape. Memory patterns are not: one would be stored for
    each length ever seen, up to `max_length` of them (after 100 documents of 20 to 512 tokens the
    process held 170 MB with them, 135 MB without, at equal speed).
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors, which are raised besides
    return ort.InferenceSession(
        str(graph),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=FUSIONS_OFF,
    )


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
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if not (panic or isinstance(error, Exception)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{failure} ({reason}); export it again") from error
