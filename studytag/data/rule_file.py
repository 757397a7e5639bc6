"""A rule set as a YAML file (see `studytag/data/rules/`): other fields bring their own labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studytag.data.labelling import Doubt, Evidence, Pattern, Rule, RuleSet
from studytag.documents import read_yaml
from studytag.errors import InputError, import_extra
from studytag.records import clean

RULES_FOLDER = Path(__file__).parent / "rules"
_EVIDENCE_KEYS = {"pub_types", "mesh_terms", "patterns", "title_patterns"}
_RULE_KEYS = _EVIDENCE_KEYS | {"absence_needs", "implies", "doubted_by"}
_DOUBT_KEYS = _EVIDENCE_KEYS | {"until"}
_DOUBTED = ("absence", "pattern", "presence")
_SET_KEYS = {"name", "version", "keep_unlabelled", "labels"}
_ABSENCE_COLUMNS = {"pub_types", "mesh_terms", "abstract"}


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
    if label != clean(label):
        raise InputError(
            f"{path}: label {label!r}: tables are read without such spaces; write {clean(label)!r}"
        )
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
    for key in ("absence_needs", "doubted_by"):
        if stored.get(key) and not evidence:
            raise InputError(
                f"{where}: {key} needs evidence beside it; a label without any is read from the "
                "table's columns labels and known"
            )
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


def _compiled(where: str, patterns: Sequence[str]) -> tuple[Pattern, ...]:
    """The patterns, each by itself: joined, a reference back could mean another one's group.

    A pattern may be broken over lines; the breaks and the spaces around them count for nothing.
    """
    if not patterns:
        return ()
    engine = import_extra("regex", "data")
    whole = ("".join(line.strip() for line in pattern.splitlines()) for pattern in patterns)
    try:
        return tuple(Pattern(engine.compile(pattern, engine.IGNORECASE)) for pattern in whole)
    except (engine.error, RecursionError, OverflowError) as error:
        raise InputError(f"{where}: pattern is not valid: {error}") from error


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
