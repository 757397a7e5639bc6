"""What a person said of labels: corrections that `studytag data build` applies after the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from studytag.errors import InputError
from studytag.files import read_rows
from studytag.labels import LabelSet

DECISION = "decision"
DECISIONS = {"yes": True, "no": False, "unknown": None}
"""What may stand in the column `decision`: the article has the label, has it not, or is unclear."""


@dataclass
class Corrections:
    """Decisions by article and label.

    Attributes:
        decisions: pmid to label to yes (True), no (False) or unknown (None).
        used: pmids of the articles that were corrected.
    """

    decisions: Mapping[str, Mapping[str, bool | None]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def apply(
        self, pmid: str | None, labels: list[str], known: list[str], label_set: LabelSet
    ) -> tuple[list[str], list[str]]:
        """An article's labels and known labels after the corrections, in label order."""
        decided = self.decisions.get(pmid or "")
        if not decided:
            return labels, known
        self.used.add(pmid or "")
        present = (set(labels) | _with(decided, True)) - _with(decided, False, None)
        certain = (set(known) | _with(decided, True, False)) - _with(decided, None)
        return [n for n in label_set if n in present], [n for n in label_set if n in certain]

    def unused(self) -> list[str]:
        """The pmids that no article had."""
        return [pmid for pmid in self.decisions if pmid not in self.used]


def _with(decided: Mapping[str, bool | None], *values: bool | None) -> set[str]:
    return {name for name, value in decided.items() if value in values}


def read_corrections(path: Path, labels: LabelSet) -> Corrections:
    """Read a table with the columns pmid, label and decision, as `studytag data audit` makes it.

    Rows without a decision are passed over.

    Raises:
        InputError: a column is missing, or a row's label or decision is unknown or contradicts an
            earlier row; names the row.
    """
    decisions: dict[str, dict[str, bool | None]] = {}
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}: row {number}"
        if missing := {"pmid", "label", DECISION} - row.keys():
            raise InputError(
                f"{path}: no column {min(missing)!r}; it needs pmid, label, {DECISION}"
            )
        answer = str(row[DECISION] or "").strip().lower()
        if not answer:
            continue
        pmid, label = row["pmid"], row["label"]
        if not pmid or label not in labels:
            raise InputError(
                f"{where}: needs a pmid and one of the labels {', '.join(labels)}, "
                f"not {pmid!r} and {label!r}"
            )
        if answer not in DECISIONS:
            raise InputError(f"{where}: decision {answer!r}; write {', '.join(DECISIONS)}")
        decided = decisions.setdefault(pmid, {})
        if decided.setdefault(label, DECISIONS[answer]) is not DECISIONS[answer]:
            raise InputError(f"{where}: contradicts an earlier row on {label} of pmid {pmid}")
    return Corrections(decisions)
