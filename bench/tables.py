"""Render every table of bench/results from what is kept beside it.

python -m bench.tables    # make tables
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.harness.store import RAW, RESULTS, load_raw
from bench.quality.tables import quality
from bench.speed import tables as speed
from bench.speed import training_table
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
    "runs": speed.runs,
    "training": training_table.training,
}
"""By the `kind` of a raw file."""


def render(name: str) -> str:
    """One table, from `results/raw/NAME.json` and the predictions that it names."""
    content = load_raw(name)
    return "\n".join(RENDERERS[content["kind"]](content)) + "\n"


def names() -> list[str]:
    """Of all tables."""
    return sorted(path.stem for path in RAW.glob("*.json"))


def write(name: str) -> str:
    """Render a table and its picture, and write them; the table's text."""
    text, content = render(name), load_raw(name)
    write_text_atomically(RESULTS / f"{name}.md", text)
    if "micro_f1" in content:
        speed.draw(content, RESULTS / f"{name}.svg")
    return text


def out_of_date(name: str) -> bool:
    """Whether the table on disk was made from something else than is kept, or has no picture."""
    path = RESULTS / f"{name}.md"
    drawn = path.with_suffix(".svg").is_file() or "micro_f1" not in load_raw(name)
    return not (drawn and path.is_file() and path.read_bytes() == render(name).encode())


if __name__ == "__main__":
    for table in names():
        write(table)
