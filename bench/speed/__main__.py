"""How fast is it? Measured beside what a user would pick instead.

    python -m bench.speed contenders --source articles.parquet --model artifacts/model/best
    python -m bench.speed footprint --source articles.parquet --model artifacts/model/best
    python -m bench.speed cost --source articles.parquet --bundle artifacts/bundle
    python -m bench.speed service --source articles.parquet

`contenders` measures documents a second beside optimum, OpenVINO, CTranslate2 and transformers'
pipeline; of labelled articles and with `--bundle`, the tuned bundle of the same model, also
micro-F1, and draws a picture. `footprint` measures cold start, the latency of single articles and
memory, `cost` processor time, and what a collection such as PubMed takes of it, `service` what
`studytag serve` makes of the predictor's speed under load. `--distilbert` takes DistilBERT's shape
with random weights. Contenders take turns, because the speed of shared machines drifts: compare
figures within a table, not across tables.
"""

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

FEW = "studytag|int8, each article on all cores|CTranslate2|(optimum|fp32), batch"
"""Contenders of `footprint`."""

PUBMED = 38_000_000
"""Records."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, articles, rounds, only in (("contenders", 1000, 10, ""), ("footprint", 100, 5, FEW)):
        command = commands.add_parser(name)
        command.add_argument("--source", type=Path, required=True, help="table of real articles")
        command.add_argument("--model", type=Path, default=Path("artifacts/model/best"))
        command.add_argument("--distilbert", action="store_true", help="its shape, random weights")
        command.add_argument("--articles", type=int, default=articles)
        command.add_argument("--rounds", type=int, default=rounds)
        command.add_argument("--only", default=only, help="contenders whose names this finds")
        command.add_argument("--name", default=f"speed-{name}", help="of the results")
    command = commands.choices["contenders"]
    command.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    command.add_argument("--bundle", type=Path, help="tuned; gives the thresholds of micro-F1")
    command = commands.add_parser("cost")
    command.add_argument("--source", type=Path, required=True, help="table of real articles")
    command.add_argument("--bundle", required=True, nargs="+", help="one or more")
    command.add_argument("--articles", type=int, default=64)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--records", type=int, default=PUBMED, help="size of the collection")
    command.add_argument("--name", default="speed-cost", help="of the results")
    command = commands.add_parser("service")
    command.add_argument("--source", type=Path, required=True, help="table of real articles")
    command.add_argument("--bundle", help="default: the tagger that ships")
    command.add_argument("--articles", type=int, default=200)
    command.add_argument("--clients", type=int, default=32)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--seconds", type=float, default=60.0, help="of a round, for each")
    command.add_argument("--name", default="speed-service", help="of the results")
    commands.add_parser("one").add_argument("arguments", nargs="+")  # a child of footprint
    return parser


def main() -> None:
    """Measure, keep the figures, and write the table."""
    options = _parser().parse_args()
    from bench.speed import cost, inference, service

    if options.command == "one":
        name, *paths = options.arguments
        figures = inference.one_footprint(name, [Path(path) for path in paths], STARTED)
        sys.stdout.write(f"\n{json.dumps(figures)}\n")
        return
    from bench import tables
    from bench.harness.store import save_raw

    measures = {
        "contenders": inference.contenders,
        "footprint": inference.footprint,
        "cost": cost.cost,
        "service": service.service,
    }
    save_raw(options.name, measures[options.command](options))
    sys.stdout.write(tables.write(options.name))


if __name__ == "__main__":
    main()
