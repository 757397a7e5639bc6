"""How fast is it? Measured beside what a user would pick instead.

    python -m bench.speed contenders --source articles.parquet --model artifacts/model/best
    python -m bench.speed footprint --source articles.parquet --model artifacts/model/best
    python -m bench.speed files --source articles.parquet --model artifacts/model/best
    python -m bench.speed training --table data/processed/train.parquet
    python -m bench.speed scale --table data/processed/train.parquet

`contenders` measures documents a second beside optimum, OpenVINO, CTranslate2 and transformers'
pipeline; of labelled articles and with `--bundle`, the tuned bundle of the same model, also
micro-F1, and draws a picture. `footprint` measures cold start, the latency of single articles and
memory; `files` the formats beside the model, and memory over the number of records; `training`
steps beside transformers' Trainer; `scale` start-up and memory over the size of the table.
`--distilbert` takes DistilBERT's shape with random weights. Contenders take turns, because the
speed of shared machines drifts: compare figures within a table, not across tables.
"""

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, counts: list[int] | None = None) -> argparse.ArgumentParser:
        added = commands.add_parser(name)
        added.add_argument("--name", help="of the table")
        if counts is not None:
            added.add_argument("--counts", type=int, nargs="+", default=counts)
        return added

    for name, articles, rounds in (("contenders", 1000, 10), ("footprint", 100, 5)):
        added = command(name)
        _add_model_options(added, articles)
        added.add_argument("--rounds", type=int, default=rounds)
        added.add_argument("--only", default="", help="contenders whose names this finds")
        added.add_argument("--distilbert", action="store_true", help="its shape, random weights")
    added = commands.choices["contenders"]
    added.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    added.add_argument("--bundle", type=Path, help="tuned; gives the thresholds of micro-F1")
    _add_model_options(command("files", [10_000, 1_000_000]), 8000)
    for name in ("training", "scale"):
        added = command(name, [10_000, 30_000, 300_000] if name == "scale" else None)
        added.add_argument("--table", type=Path, required=True, help="labelled, to train on")
        added.add_argument("--config", default="minilm", help="of the training")
    added = commands.choices["training"]
    added.add_argument("--validation", type=Path, help="labelled, to score the trained models on")
    added.add_argument("--steps", type=int, default=20, help="of 8 articles, in an epoch")
    added.add_argument("--epochs", type=int, default=1)
    added.add_argument("--rounds", type=int, default=3)
    added.add_argument("--only", nargs="+", type=int, default=[*range(5)], help="by number from 0")
    for name in ("one-footprint", "one-file", "one-training", "one-step"):
        commands.add_parser(name).add_argument("arguments", nargs="+")  # the children's
    return parser


def _add_model_options(parser: argparse.ArgumentParser, articles: int) -> None:
    parser.add_argument("--source", type=Path, required=True, help="table of real articles")
    parser.add_argument("--model", type=Path, default=Path("artifacts/model/best"))
    parser.add_argument("--articles", type=int, default=articles)


def _run_child(command: str, arguments: list[str]) -> str:
    """What a process of its own measures, as JSON; it imports no more than it needs."""
    if command == "one-footprint":
        from bench.speed import inference

        name, *paths = arguments
        return json.dumps(inference.one_footprint(name, [Path(path) for path in paths], STARTED))
    if command == "one-file":
        from bench.speed import files

        return json.dumps(files.one_file(*(Path(path) for path in arguments)))
    from bench.speed import training

    child = training.one_training if command == "one-training" else training.one_step
    return json.dumps(child(json.loads(arguments[0])))


def main() -> None:
    """Measure, keep the figures, and write the table."""
    options = _parser().parse_args()
    if options.command.startswith("one-"):
        sys.stdout.write("\n" + _run_child(options.command, options.arguments) + "\n")
        return
    from bench import tables
    from bench.speed import files, inference, training

    measures = {
        "contenders": inference.contenders,
        "footprint": inference.footprint,
        "files": files.files,
        "training": training.training,
        "scale": training.scale,
    }
    raw = measures[options.command](options)
    raw.save()
    sys.stdout.write(tables.write(raw.name))


if __name__ == "__main__":
    main()
