"""The README quotes the benchmarks' own tables."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def rows(text):
    """The cells of every table row, titles and rules of tables included."""
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.splitlines()
        if line.startswith("|")
    ]


def quoted():
    """Rows of figures below the headings that quote measurements."""
    sections = re.split(r"^## ", README, flags=re.MULTILINE)
    measured = [s for s in sections if s.startswith(("What to expect", "How fast"))]
    assert len(measured) == 2
    return [row for text in measured for row in rows(text) if re.match(r"×?[\d.]", row[1])]


def shares(row, other):
    """Whether all figures of `row` stand together, in order, in `other`."""
    figures = row[1:]
    places = range(1, len(other) - len(figures) + 1)
    return any(other[place : place + len(figures)] == figures for place in places)


@pytest.fixture(scope="module")
def measured():
    """Every row of the benches' tables."""
    results = (REPOSITORY / "bench" / "results").glob("*.md")
    return [row for file in results for row in rows(file.read_text("utf-8"))]


@pytest.mark.parametrize("row", quoted(), ids=lambda row: row[0])
def test_figures_are_those_of_a_benchmark(row, measured):
    assert any(shares(row, other) for other in measured)
