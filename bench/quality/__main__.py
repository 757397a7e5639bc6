"""How good is it? Measured on articles that training never saw.

    python -m bench.quality grouped --records pubmed.parquet --source-columns source
      --encoder studytag=minilm --seeds 42 43 44 --jobs 2
    python -m bench.quality add grouped probabilities.npz --system "my tagger"
    python -m bench.quality human2019 --table human2019.parquet --bundle studytag=artifacts/bundle

`grouped` is the main protocol: whole sources are held out, because within a source the topic alone
gives labels away. What a system predicts is kept in results/predictions/NAME, and a system that is
kept there is not measured again; no text goes there. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.quality.articles import read_articles
from bench.quality.protocols import (
    Seeds,
    add_predictions,
    describe_grouped,
    grouped,
    human,
)
from bench.quality.systems import BASELINES, Encoder
from studytag.errors import StudytagError


def add_article_options(parser: argparse.ArgumentParser) -> None:
    """The options of `read_articles`."""
    add = parser.add_argument
    add("--records", type=Path, nargs="+", required=True, help="tables of PubMed records")
    add("--source-columns", nargs="+", required=True, help="names the source, one per table")
    add("--train-only", metavar="COLUMN", help="articles where it is true are never evaluated")
    add("--rules", default="strict", help="rule set of the labels")
    add("--folds", type=int, default=5)
    add("--work", type=Path, default=Path("artifacts/bench"), help="receives tables and runs")
    add("--jobs", type=int, default=1, help="trainings at a time, each on its own cores")
    add("--mixed-precision", choices=("no", "bf16"), default="no")
    add("--seeds", type=int, nargs="+", default=[42])


def _grouped(options: argparse.Namespace) -> str:
    """Run what is missing; the table's text."""
    articles = read_articles(
        options.records,
        options.source_columns,
        options.rules,
        options.work / "tables" / options.name,
        options.train_only,
    )
    chosen = [name for name in BASELINES if name in options.baselines]
    systems: dict[str, Seeds] = {name: {0: (BASELINES[name], "")} for name in chosen}
    for entry in options.encoder:
        name, _, config = entry.partition("=")
        systems[name] = {
            seed: (Encoder(config, seed, options.work, options.mixed_precision), config)
            for seed in options.seeds
        }
    grouped(options.name, articles, articles.folds(options.folds), systems, options.jobs)
    return describe_grouped(options.name, options.reference)


def _add(options: argparse.Namespace) -> str:
    add_predictions(options.name, options.file, options.system, options.seed, options.recipe)
    return describe_grouped(options.name, options.reference)


def _human(options: argparse.Namespace) -> str:
    bundles = dict(entry.partition("=")[::2] for entry in options.bundle)
    paths = {name: Path(path) for name, path in bundles.items()}
    return human(options.name, options.table, paths, options.train)


def main() -> None:
    """Evaluate, keep the predictions, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("grouped", help="whole unseen sources")
    add_article_options(command)
    command.add_argument("--name", default="grouped", help="of the table")
    command.add_argument("--encoder", action="append", default=[], metavar="SYSTEM=CONFIG")
    command.add_argument("--baselines", nargs="*", default=list(BASELINES), choices=BASELINES)
    command.add_argument("--reference", metavar="SYSTEM", help="show gains over this system")
    command.set_defaults(run=_grouped)
    command = commands.add_parser("add", help="probabilities that were made elsewhere")
    command.add_argument("name", help="of the table")
    command.add_argument("file", type=Path, help="npz with `probabilities`, in the truth's order")
    command.add_argument("--system", required=True)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--recipe", default="")
    command.add_argument("--reference", metavar="SYSTEM", help="show gains over this system")
    command.set_defaults(run=_add)
    command = commands.add_parser("human2019", help="articles labelled by people")
    command.add_argument("--table", type=Path, required=True)
    command.add_argument("--bundle", action="append", default=[], metavar="SYSTEM=FOLDER")
    command.add_argument("--train", type=Path, help="labelled table that TF-IDF learns from")
    command.add_argument("--name", default="human2019", help="of the table")
    command.set_defaults(run=_human)
    options = parser.parse_args()
    try:
        sys.stdout.write(options.run(options))
    except StudytagError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
