"""How well scores hold: by year, by source, by text length, and without the words of a topic.

A tagger can lean on topics, because within one source a topic often gives the design away. Words of
a topic are rare over a table of many topics, while the words of a design are common; so leaving out
rare words shows how much a score owes to topics. Masking topics to measure this follows
arXiv:2605.11502.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studytag.evaluation.metrics import score
from studytag.evaluation.scores import Scores
from studytag.evaluation.tables import markdown_table, number
from studytag.labels import LabelSet

TOPIC_SHARE = 0.02
"""A word is of a topic if less than this share of the articles has it."""

LENGTHS = (50, 100, 150, 200, 250, 300, 400)
"""Bounds between the classes of text length, in words."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Of the articles of one year, one source or one class of length."""

    articles: int
    micro_f1: float
    macro_f1: float


@dataclass(frozen=True)
class Robustness:
    """What `studytag evaluate --robustness` adds.

    Attributes:
        sources: By source.
        lengths: By class of text length in words, such as `100-149`.
        without_topic_words: Scores where words that less than `TOPIC_SHARE` of the articles have
            are left out of the texts.
    """

    sources: dict[str, GroupScores]
    lengths: dict[str, GroupScores]
    without_topic_words: Scores

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    def markdown(self, scores: Scores) -> list[str]:
        """The lines of three tables.

        Args:
            scores: Of the same articles with their whole texts.
        """
        masked = self.without_topic_words
        pairs = [(name, of.f1, masked.labels[name].f1) for name, of in scores.labels.items()]
        pairs.append(("**micro**", scores.micro.f1, masked.micro.f1))
        pairs.append(("**macro**", scores.macro.f1, masked.macro.f1))
        header = [f"Words in < {TOPIC_SHARE:.0%} of articles left out", "F1", "F1 without", "Drop"]
        rows = (
            [name, number(whole), number(part), number(whole - part)] for name, whole, part in pairs
        )
        lines = markdown_table(header, rows)
        for title, groups in (("Words in the text", self.lengths), ("Source", self.sources)):
            lines += ["", *groups_table(title, groups)] if groups else []
        return lines


def groups_table(title: str, groups: dict[Any, GroupScores]) -> list[str]:
    """The lines of a table with a row for each group."""
    rows = (
        [str(name), str(of.articles), number(of.micro_f1), number(of.macro_f1)]
        for name, of in groups.items()
    )
    return markdown_table([title, "Articles", "micro-F1", "macro-F1"], rows)


def score_groups(
    labels: LabelSet,
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    thresholds: Sequence[float],
    groups: NDArray[Any],
) -> dict[Any, GroupScores]:
    """Score the articles of each group by themselves, in the order of the groups' names.

    Args:
        labels: The columns.
        truth: Shape (n, labels).
        known: Shape (n, labels).
        probabilities: Shape (n, labels).
        thresholds: One per label.
        groups: Shape (n,). Articles of the group 0 or "" belong to none.
    """
    scored = {}
    names, numbers = np.unique(groups, return_inverse=True)
    by_group = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers))
    for name, rows in zip(names.tolist(), np.split(by_group, ends[:-1]), strict=True):
        if name:
            scores = score(labels, truth[rows], known[rows], probabilities[rows], thresholds)
            scored[name] = GroupScores(len(rows), scores.micro.f1, scores.macro.f1)
    return scored


def length_classes(texts: Iterable[str]) -> NDArray[np.intp]:
    """The class of each text by its number of words, shape (n,), from 1; see `length_name`."""
    bounds = (0, *LENGTHS)
    return np.searchsorted(bounds, [len(text.split()) for text in texts], side="right")


def length_name(index: int) -> str:
    """The name of a class of length, numbered from 1: `0-49`, `50-99`, ..., `400+`."""
    low, *high = (0, *LENGTHS)[index - 1 : index + 1]
    return f"{low}-{high[0] - 1}" if high else f"{low}+"


def without_topic_words(texts: Sequence[str], share: float = TOPIC_SHARE) -> list[str]:
    """The texts without the words that less than `share` of them have; case does not matter.

    A word that a single text has is left out also of so few that one is as much as `share`. A text
    of which nothing is left stays as it is.
    """
    having = Counter(word for text in texts for word in set(_WORD.findall(text.lower())))
    needed = max(share * len(texts), 2)

    def kept(match: re.Match[str]) -> str:
        return match[0] if having[match[0].lower()] >= needed else ""

    reduced = (" ".join(_WORD.sub(kept, text).split()) for text in texts)
    return [part if _WORD.search(part) else text for part, text in zip(reduced, texts, strict=True)]
