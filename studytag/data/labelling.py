"""Rule sets: which publication types, MeSH headings and phrases make a label of an article.

A rule set is a YAML file (see `studytag/data/rules/`), so another field can bring its own labels.

An article's labels are made in two steps. `RuleSet.direct` looks at the evidence for each label by
itself: present, absent, or unknown. `RuleSet.close` then makes the labels agree with each other
where one implies another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from studytag.documents import read_yaml
from studytag.errors import InputError, import_extra
from studytag.labels import LabelSet, implied_labels
from studytag.records import Row, TextRecipe, clean

RULES_FOLDER = Path(__file__).parent / "rules"
_EVIDENCE_KEYS = {"pub_types", "mesh_terms", "patterns", "title_patterns"}
_RULE_KEYS = _EVIDENCE_KEYS | {"absence_needs", "implies", "doubted_by"}
_DOUBT_KEYS = _EVIDENCE_KEYS | {"until"}
_DOUBTED = ("absence", "pattern", "presence")
_SET_KEYS = {"name", "version", "keep_unlabelled", "labels"}
_SECONDS = 2
_LONGEST_TEXT = 2**17
_ABSENCE_COLUMNS = {"pub_types", "mesh_terms", "abstract"}


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
        patterns: Matches anywhere in title and abstract, or None.
        title_patterns: Matches anywhere in the title, or None.
    """

    pub_types: frozenset[str] = frozenset()
    mesh_terms: frozenset[str] = frozenset()
    patterns: Pattern | None = None
    title_patterns: Pattern | None = None

    def indexed(self, article: Article) -> bool:
        """Whether the article has one of the types or headings."""
        return bool(self.pub_types & article.pub_types or self.mesh_terms & article.mesh_terms)

    def written(self, article: Article) -> bool:
        """Whether one of the patterns matches."""
        return bool(
            (self.title_patterns and self.title_patterns.matches(article.title))
            or (self.patterns and self.patterns.matches(article.text))
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

    def apply(self, row: Row) -> tuple[list[str], list[str]]:
        """The labels of one row and the labels whose presence or absence is known.

        Raises:
            InputError: the row's own `labels` or `known` hold a label outside this rule set.
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
        labels, known = [], []
        for name, rule in self.rules.items():
            if rule.from_table:
                present = own is not None and name in own
                certain = present or name in own_known
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


def load_rules(name_or_path: str | Path) -> RuleSet:
    """Read a rule set: `strict`, `reference`, or the path of a YAML file.

    Raises:
        InputError: no such rule set, or the file is not one; names the file, label and key.
    """
    shipped = RULES_FOLDER / f"{name_or_path}.yaml"
    path = shipped if shipped.exists() else Path(name_or_path)
    names = ", ".join(sorted(file.stem for file in RULES_FOLDER.glob("*.yaml")))
    if not path.is_file():
        raise InputError(f"no rule set {str(name_or_path)!r}; give one of {names}, or a YAML file")
    stored = read_yaml(path, f"write a rule set, or give one of {names}")
    labels = stored.get("labels")
    if not labels or not isinstance(labels, dict):
        raise InputError(f"{path}: a rule set needs a mapping 'labels' of label names to rules")
    if extra := stored.keys() - _SET_KEYS:
        raise InputError(f"{path}: unknown key {min(map(str, extra))!r} in the rule set")
    keep_unlabelled = stored.get("keep_unlabelled", True)
    if not isinstance(keep_unlabelled, bool):
        raise InputError(f"{path}: keep_unlabelled must be true or false")
    version = stored.get("version", 1)
    if not _whole(version) or version < 1:
        raise InputError(f"{path}: version must be a whole number from 1 on, not {version!r}")
    rules = {name: _rule(path, name, rule or {}) for name, rule in labels.items()}
    rule_set = RuleSet(str(stored.get("name", path.stem)), rules, keep_unlabelled, version)
    _check_implications(path, rule_set)
    return rule_set


def _check_implications(path: Path, rules: RuleSet) -> None:
    for name, implied in rules.implications.items():
        if unknown := set(implied) - set(rules.rules):
            raise InputError(
                f"{path}: label {name!r}: implies {min(unknown)!r}, which is none of the labels "
                f"{', '.join(rules.rules)}"
            )
    for name, lower in rules.implied_by.items():
        if name in lower:
            raise InputError(f"{path}: label {name!r} implies itself; give one direction only")


def _rule(path: Path, label: Any, stored: Any) -> Rule:
    """One label's entry of the YAML file, checked."""
    if not isinstance(label, str) or not label:  # YAML reads No as false, 2024 as a number
        raise InputError(f"{path}: label {label!r} is not text; put it in quotes")
    where = f"{path}: label {label!r}"
    if not isinstance(stored, dict) or stored.keys() - _RULE_KEYS:
        raise InputError(f"{where}: a rule has the keys {sorted(_RULE_KEYS)}")
    _check_lists(where, {key: value for key, value in stored.items() if key != "doubted_by"})
    if unknown := set(stored.get("absence_needs", [])) - _ABSENCE_COLUMNS:
        raise InputError(f"{where}: absence_needs names {sorted(unknown)[0]!r}")
    evidence = _evidence(where, stored)
    doubts = stored.get("doubted_by", {})
    if not isinstance(doubts, dict) or doubts.keys() - set(_DOUBTED):
        raise InputError(f"{where}: doubted_by has the keys {list(_DOUBTED)}")
    if doubts and not evidence:
        raise InputError(f"{where}: doubted_by needs evidence that it can doubt")
    return Rule(
        evidence=evidence,
        absence_needs=tuple(stored.get("absence_needs", [])),
        implies=tuple(stored.get("implies", [])),
        doubted_by={key: _doubts(f"{where}: doubted_by {key}", doubts[key]) for key in doubts},
    )


def _doubts(where: str, stored: Any) -> tuple[Doubt, ...]:
    if not isinstance(stored, list):
        raise InputError(f"{where} must be a list of circumstances")
    found = []
    for entry in stored:
        if not entry or not isinstance(entry, dict) or entry.keys() - _DOUBT_KEYS:
            raise InputError(f"{where}: a circumstance has the keys {sorted(_DOUBT_KEYS)}")
        terms = {key: value for key, value in entry.items() if key != "until"}
        _check_lists(where, terms)
        until = entry.get("until")
        if until is not None and not _whole(until):
            raise InputError(f"{where}: until must be a year, not {until!r}")
        parts = tuple(_evidence(where, {key: value}) for key, value in terms.items())
        found.append(Doubt(parts, until))
    return tuple(found)


def _check_lists(where: str, stored: Mapping[str, Any]) -> None:
    for key, value in stored.items():
        if not isinstance(value, list) or not all(item and isinstance(item, str) for item in value):
            raise InputError(f"{where}: {key} must be a list of texts")


def _evidence(where: str, stored: Mapping[str, Any]) -> Evidence:
    return Evidence(
        pub_types=frozenset(term.lower() for term in stored.get("pub_types", [])),
        mesh_terms=frozenset(term.lower() for term in stored.get("mesh_terms", [])),
        patterns=_compiled(where, stored.get("patterns", [])),
        title_patterns=_compiled(where, stored.get("title_patterns", [])),
    )


def _compiled(where: str, patterns: Sequence[str]) -> Pattern | None:
    """One expression that matches where any of the patterns does.

    A pattern may be broken over lines; the breaks and the spaces around them count for nothing.
    """
    patterns = ["".join(line.strip() for line in each.splitlines()) for each in patterns]
    if not patterns:
        return None
    engine = import_extra("regex", "data")
    try:
        for pattern in patterns:
            engine.compile(pattern)
        joined = "|".join(f"(?:{pattern})" for pattern in patterns)
        return Pattern(engine.compile(joined, engine.IGNORECASE))
    except (engine.error, RecursionError, OverflowError) as error:
        raise InputError(f"{where}: pattern is not valid: {error}") from error


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
