"""What a person said of labels: corrections that `studytag data build` applies after the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from studytag.data.labelling import RuleSet
from studytag.errors import InputError
from studytag.files import read_rows
from studytag.records import Row

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

    def apply(self, pmid: str | None, row: Row, rules: RuleSet) -> tuple[list[str], list[str]]:
        """An article's labels and known labels after the corrections, in label order.

        What a person decided counts instead of the rule's answer for that label, and the others
        are made to agree. If A implies B:

        - yes to A is yes to B, no to B is no to A, and if B is unknown, so is A, unless decided;
        - if A is no or unknown, a B that only A brought is unknown: its own evidence missed it.
        """
        labels, known = rules.direct(row)
        decided = self.decisions.get(pmid or "")
        if not decided:
            return rules.close(labels, known)
        self.used.add(pmid or "")
        answers: dict[str, bool | None] = {name: name in labels for name in known}
        answers.update(decided)
        for name, lower in rules.implied_by.items():
            if name in decided and not decided[name]:
                answers.update(dict.fromkeys(lower - decided.keys(), decided[name]))
            elif name not in decided and not answers.get(name):
                if any(other in labels and not answers[other] for other in lower):
                    answers[name] = None
        certain = {name for name, answer in answers.items() if answer is not None}
        return rules.close({name for name in certain if answers[name]}, certain)

    def unused(self) -> list[str]:
        """The pmids that no article had."""
        return [pmid for pmid in self.decisions if pmid not in self.used]


def read_corrections(path: Path, rules: RuleSet) -> Corrections:
    """Read a table with pmid, label, decision and title, as `studytag data audit` makes it.

    Rows without a decision are passed over.

    Raises:
        InputError: a column is missing, or a row's label or decision is unknown or contradicts an
            earlier row, directly or by what the label implies; names the row.
    """
    labels = rules.labels
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
                f"not {pmid!r} and {label!r}; leave the decision on other rows empty"
            )
        if answer not in DECISIONS:
            raise InputError(f"{where}: decision {answer!r}; write {', '.join(DECISIONS)}")
        decided = decisions.setdefault(pmid, {})
        if decided.setdefault(label, DECISIONS[answer]) is not DECISIONS[answer]:
            raise InputError(f"{where}: contradicts an earlier row on {label} of pmid {pmid}")
        for implied, lower in rules.implied_by.items():
            yes = next((name for name in lower if decided.get(name)), None)
            if yes and implied in decided and not decided[implied]:
                raise InputError(
                    f"{where}: {label} of pmid {pmid} contradicts an earlier row: {yes} implies "
                    f"{implied}"
                )
    return Corrections(decisions)
