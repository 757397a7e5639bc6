"""The data card: what a built table holds, counted while it is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from studytag.data.labelling import RuleSet
from studytag.data.splitting import SPLITS
from studytag.evaluation.tables import markdown_table
from studytag.records import Row


@dataclass
class Card:
    """Counts of a build.

    Attributes:
        rules: What made the labels.
        sources: Files read.
        read: Articles read.
        excluded: Reason to number of articles.
        corrected: Articles whose labels a person corrected.
        replaced: Label to articles that had it in their own column, which the rules pass over.
        rows: Split to number of articles.
        positive: (split, label) to articles with the label.
        known: (split, label) to articles of which it is known.
        years: (year, label) to articles with the label; label "" counts all articles.
        split: How the table was split, in a sentence.
        any_split: Whether a row brought a split of its own.
        any_year: Whether a row has a year.
    """

    rules: RuleSet
    sources: list[str]
    read: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    corrected: int = 0
    replaced: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    positive: Counter[tuple[str, str]] = field(default_factory=Counter)
    known: Counter[tuple[str, str]] = field(default_factory=Counter)
    years: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    split: str = ""
    any_split: bool = False
    any_year: bool = False

    @property
    def labels(self) -> list[str]:
        """In label order."""
        return list(self.rules.labels)

    def count(self, row: Row) -> None:
        """Count one article that is kept."""
        split, year = row["split"], row["year"]
        self.rows[split] += 1
        self.positive.update((split, label) for label in row["labels"])
        self.known.update((split, label) for label in row["known"])
        self.years.update((year, label) for label in ["", *row["labels"]])

    def reasons(self) -> str:
        """The exclusions in words."""
        return "; ".join(f"{reason}: {n}" for reason, n in self.excluded.most_common()) or "none"

    def replacements(self) -> str:
        """The labels that the rules passed over, in words."""
        return ", ".join(f"{label} {n}" for label, n in self.replaced.most_common()) or "none"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: the manifest beside the tables."""
        return {
            "labels": self.labels,
            "implications": {name: list(to) for name, to in self.rules.implications.items()},
            "rules": self.rules.name,
            "rules_version": self.rules.version,
            "split": self.split,
            "sources": self.sources,
            "read": self.read,
            "excluded": dict(self.excluded),
            "corrected": self.corrected,
            "replaced": dict(self.replaced),
            "rows": {split: self.rows[split] for split in SPLITS},
            "positive": self._by_split(self.positive),
            "known": self._by_split(self.known),
        }

    def _by_split(self, counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
        return {split: {label: counts[split, label] for label in self.labels} for split in SPLITS}

    def markdown(self) -> str:
        """The card to read."""
        years = sorted({year for year, _ in self.years}, key=lambda year: (year is None, year))
        lines = [
            "# Data card",
            "",
            f"- Sources: {', '.join(self.sources)}",
            f"- Label rules: `{self.rules.name}`, version {self.rules.version}",
            *[
                f"- Every {name} is also {' and '.join(implied)}"
                for name, implied in self.rules.implications.items()
            ],
            f"- Split: {self.split}",
            f"- Articles: {self.read} read, {sum(self.rows.values())} kept "
            f"({', '.join(f'{split} {self.rows[split]}' for split in SPLITS)})",
            f"- Excluded: {self.reasons()} (listed in `excluded.csv`)",
            f"- Corrected by hand: {self.corrected}",
            f"- Labels of the sources' own that the rules passed over: {self.replacements()}",
            "",
            "## Labels by split",
            "",
            "Positive / known articles; of the rest, presence or absence is unknown.",
            "",
            *markdown_table(
                ["Label", *SPLITS, "unknown"],
                [[label, *self._cells(label), str(self._unknown(label))] for label in self.labels],
            ),
            "",
            "## Labels by year",
            "",
            "Articles with the label.",
            "",
            *markdown_table(
                ["Year", "articles", *self.labels],
                [
                    ["missing" if year is None else str(year)]
                    + [str(self.years[year, label]) for label in ["", *self.labels]]
                    for year in years
                ],
            ),
            "",
        ]
        return "\n".join(lines)

    def _cells(self, label: str) -> list[str]:
        return [f"{self.positive[split, label]} / {self.known[split, label]}" for split in SPLITS]

    def _unknown(self, label: str) -> int:
        return sum(self.rows[split] - self.known[split, label] for split in SPLITS)
