"""The embedded demo corpus: invented articles to try every stage on, with no network and no rights.

Every article is composed by this package from its own vocabulary (`demo_corpus/`). Nothing in it is
a finding: do not cite it, and do not judge a model's real quality by it. What it does keep of the
real task is the difficulty: designs are paraphrased, other designs are mentioned in passing,
labels co-occur and are unbalanced, and the indexing from which labels are derived has gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

from studytag.data.demo_corpus.articles import Article, compose, kinds
from studytag.data.demo_corpus.grammar import load
from studytag.errors import InputError
from studytag.records import Row

YEARS = range(2016, 2026)
"""Drawn evenly: 60 % fall before 2022, 20 % in 2022 and 2023, 20 % later."""

# Share of articles that MEDLINE has not indexed (yet): about a quarter of the recent ones.
_UNINDEXED = {2021: 0.05, 2022: 0.12, 2023: 0.25, 2024: 0.25, 2025: 0.27}
# Publication types that publishers supply themselves, with the chance that they do.
_SUPPLIED = {
    "Review": 0.9,
    "Case Reports": 0.85,
    "Systematic Review": 0.75,
    "Scoping Review": 0.5,
    "Meta-Analysis": 0.65,
    "Randomized Controlled Trial": 0.5,
    "Clinical Trial": 0.4,
    "Clinical Trial Protocol": 0.8,
    "Editorial": 0.9,
    "Letter": 0.9,
    "Comment": 0.8,
}
# Indexing mistakes that can befall any article.
_STRAY_TYPES = {
    "Randomized Controlled Trial": 0.003,
    "Clinical Trial": 0.003,
    "Case Reports": 0.003,
    "Systematic Review": 0.002,
    "Observational Study": 0.004,
}
_STRAY_HEADINGS = {
    "Humans": 0.02,
    "Animals": 0.006,
    "Retrospective Studies": 0.006,
    "Case-Control Studies": 0.003,
}


def demo_rows(n: int = 3000, seed: int = 0) -> Iterator[Row]:
    """Invented articles in the columns of `studytag.records`, but for labels, known and split.

    The same `n` and `seed` give the same rows in every process and on every Python; a smaller `n`
    gives the first rows of a larger one. No two rows share a title.

    Raises:
        InputError: `n` is negative.
    """
    if n < 0:
        raise InputError(f"n is {n}; ask for 0 or more demo rows")
    titles: set[str] = set()
    for index in range(n):
        attempt = 0
        while (row := _row(Random(f"{seed}-{index}-{attempt}"), index))["title"] in titles:
            attempt += 1
        titles.add(row["title"])
        yield row


def _row(rng: Random, index: int) -> Row:
    names = list(kinds())
    name = rng.choices(names, [kinds()[each]["weight"] for each in names])[0]
    year = rng.choice(YEARS)
    article = compose(rng, name, year)
    pub_types = _drawn(rng, kinds()[name]["pub_types"]) + _drawn(rng, _STRAY_TYPES)
    headings = _headings(rng, name, article)
    if rng.random() < _UNINDEXED.get(year, 0.02):
        pub_types = [each for each in pub_types if rng.random() < _SUPPLIED.get(each, 0.0)]
        headings = []
    elif rng.random() < _comparative(year) and "versus" in article.title:
        pub_types.append("Comparative Study")
    return {
        "pmid": f"demo-{index:06d}",
        "title": article.title,
        "abstract": article.abstract,
        "year": year,
        "journal": rng.choice(load("shared")["journal"]),
        "pub_types": list(dict.fromkeys(["Journal Article", *pub_types])),
        "mesh_terms": headings,
    }


def _headings(rng: Random, name: str, article: Article) -> list[str]:
    """Subject headings, design headings and check tags of an indexed article."""
    headings = [*article.subjects, *_drawn(rng, kinds()[name]["mesh"])]
    headings += _drawn(rng, _STRAY_HEADINGS)
    if "Humans" in headings and rng.random() < 0.7:
        headings += rng.sample(load("shared")["check_tags"], rng.randint(1, 4))
    return list(dict.fromkeys(headings))


def _comparative(year: int) -> float:
    """Automatic indexing assigns Comparative Study far more often since 2024."""
    return 0.6 if year >= 2024 else 0.15


def _drawn(rng: Random, chances: Mapping[str, float]) -> list[str]:
    return [name for name, chance in chances.items() if rng.random() < chance]
