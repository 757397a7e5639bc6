"""How good is it? Measured on articles that training never saw.

    python -m bench.quality grouped table.parquet --encoder studytag=minilm --seeds 42 43 44
    python -m bench.quality grouped table.parquet --once --bundle "my tagger=artifacts/bundle@int8"
    python -m bench.quality test human2019.parquet --train data/processed/train.parquet
    python -m bench.quality add grouped probabilities.npz --system "my tagger"

`grouped` is the main protocol: whole sources are held out, because within a source the topic alone
gives labels away. `test` is for a table of its own: people's labels, or a published split. Bundles
of one name are seeds of one system. bench/quality/protocols.py says what a table needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.harness.commands import add_training_arguments, parser_of, run
from bench.quality import protocols
from bench.quality.systems import BASELINES, Bundle, Encoder, System
from studytag.errors import InputError

_Systems = dict[tuple[str, int], tuple[System, str]]


def _systems(options: argparse.Namespace) -> _Systems:
    systems: _Systems = {(name, 0): (BASELINES[name], "") for name in options.baselines}
    for entry in options.encoder:
        name, _, config = entry.partition("=")
        for seed in options.seeds:
            systems[name, seed] = (Encoder(config, seed, options.work), config)
    return systems


def _run(options: argparse.Namespace) -> str:
    """Measure what is missing; the table's text."""
    table = options.table
    if options.command == "add":
        return protocols.add(options.name, table, options.system, options.seed, options.recipe)
    systems = _systems(options)
    name = options.name or options.command
    entries = (entry.partition("=") for entry in options.bundle)
    named = [(system, Bundle.parse(text)) for system, _, text in entries]
    bundles = {(system, bundle.seed): bundle for system, bundle in named}
    if len(bundles) < len(named):
        raise InputError("two bundles have the same name and seed; give each a name of its own")
    if options.command == "test":
        return protocols.test(table, options.train, options.validation, name, systems, bundles)
    ready = {key: (bundle, bundle.recipe) for key, bundle in bundles.items()}
    return protocols.grouped(table, name, {**systems, **ready}, options.reference, options.once)


def main() -> None:
    """Evaluate, keep the predictions, and write the table."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("grouped", "test"):
        command = commands.add_parser(name)
        add_training_arguments(command)
        command.add_argument("--encoder", action="append", default=[], metavar="SYSTEM=CONFIG")
        command.add_argument("--bundle", action="append", default=[], metavar="SYSTEM=FOLDER")
        command.add_argument("--baselines", nargs="*", default=list(BASELINES), choices=BASELINES)
    commands.choices["grouped"].add_argument("--reference", help="show gains over this system")
    commands.choices["grouped"].add_argument(
        "--once", action="store_true", help="train on folds beyond 1 alone, evaluate on 0 and 1"
    )
    command.add_argument("--train", type=Path, required=True, help="labelled, to train on")
    command.add_argument("--validation", type=Path, help="to tune thresholds on (default: a part)")
    command = commands.add_parser("add")
    command.add_argument("name", help="of the results")
    command.add_argument("table", type=Path, help="npz: `probabilities`, in the truth's order")
    command.add_argument("--system", required=True)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--recipe", default="", help="how it came about")
    run(parser, _run)


if __name__ == "__main__":
    main()
