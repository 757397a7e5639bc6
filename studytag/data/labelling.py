"""Rule sets: which publication types, MeSH headings and phrases make a label of an article.

An article's labels are made in two steps. `RuleSet.direct` looks at the evidence for each label by
itself: present, absent, or unknown. `RuleSet.close` then makes the labels agree with each other
where one implies another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from studytag.errors import InputError
from studytag.labels import LabelSet, contradiction, implied_labels
from studytag.records import Row, TextRecipe, clean

_SECONDS = 2
_LONGEST_TEXT = 2**17


@dataclass(frozen=True)
class Article:
    """What rules look at in one row of a table.

    Attributes:
        pub_types: Lower case.
        mesh_terms: Lower case, with headings that were split at their commas put together again.
        title: As in the table, white space cleaned.
        text: Title and abstract.
        year: Of publication; None if missing.
    """

    pub_types: frozenset[str]
    mesh_terms: frozenset[str]
    title: str
    text: str
    year: int | None

    @classmethod
    def of(cls, row: Row) -> Article:
        """Read the columns of a row."""
        year = row.get("year")
        return cls(
            pub_types=frozenset(clean(term).lower() for term in row.get("pub_types") or ()),
            mesh_terms=_headings(row.get("mesh_terms") or ()),
            title=clean(row.get("title")),
            text=TextRecipe(max_chars=_LONGEST_TEXT).compose(row.get("title"), row.get("abstract")),
            year=None if year is None else int(year),
        )


@dataclass(frozen=True)
class Pattern:
    """A regular expression that gives up rather than search for ever.

    Rule files are written by people, and `(a+)+$` would take longer than the universe on thirty
    letters. Lookarounds are in use, so that an engine in linear time (RE2) is none for them.

    Attributes:
        expression: A compiled pattern of the package `regex`.
    """

    expression: Any

    def matches(self, text: str) -> bool:
        """Whether it matches anywhere in the text.

        Raises:
            InputError: it takes more than two seconds of processor time.
        """
        try:
            return self.expression.search(text, timeout=_SECONDS) is not None
        except TimeoutError as error:
            raise InputError(
                f"pattern {self.expression.pattern!r:.60} takes more than {_SECONDS} s for a text "
                f"of {len(text)} characters; write it without repetitions inside repetitions"
            ) from error


@dataclass(frozen=True)
class Evidence:
    """Terms and phrases of which each one suffices.

    Attributes:
        pub_types: Publication types, lower case.
        mesh_terms: MeSH headings, lower case.
        patterns: Match anywhere in title and abstract.
        title_patterns: Match anywhere in the title.
    """

    pub_types: frozenset[str] = frozenset()
    mesh_terms: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    title_patterns: tuple[Pattern, ...] = ()

    def indexed(self, article: Article) -> bool:
        """Whether the article has one of the types or headings."""
        return bool(self.pub_types & article.pub_types or self.mesh_terms & article.mesh_terms)

    def written(self, article: Article) -> bool:
        """Whether one of the patterns matches."""
        return any(pattern.matches(article.title) for pattern in self.title_patterns) or any(
            pattern.matches(article.text) for pattern in self.patterns
        )

    def __bool__(self) -> bool:
        return any((self.pub_types, self.mesh_terms, self.patterns, self.title_patterns))


@dataclass(frozen=True)
class Doubt:
    """A circumstance in which the rule's answer is taken for unknown.

    It holds when *every* part that is given does; within a part, one of the list suffices.

    Attributes:
        parts: The given keys, each as evidence of one kind.
        until: Holds up to this year of publication, and where the year is missing; None: always.
    """

    parts: tuple[Evidence, ...] = ()
    until: int | None = None

    def holds(self, article: Article) -> bool:
        """Whether it holds for the article."""
        if self.until is not None and article.year is not None and article.year > self.until:
            return False
        return all(part.indexed(article) or part.written(article) for part in self.parts)


@dataclass(frozen=True)
class Rule:
    """How one label is decided; without any evidence it is left to the table's own columns.

    Attributes:
        evidence: Each piece suffices for presence.
        absence_needs: Columns that must be filled in before missing evidence means absence.
        implies: Labels that an article with this one has too.
        doubted_by: What makes unknown of an `absence`; of a presence by `pattern` alone; of any
            `presence`.
    """

    evidence: Evidence = Evidence()
    absence_needs: tuple[str, ...] = ()
    implies: tuple[str, ...] = ()
    doubted_by: Mapping[str, tuple[Doubt, ...]] = field(default_factory=dict)

    @property
    def from_table(self) -> bool:
        """Whether the label is read from the table's `labels` and `known` columns."""
        return not self.evidence

    def decide(self, article: Article, row: Row) -> bool | None:
        """Whether an article has the label; None if that is unknown."""
        if self.evidence.indexed(article):
            return None if self._doubted("presence", article) else True
        if self.evidence.written(article):
            doubted = self._doubted("pattern", article) or self._doubted("presence", article)
            return None if doubted else True
        if all(row.get(column) for column in self.absence_needs):
            return None if self._doubted("absence", article) else False
        return None

    def _doubted(self, answer: str, article: Article) -> bool:
        return any(doubt.holds(article) for doubt in self.doubted_by.get(answer, ()))


@dataclass(frozen=True)
class RuleSet:
    """The rules of every label, in label order.

    Attributes:
        name: `strict`, `reference`, or the file's own.
        rules: Label to rule.
        keep_unlabelled: Whether articles without any label stay in the table.
        version: Raised when the labels that it makes change; in the data card and the manifest.
    """

    name: str
    rules: Mapping[str, Rule]
    keep_unlabelled: bool = True
    version: int = 1

    @property
    def labels(self) -> LabelSet:
        """The label set that these rules speak of, with its implications."""
        return LabelSet(tuple(self.rules), self.implications)

    @property
    def implications(self) -> dict[str, tuple[str, ...]]:
        """Label to the labels that it directly implies; only labels that imply one."""
        return {name: rule.implies for name, rule in self.rules.items() if rule.implies}

    @cached_property
    def implied_by(self) -> Mapping[str, frozenset[str]]:
        """Label to all labels that imply it, directly or through others."""
        return {
            name: frozenset(other for other, names in self._implied.items() if name in names)
            for name in self.rules
        }

    @cached_property
    def _implied(self) -> Mapping[str, frozenset[str]]:
        """Label to all labels that it implies, directly or through others."""
        implications = self.implications
        return {name: frozenset(implied_labels(implications, name)) for name in self.rules}

    def replaced(self, row: Row) -> list[str]:
        """The labels in the row's own column `labels` that count for nothing.

        Rules decide them, or the rule set does not have them.
        """
        kept = {name for name, rule in self.rules.items() if rule.from_table}
        return [name for name in row.get("labels") or () if name not in kept]

    def apply(self, row: Row) -> tuple[list[str], list[str]]:
        """The labels of one row and the labels whose presence or absence is known.

        Raises:
            InputError: the row's own `labels` or `known` hold a label outside this rule set, or
                `labels` one that `known` lacks.
        """
        return self.close(*self.direct(row))

    def direct(self, row: Row) -> tuple[list[str], list[str]]:
        """As `apply`, but every label by its own evidence, before implications.

        Raises:
            InputError: as `apply`.
        """
        article = Article.of(row)
        own = self._own(row, "labels")
        own_known = self._own(row, "known")
        if own_known is None:  # a row that nobody labelled says nothing
            own_known = frozenset() if own is None else frozenset(self.rules)
        stated = own_known & (own or frozenset())
        own_known = own_known.union(*(self._implied[name] for name in stated))
        labels, known = [], []
        for name, rule in self.rules.items():
            if rule.from_table:
                present = own is not None and name in own
                certain = name in own_known
                if present and not certain:
                    raise contradiction(name)
            else:
                answer = rule.decide(article, row)
                present, certain = answer is True, answer is not None
            labels += [name] * present
            known += [name] * certain
        return labels, known

    def close(self, labels: Iterable[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
        """Labels and known labels that agree with the implications, in label order.

        What implies what is used in three ways, where A implies B:

        - A is present: so is B, whatever B's own evidence.
        - B was *stated* absent (a label that is read from the table): A is absent, if unknown.
        - B's absence was only concluded from missing evidence, and A is unknown: B is unknown too.
          What lets one doubt the absence of a randomised trial lets one doubt the absence of a
          trial, so A is not made absent by such a B.
        """
        present, certain = set(labels), set(known)
        for name in tuple(present):
            present |= self._implied[name]
        certain |= present
        for name, rule in self.rules.items():
            if name in certain - present and rule.from_table:
                certain |= self.implied_by[name]
        for name, lower in self.implied_by.items():
            if name not in present and not lower <= certain:
                certain.discard(name)
        return [n for n in self.rules if n in present], [n for n in self.rules if n in certain]

    def _own(self, row: Row, column: str) -> frozenset[str] | None:
        """The row's own list in `column`, checked; None where the table has no such list."""
        if row.get(column) is None or not any(rule.from_table for rule in self.rules.values()):
            return None
        own = frozenset(row[column])
        if unknown := own - set(self.rules):
            raise InputError(
                f"column {column!r}: unknown label {sorted(unknown)[0]!r}; "
                f"the labels are {', '.join(self.rules)}"
            )
        return own


def _headings(terms: Sequence[str]) -> frozenset[str]:
    """MeSH headings in lower case, with those that were split at their commas put together again.

    Some exports join headings with commas, so "Cells, Cultured" arrives as two neighbours.
    """
    cleaned = [clean(term).lower() for term in terms]
    joined = {", ".join(cleaned[i : i + n]) for n in (2, 3) for i in range(len(cleaned) - n + 1)}
    return frozenset(joined.union(cleaned))
