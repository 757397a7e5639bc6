"""What does each change of the graphs give? Time and error of one thread, change by change.

    python bench/graphs.py --model artifacts/model/best --table data/processed/val.parquet

Every graph is exported anew with one more change than the one before. Graphs take turns on the same
random token ids; error is that of probabilities on real articles, against the plain float32 graph.
The table goes to bench/results/NAME.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack, nullcontext
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import onnxruntime as ort
import torch
from machine import describe_machine

from studytag.evaluation.split import load_split
from studytag.export import graph, layers, quantisation
from studytag.export.source import TrainedModel, load_trained
from studytag.files import write_text_atomically
from studytag.inference import runtime
from studytag.inference.model import sigmoid

LENGTHS = (150, 280, 512)

PLAIN = patch.object(layers, "faster_layers", lambda model: nullcontext())
NO_CLS = patch.object(
    layers._Layer, "__init__", lambda self, layer, first_only: _every_token(self, layer)
)
MASKED = patch.object(graph, "_unmask_where_nothing_is_padded", lambda model: None)
UNSCALED = patch.object(quantisation, "_narrowing", lambda model: [])
PROJECTED = patch.object(
    layers,
    "_seen_by_first",
    lambda attention, tokens, mask: layers._Attention.apply(
        attention.q_lin(tokens[:, :1]),
        attention.k_lin(tokens),
        attention.v_lin(tokens),
        mask.to(torch.int32),
        attention.n_heads,
    ),
)
FUSED_NORMS = patch.object(runtime, "FUSIONS_OFF", [])

VARIANTS = {
    "as optimum exports it": (PLAIN, UNSCALED, FUSED_NORMS),
    "+ skip-norm fusion off": (PLAIN, UNSCALED),
    "+ attention as one operator": (NO_CLS, MASKED, UNSCALED),
    "+ no mask where nothing is padded": (NO_CLS, UNSCALED),
    "+ last layer for [CLS] only": (PROJECTED, UNSCALED),
    "+ no keys and values of the last layer": (UNSCALED,),
    "+ int8 with a scale for each token": (),
}
"""Name to what is taken away; the last is what studytag exports."""


def _every_token(self: object, layer: object) -> None:
    self._layer, self._first_only = layer, False


def sessions(trained: TrainedModel, folder: Path) -> dict[tuple[str, str], ort.InferenceSession]:
    """Every variant in float32 and int8."""
    found = {}
    for number, (name, taken) in enumerate(VARIANTS.items()):
        fp32, int8 = folder / f"{number}.onnx", folder / f"{number}-int8.onnx"
        with ExitStack() as stack:
            for each in taken:
                stack.enter_context(each)
            graph.export_graph(trained.model, fp32)
            quantisation.quantise(fp32, int8)
            found[name, "fp32"] = runtime.open_session(fp32)
            found[name, "int8"] = runtime.open_session(int8)
    return found


def run(session: ort.InferenceSession, ids: np.ndarray) -> np.ndarray:
    """Probabilities of one unpadded text."""
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return sigmoid(session.run(None, feed)[0][0])


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("artifacts/model/best"))
    parser.add_argument("--table", type=Path, default=Path("data/processed/val.parquet"))
    parser.add_argument("--articles", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="graphs")
    options = parser.parse_args()
    trained = load_trained(options.model)
    rows = load_split(options.table, trained.labels).rows
    chosen = np.linspace(0, len(rows) - 1, options.articles).astype(int)
    limits = {"truncation": True, "max_length": trained.max_length}
    texts = [trained.recipe.compose_record(rows[index]) for index in chosen]
    ids = [np.array([trained.tokenizer(text, **limits)["input_ids"]]) for text in texts]
    random = np.random.default_rng(0)
    seconds: dict[tuple[str, str, int], list[float]] = {}
    with TemporaryDirectory() as folder:
        found = sessions(trained, Path(folder))
        for length in LENGTHS:
            for _ in range(options.rounds):
                some = random.integers(1000, 30000, (1, length))
                for (name, kind), session in found.items():
                    started = time.perf_counter()
                    run(session, some)
                    elapsed = time.perf_counter() - started
                    seconds.setdefault((name, kind, length), []).append(elapsed)
        exact = np.array([run(found[next(iter(VARIANTS)), "fp32"], each) for each in ids])
        error = {
            key: np.abs(np.array([run(session, each) for each in ids]) - exact)
            for key, session in found.items()
        }
    config = trained.model.config
    lines = [
        f"DistilBERT of {config.n_layers} layers x {config.dim}, one thread, medians of "
        f"{options.rounds} interleaved runs, {options.articles} articles, {describe_machine()}, "
        f"{date.today().isoformat()}.",
        "",
        "| Graph | " + " | ".join(f"{length} tokens, ms" for length in LENGTHS) + " | mean Δp "
        "| max Δp |",
        "|---|" + "---:|" * (len(LENGTHS) + 2),
    ]
    for kind in ("fp32", "int8"):
        for name in VARIANTS:
            times = [statistics.median(seconds[name, kind, length]) for length in LENGTHS]
            off = error[name, kind]
            cells = [*(f"{1000 * each:.1f}" for each in times), f"{off.mean():.1e}"]
            lines.append(f"| {kind}: {name} | " + " | ".join([*cells, f"{off.max():.1e}"]) + " |")
    table = "\n".join(lines) + "\n"
    write_text_atomically(Path(__file__).parent / "results" / f"{options.name}.md", table)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
