"""Why a label: how its probability changes when a sentence is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from studytag.inference.predictor import Prediction

MAX_SENTENCES = 60
"""Sentences of an article that are left out one by one; the rest counts as one."""

_ABBREVIATIONS = ("e.g", "i.e", "vs", "cf", "al", "etc", "approx", "ca", "no", "Dr", "St", "Fig")
_END = re.compile(r"(?<=[.!?])[\"')\]]?\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATED = re.compile(rf"\b(?:{'|'.join(map(re.escape, _ABBREVIATIONS))}|[A-Z])\.$")
_LONGEST_ABBREVIATION = 1 + max(map(len, _ABBREVIATIONS))


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order; together they are all of it but white space."""
    sentences: list[str] = []
    start = 0
    for match in _END.finditer(text):
        # Not from the start of the sentence: one of many abbreviations would be read as often.
        near = max(start, match.start() - _LONGEST_ABBREVIATION)
        if _ABBREVIATED.search(text, near, match.start()):
            continue
        sentences.append(text[start : match.end()].strip())
        start = match.end()
    sentences.append(text[start:].strip())
    sentences = [sentence for sentence in sentences if sentence]
    head, rest = sentences[: MAX_SENTENCES - 1], sentences[MAX_SENTENCES - 1 :]
    return head + ([" ".join(rest)] if rest else [])


@dataclass(frozen=True)
class Parts:
    """The sentences of an article.

    Attributes:
        title: One sentence, if there is a title.
        abstract: Its sentences.
    """

    title: str
    abstract: list[str]

    @classmethod
    def of(cls, title: str | None, abstract: str | None) -> Parts:
        """Take an article apart."""
        return cls((title or "").strip(), split_sentences(abstract or ""))

    @property
    def sentences(self) -> list[str]:
        """All sentences, the title first."""
        return [self.title, *self.abstract] if self.title else list(self.abstract)

    def without_each(self) -> list[dict[str, str]]:
        """The article without each sentence in turn; empty where it has only one."""
        if len(self.sentences) < 2:
            return []
        articles = []
        if self.title:
            articles.append({"title": "", "abstract": " ".join(self.abstract)})
        for index in range(len(self.abstract)):
            rest = self.abstract[:index] + self.abstract[index + 1 :]
            articles.append({"title": self.title, "abstract": " ".join(rest)})
        return articles


def contributions(whole: Prediction, without: Prediction) -> dict[str, float]:
    """For each label, the probability with a sentence minus that without it."""
    return {
        label: probability - without.probabilities[label]
        for label, probability in whole.probabilities.items()
    }
