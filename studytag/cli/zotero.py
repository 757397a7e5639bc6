"""`studytag zotero`: tag the articles of a Zotero library. Shows first, writes when told to."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from studytag.cli.options import add_predictor_arguments, load_predictor
from studytag.cli.terminal import show
from studytag.errors import InputError
from studytag.files import PREFIX
from studytag.inference.zotero import TagPlan, ZoteroError, apply_tags, connect, plan_tags

KEY_VARIABLE = "ZOTERO_API_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    library = parser.add_mutually_exclusive_group()
    library.add_argument("--user", metavar="ID", help="number of your user on zotero.org")
    library.add_argument("--group", metavar="ID", help="number of a group on zotero.org")
    parser.add_argument(
        "--local",
        action="store_true",
        help="the Zotero program on this computer (default: zotero.org)",
    )
    parser.add_argument("--collection", metavar="KEY", help="only this collection")
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"holds the API key (default: the variable {KEY_VARIABLE})",
    )
    parser.add_argument("--prefix", default=PREFIX, help="begins our tags")
    parser.add_argument("--api-url", metavar="URL", help="another server with Zotero's API")
    parser.add_argument("--apply", action="store_true", help="write the tags; else only show them")
    add_predictor_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Show what would change; with `--apply`, change it.

    Raises:
        StudytagError: an option or the bundle is wrong, or Zotero cannot be reached or refuses.
    """
    library = options.group or options.user or ("0" if options.local else None)
    if library is None:
        raise InputError("name the library: --user ID, --group ID, or --local for your own")
    client = connect(
        library,
        "group" if options.group else "user",
        api_key=_api_key(options.api_key_file),
        local=options.local,
        api_url=options.api_url,
    )
    with load_predictor(options) as predictor:
        plan = plan_tags(client, predictor, collection=options.collection, prefix=options.prefix)
    show(_readable(plan))
    if not options.apply:
        sys.stdout.write("Nothing was written; give --apply to write these tags.\n")
        return
    refused = apply_tags(client, plan.changes)
    sys.stdout.write(f"{len(plan.changes) - len(refused)} items written.\n")
    if refused:
        lines = "; ".join(f"{change.title}: {reason}" for change, reason in refused[:5])
        raise ZoteroError(f"Zotero refused {len(refused)} items ({lines}); run it again")


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(KEY_VARIABLE)
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read; give a text file with the API key") from error


def _readable(plan: TagPlan) -> str:
    lines = []
    for change in plan.changes:
        marks = [f"+ {tag}" for tag in change.added] + [f"- {tag}" for tag in change.removed]
        lines += [change.title, *(f"    {mark}" for mark in marks)]
    lines += [f"{name}: not tagged: {reason}" for name, reason in plan.untagged]
    lines.append(
        f"{len(plan.changes)} items change, {plan.unchanged} stay, "
        f"{len(plan.untagged)} cannot be tagged."
    )
    return "\n".join(lines) + "\n"
