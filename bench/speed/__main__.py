"""How fast is it? Measured beside what a user would pick instead.

    python -m bench.speed contenders --source articles.parquet --model artifacts/model/best
    python -m bench.speed footprint --source articles.parquet --model artifacts/model/best
    python -m bench.speed cost --source articles.parquet --bundle artifacts/bundle
    python -m bench.speed runs --source articles.parquet --bundle artifacts/bundle
    python -m bench.speed service --source articles.parquet
    python -m bench.speed training --source train.parquet --validation val.parquet

`contenders` measures documents a second beside optimum, OpenVINO, CTranslate2 and transformers'
pipeline; with `--tables`, those that the model learned from and was tuned on, studytag's bundle is
exported as it would ship, and micro-F1 on the articles is drawn beside speed. `footprint` measures
cold start, the latency of single articles and memory, `cost` processor time, and what a collection
such as PubMed takes of it, `runs` what committed parts add, and the memory of long and wide files,
`service` what `studytag serve` makes of the predictor's speed under load, `training` what a recipe
of training takes beside the Trainer's.
`--distilbert` takes DistilBERT's shape with random weights.
Contenders take turns, because the speed of shared machines drifts: compare figures within a table,
not across tables. Results are named after the processor, so that each kind keeps its own.
"""

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from bench.harness.commands import parser_of  # noqa: E402

FEW = "studytag|int8( and bf16)?, each article on all cores|CTranslate2|optimum|fp32, batch"
"""Contenders of `footprint`."""

PUBMED = 38_000_000
"""Records."""

COMMANDS: dict[str, dict[str, Any]] = {
    "contenders": {"articles": 1000, "rounds": 10, "only": ""},
    "footprint": {"articles": 100, "rounds": 5, "only": FEW},
    "cost": {"articles": 64, "rounds": 5},
    "runs": {"articles": 1000, "rounds": 5, "only": None},
    "service": {"articles": 200, "rounds": 5},
    "training": {"articles": 256, "rounds": 3},
}
"""Their defaults."""


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, defaults in COMMANDS.items():
        command = commands.add_parser(name)
        command.add_argument("--source", type=Path, required=True, help="table of real articles")
        command.add_argument("--articles", type=int)
        command.add_argument("--rounds", type=int)
        command.add_argument("--name", help="of the results (default: with the processor's name)")
        command.set_defaults(**defaults)
    for name in ("contenders", "footprint"):
        command = commands.choices[name]
        command.add_argument("--model", type=Path, default=Path("artifacts/model/best"))
        command.add_argument("--only", help="contenders whose names this finds")
        weights = command.add_mutually_exclusive_group()  # random ones have no F1
        weights.add_argument("--distilbert", action="store_true", help="its shape, random weights")
        command.set_defaults(tables=None)
        if name == "contenders":
            weights.add_argument(
                "--tables",
                type=Path,
                nargs=2,
                metavar=("TRAIN", "VALIDATION"),
                help="those of the model, to measure micro-F1 too",
            )
    command = commands.choices["contenders"]
    command.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    command.add_argument(
        "--processor-time", action="store_true", help="where other work shares the cores"
    )
    command = commands.choices["cost"]
    command.add_argument("--bundle", required=True, nargs="+", help="one or more")
    command.add_argument("--records", type=int, default=PUBMED, help="size of the collection")
    command = commands.choices["runs"]
    command.add_argument("--bundle", required=True)
    command.add_argument("--variant", default="auto")
    command.add_argument("--text-every", type=int, default=200)
    command.add_argument("--only", choices=("overhead", "memory"))
    command = commands.choices["service"]
    command.add_argument("--bundle", help="default: the tagger that ships")
    command.add_argument("--clients", type=int, default=32)
    command.add_argument("--seconds", type=float, default=60.0, help="of a round, for the service")
    command.add_argument("--infinity", help="its program, from an environment of its own")
    command.add_argument("--model", type=Path, help="what infinity serves")
    _add_training_options(commands.choices["training"])
    commands.add_parser("one").add_argument("arguments", nargs="+")  # a child of footprint
    return parser


def _add_training_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--validation", type=Path, required=True, help="table to score on")
    command.add_argument("--validation-articles", type=int, default=400)
    command.add_argument("--config", default="minilm", help="of studytag train")
    command.add_argument("--encoder", help="folder or name (default: the configuration's)")
    command.add_argument("--epochs", type=int, default=3)
    command.add_argument("--batch-size", type=int)
    command.add_argument("--tokens-per-batch", type=int)
    command.add_argument("--learning-rate", type=float)
    command.add_argument("--only", default="", help="contenders whose names this finds")
    command.add_argument("--processor-time", action="store_true", help="of one thread")


def main() -> None:
    """Measure, keep the figures, and write the table."""
    options = _parser().parse_args()
    from bench.speed import inference, scale, service, training

    if options.command == "one":
        figures = inference.one_footprint(STARTED, *options.arguments)
        sys.stdout.write(f"\n{json.dumps(figures)}\n")
        return
    from bench import tables
    from bench.harness.machine import processor_slug
    from bench.harness.store import save_raw

    if options.name is None:
        shape = "-distilbert" if getattr(options, "distilbert", False) else ""
        options.name = f"speed-{options.command}{shape}-{processor_slug()}"
    modules = {"cost": scale, "runs": scale, "service": service, "training": training}
    module = modules.get(options.command, inference)
    save_raw(options.name, getattr(module, options.command)(options))
    sys.stdout.write(tables.write(options.name))


if __name__ == "__main__":
    main()
