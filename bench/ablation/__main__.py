"""What does each choice of the training recipe give? Measured on sources that training never saw.

    python -m bench.ablation table.parquet --only "focal loss" --seeds 42 43

Every change trains once per seed on all folds but 0 and 1 of a table as `bench.quality grouped`
takes it, and predicts these two. Gains are paired, with intervals by bootstrap over sources.
Options after `--` go to every training: `-- --max-length 128` makes it short.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from bench.ablation.variants import BASELINE, HOOKS, OPTIONS
from bench.harness.commands import add_training_arguments, parser_of, run
from bench.quality import protocols
from bench.quality.systems import Encoder, System


def _run(options: argparse.Namespace) -> str:
    """Train what is missing; the table's text."""
    systems: dict[tuple[str, int], tuple[System, str]] = {}
    for name in dict.fromkeys([BASELINE, *(options.only or [*OPTIONS, *HOOKS])]):
        for seed in options.seeds:
            changed = (*options.further, *OPTIONS.get(name, ()))
            encoder = Encoder(options.config, seed, options.work, changed)
            if name in HOOKS:
                encoder = replace(encoder, command=("-m", "bench.ablation.variants", name))
            systems[name, seed] = (encoder, " ".join([options.config, *encoder.options]))
    return protocols.grouped(options.table, options.name, systems, BASELINE, once=True)


def main() -> None:
    """Train what is missing, and write the table."""
    parser = parser_of(__doc__)
    add_training_arguments(parser, "ablation-grouped")
    parser.add_argument("--config", default="minilm", help="the recipe")
    parser.add_argument("--only", nargs="+", choices=[*OPTIONS, *HOOKS], metavar="CHANGE")
    parser.add_argument("further", nargs="*", help="after --: options of every training")
    run(parser, _run)


if __name__ == "__main__":
    main()
