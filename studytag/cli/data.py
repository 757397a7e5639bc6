"""`studytag data build`, `fetch`, `audit` and `demo`: the commands about tables of articles."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from studytag.cli.options import HelpFormatter
from studytag.cli.terminal import show
from studytag.data.splitting import WAYS, Splitter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands and their arguments."""
    commands = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    for name, text, fill in (
        ("build", "label, deduplicate and split raw files into tables", _build_arguments),
        ("fetch", "download articles from PubMed", _fetch_arguments),
        ("audit", "list labels that may be wrong", _audit_arguments),
        ("demo", "write made-up articles to try studytag with", _demo_arguments),
    ):
        command = commands.add_parser(name, help=text, formatter_class=HelpFormatter)
        fill(command)


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        help="PubMed XML, .nbib, parquet, CSV, TSV, JSONL or RIS (.gz too), or folders of them",
    )
    parser.add_argument("--output", type=Path, default=Path("data/processed"), help="folder")
    parser.add_argument("--rules", default="strict", help="strict, reference, or a YAML file")
    parser.add_argument("--split-by", choices=WAYS, default="auto", help="what splits the table")
    parser.add_argument(
        "--train-until", type=int, default=Splitter.train_until, help="last year of training"
    )
    parser.add_argument(
        "--val-until", type=int, default=Splitter.val_until, help="last year of validation"
    )
    parser.add_argument("--corrections", type=Path, help="the audit's table, with decisions")
    parser.set_defaults(run=_build)


def _build(options: argparse.Namespace) -> None:
    from studytag.data.build import build
    from studytag.data.rule_file import load_rules

    card = build(
        options.sources,
        options.output,
        load_rules(options.rules),
        options.split_by,
        options.train_until,
        options.val_until,
        options.corrections,
    )
    show(card.markdown())
    sys.stdout.write(f"Written to {options.output}\n")


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--query", required=True, help="as typed into PubMed's search box")
    parser.add_argument("--from", dest="first_year", type=int, help="first year of publication")
    parser.add_argument("--to", dest="last_year", type=int, help="last year of publication")
    parser.add_argument("--output", type=Path, default=Path("data/raw"), help="folder of XML pages")
    parser.add_argument("--email", help="NCBI asks for one; else the variable NCBI_EMAIL")
    parser.add_argument("--api-key", help="allows 10 requests a second; else NCBI_API_KEY")
    parser.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> None:
    from studytag.data.fetch import fetch

    summary = fetch(
        options.query,
        options.output,
        first_year=options.first_year,
        last_year=options.last_year,
        email=options.email,
        api_key=options.api_key,
    )
    sys.stdout.write(
        f"{summary.records} records in {summary.pages} pages ({summary.skipped_pages} were there "
        f"already): {summary.folder}\nNext: studytag data build {summary.folder}\n"
    )


def _audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("data/processed"), help="what build wrote"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("data/review.csv"), help="table to fill"
    )
    parser.add_argument("--rules", default="reference", help="rule set to compare the labels with")
    parser.add_argument("--limit", type=int, default=200, help="most rows a reason and label")
    parser.add_argument(
        "--group", help="column whose articles are predicted together; else source where there"
    )
    parser.set_defaults(run=_audit)


def _audit(options: argparse.Namespace) -> None:
    from studytag.data.audit import audit
    from studytag.data.rule_file import load_rules

    counts = audit(
        options.folder, options.output, load_rules(options.rules), options.limit, options.group
    )
    found = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    sys.stdout.write(
        f"Suspicious: {found}. Fill in the column decision (yes, no, unknown) of {options.output}, "
        "then: studytag data build SOURCE ... --corrections "
        f"{options.output}\n"
    )


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, default=Path("data/demo.jsonl"), help="file of any format to write"
    )
    parser.add_argument("--articles", type=int, default=3000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other articles")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from studytag.data.demo import demo_rows
    from studytag.files import open_writer

    with open_writer(options.output) as writer:
        for row in demo_rows(options.articles, options.seed):
            writer.write(row)
    sys.stdout.write(f"{options.articles} made-up articles: {options.output}\n")
