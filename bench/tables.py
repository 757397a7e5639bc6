"""Render every table of bench/results from what is kept beside it.

python -m bench.tables            # write them (make tables)
python -m bench.tables --check    # only say which are out of date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.harness.store import RAW, RESULTS, load_raw
from bench.quality.tables import quality
from bench.speed import picture
from bench.speed import tables as speed
from studytag.evaluation.tables import markdown_table
from studytag.files import write_text_atomically


def figures(raw: dict[str, Any]) -> list[str]:
    """A settled experiment: only its figures are kept, and how to write them.

    `columns` holds title and format of each; a cell is text, a number, or a list of numbers. `then`
    holds further tables, `runs` what was measured.
    """

    def cell(value: Any, template: str) -> str:
        if isinstance(value, str):
            return value
        return template.format(*(value if isinstance(value, list) else [value]))

    lines = [raw["caption"]]
    for table in (raw, *raw.get("then", ())):
        titles, templates = zip(*table["columns"], strict=True)
        rows = [
            [cell(value, template) for value, template in zip(row, templates, strict=True)]
            for row in table["rows"]
        ]
        lines += ["", *markdown_table(titles, rows)]
    return lines


RENDERERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "contenders": speed.contenders,
    "cost": speed.cost,
    "figures": figures,
    "footprint": speed.footprint,
    "quality": quality,
}
"""By the `kind` of a raw file."""


def render(name: str) -> str:
    """One table, from `results/raw/NAME.json` and the predictions that it names.

    Raises:
        InputError: there is no such file.
    """
    content = load_raw(name)
    return "\n".join(RENDERERS[content["kind"]](content)) + "\n"


def names() -> list[str]:
    """Of all tables."""
    return sorted(path.stem for path in RAW.glob("*.json"))


def path_of(name: str) -> Path:
    """Where a table is written."""
    return RESULTS / f"{name}.md"


def write(name: str) -> str:
    """Render a table and write it; its text."""
    text = render(name)
    write_text_atomically(path_of(name), text)
    content = load_raw(name)
    if "micro_f1" in content:
        picture.draw(content, picture_of(name))
    return text


def picture_of(name: str) -> Path:
    """Where the picture of a table with F1 and speed is drawn."""
    return RESULTS / f"{name}.svg"


def out_of_date(name: str) -> bool:
    """Whether the table on disk, or its picture, was made from something else than is kept.

    A picture's bytes depend on the version of matplotlib; what it shows is known by a digest.
    """
    path, content = path_of(name), load_raw(name)
    if not path.is_file() or path.read_bytes() != render(name).encode():
        return True
    if "micro_f1" not in content:
        return False
    drawn = picture_of(name)
    return not drawn.is_file() or picture.digest(content) not in drawn.read_text(encoding="utf-8")


def main() -> None:
    """Write all tables, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one is old")
    options = parser.parse_args()
    for name in names():
        if not options.check:
            write(name)
        elif out_of_date(name):
            sys.exit(f"{path_of(name)} is out of date; run: make tables")


if __name__ == "__main__":
    main()
