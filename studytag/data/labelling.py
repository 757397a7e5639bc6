"""Rule sets: which publication types, MeSH headings and phrases make a label of an article.

A rule set is a YAML file (see `studytag/data/rules/`), so another field can bring its own labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studytag.errors import InputError, missing_dependency
from studytag.labels import LabelSet
from studytag.records import Row, TextRecipe, clean

RULES_FOLDER = Path(__file__).parent / "rules"
_RULE_KEYS = {"pub_types", "mesh_terms", "patterns", "absence_needs"}
_ABSENCE_COLUMNS = {"pub_types", "mesh_terms", "abstract"}


@dataclass(frozen=True)
class Rule:
    """The evidence for one label; a rule with none at all leaves it to the table's own columns.

    Attributes:
        pub_types: Publication types, lower case.
        mesh_terms: MeSH headings, lower case.
        patterns: Matches anywhere in the article's text, or None.
        absence_needs: Columns that must be filled in before missing evidence means absence.
    """

    pub_types: frozenset[str] = frozenset()
    mesh_terms: frozenset[str] = frozenset()
    patterns: re.Pattern[str] | None = None
    absence_needs: tuple[str, ...] = ()

    @property
    def from_table(self) -> bool:
        """Whether the label is read from the table's `labels` and `known` columns."""
        return not (self.pub_types or self.mesh_terms or self.patterns)


@dataclass(frozen=True)
class RuleSet:
    """The rules of every label, in label order."""

    name: str
    rules: Mapping[str, Rule]
    keep_unlabelled: bool = True

    @property
    def labels(self) -> LabelSet:
        """The label set that these rules speak of."""
        return LabelSet(tuple(self.rules))

    def apply(self, row: Row) -> tuple[list[str], list[str]]:
        """The labels of one row and the labels whose presence or absence is known.

        Raises:
            InputError: the row's own `labels` or `known` hold a label outside this rule set.
        """
        types = {clean(term).lower() for term in row.get("pub_types") or ()}
        headings = _headings(row.get("mesh_terms") or ())
        text = TextRecipe(max_chars=None).compose(row.get("title"), row.get("abstract"))
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
                present = bool(
                    rule.pub_types & types
                    or rule.mesh_terms & headings
                    or (rule.patterns and rule.patterns.search(text))
                )
                certain = present or all(row.get(column) for column in rule.absence_needs)
            labels += [name] * present
            known += [name] * certain
        return labels, known

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


def _headings(terms: Sequence[str]) -> set[str]:
    """MeSH headings in lower case, with those that were split at their commas put together again.

    Some exports join headings with commas, so "Cells, Cultured" arrives as two neighbours.
    """
    cleaned = [clean(term).lower() for term in terms]
    joined = {", ".join(cleaned[i : i + n]) for n in (2, 3) for i in range(len(cleaned) - n + 1)}
    return joined.union(cleaned)


def load_rules(name_or_path: str | Path) -> RuleSet:
    """Read a rule set: `strict`, `reference`, or the path of a YAML file.

    Raises:
        InputError: no such rule set, or the file is not one; names the file, label and key.
    """
    try:
        import yaml
    except ImportError as error:
        raise missing_dependency("pyyaml", "data") from error
    shipped = RULES_FOLDER / f"{name_or_path}.yaml"
    path = shipped if shipped.exists() else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in RULES_FOLDER.glob("*.yaml")))
        raise InputError(f"no rule set {str(name_or_path)!r}; give one of {names}, or a YAML file")
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    labels = stored.get("labels") if isinstance(stored, dict) else None
    if not labels or not isinstance(labels, dict):
        raise InputError(f"{path}: a rule set needs a mapping 'labels' of label names to rules")
    if extra := stored.keys() - {"name", "keep_unlabelled", "labels"}:
        raise InputError(f"{path}: unknown key {min(map(str, extra))!r} in the rule set")
    keep_unlabelled = stored.get("keep_unlabelled", True)
    if not isinstance(keep_unlabelled, bool):
        raise InputError(f"{path}: keep_unlabelled must be true or false")
    rules = {name: _rule(path, name, rule or {}) for name, rule in labels.items()}
    return RuleSet(str(stored.get("name", path.stem)), rules, keep_unlabelled)


def _rule(path: Path, label: Any, stored: Any) -> Rule:
    """One label's entry of the YAML file, checked."""
    if not isinstance(label, str) or not label:  # YAML reads No as false, 2024 as a number
        raise InputError(f"{path}: label {label!r} is not text; put it in quotes")
    if not isinstance(stored, dict) or stored.keys() - _RULE_KEYS:
        raise InputError(f"{path}: label {label!r}: a rule has the keys {sorted(_RULE_KEYS)}")
    for key, value in stored.items():
        if not isinstance(value, list) or not all(item and isinstance(item, str) for item in value):
            raise InputError(f"{path}: label {label!r}: {key} must be a list of texts")
    if unknown := set(stored.get("absence_needs", [])) - _ABSENCE_COLUMNS:
        raise InputError(f"{path}: label {label!r}: absence_needs names {sorted(unknown)[0]!r}")
    try:
        patterns = [f"(?:{pattern})" for pattern in stored.get("patterns", [])]
        compiled = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None
    except re.error as error:
        raise InputError(f"{path}: label {label!r}: pattern is not valid: {error}") from error
    return Rule(
        pub_types=frozenset(term.lower() for term in stored.get("pub_types", [])),
        mesh_terms=frozenset(term.lower() for term in stored.get("mesh_terms", [])),
        patterns=compiled,
        absence_needs=tuple(stored.get("absence_needs", [])),
    )
