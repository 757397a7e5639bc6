"""Screening by tags: which records go on to people, which are set aside, and how to report it.

Nothing is deleted: records that do not match go to a file of their own. A record that cannot be
assessed, since it has no abstract or too little text, always goes on to people. The report follows
PRISMA 2020 (the box "records marked as ineligible by automation tools") and the RAISE statement of
2025: it names the tool, its version, what it decided by, and what it was measured to miss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from studytag.errors import InputError
from studytag.files import RowWriter, open_writer
from studytag.records import Row, clean

FEWEST_WORDS = 20
"""An abstract of fewer words is too short to assess a study by."""

_LISTED = 20


class Decision(str, Enum):
    """What becomes of a record."""

    KEPT = "kept"
    SET_ASIDE = "set aside"
    NOT_ASSESSED = "not assessed"


@dataclass(frozen=True)
class Rule:
    """Which records are kept: those with a label of `keep`, without any label of `drop`.

    Attributes:
        keep: Labels of which a record needs one; none means that every record may stay.
        drop: Labels of which a record may have none.
        fewest_words: An abstract of fewer words is too short to assess.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    fewest_words: int = FEWEST_WORDS

    def check(self, known: Collection[str]) -> None:
        """Refuse labels that the bundle does not have, and rules that decide nothing.

        Args:
            known: The labels that the bundle has.

        Raises:
            InputError: a label is unknown or on both sides, or none is named.
        """
        for label in (*self.keep, *self.drop):
            if label not in known:
                raise InputError(
                    f"no label {label!r} in this bundle; it has {', '.join(sorted(known))}"
                )
        if both := sorted({*self.keep} & {*self.drop}):
            raise InputError(f"label {both[0]!r} is both to keep and to drop; name it once")
        if not self.keep and not self.drop:
            raise InputError("no label to screen by; name labels with --keep or --drop")

    def decide(self, row: Row, labels: Collection[str] | None) -> tuple[Decision, str]:
        """What becomes of a record, and why.

        Args:
            row: The record, with its `title` and `abstract`.
            labels: The labels predicted for it; None where it could not be tagged.
        """
        if labels is None:
            return Decision.NOT_ASSESSED, "could not be tagged"
        words = len(_text(row.get("abstract")).split())
        if not words:
            return Decision.NOT_ASSESSED, "no abstract"
        if words < self.fewest_words:
            return Decision.NOT_ASSESSED, f"abstract of fewer than {self.fewest_words} words"
        dropped = [label for label in self.drop if label in labels]
        if dropped:
            return Decision.SET_ASIDE, f"tagged {', '.join(dropped)}"
        if self.keep and not set(self.keep) & set(labels):
            return Decision.SET_ASIDE, f"not tagged {' or '.join(self.keep)}"
        return Decision.KEPT, ""

    def describe(self) -> str:
        """The rule in words."""
        parts = []
        if self.keep:
            parts.append(f"tagged {' or '.join(self.keep)}")
        if self.drop:
            parts.append(f"not tagged {' or '.join(self.drop)}")
        return " and ".join(parts)


def _text(value: Any) -> str:
    return clean(value) if isinstance(value, str) else ""


@dataclass(frozen=True)
class Recall:
    """The measured share of the articles with a label that are found.

    Attributes:
        value: The share.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tagger:
    """What decided, as a reader of the review needs to know it.

    Attributes:
        version: Of studytag.
        bundle: SHA-256 of the bundle.
        operating_point: Name of the set of thresholds.
        thresholds: By label.
        recall: By label, where it was measured at these thresholds.
        measured_on: What it was measured on.
    """

    version: str
    bundle: str
    operating_point: str
    thresholds: Mapping[str, float]
    recall: Mapping[str, Recall] = field(default_factory=dict)
    measured_on: str = ""


@dataclass
class Screening:
    """Counts the decisions on the records of a file.

    Attributes:
        rule: What they follow.
        counts: Records by decision.
        reasons: Records by decision and reason.
        not_assessed: Those that could not be assessed, with the reason: number, pmid and title.
    """

    rule: Rule
    counts: dict[Decision, int] = field(default_factory=lambda: dict.fromkeys(Decision, 0))
    reasons: dict[tuple[Decision, str], int] = field(default_factory=dict)
    not_assessed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def records(self) -> int:
        """Records that were decided on."""
        return sum(self.counts.values())

    def count(self, row: Row, decision: Decision, reason: str) -> None:
        """Count a record and what `Rule.decide` says of it."""
        self.counts[decision] += 1
        if reason:
            key = decision, reason
            self.reasons[key] = self.reasons.get(key, 0) + 1
        if decision is Decision.NOT_ASSESSED:
            record = {"record": self.records, "pmid": row.get("pmid"), "title": row.get("title")}
            self.not_assessed.append(record | {"reason": reason})

    def to_dict(self, tagger: Tagger) -> dict[str, Any]:
        """The report for programs."""
        labels = (*self.rule.keep, *self.rule.drop)
        return {
            "records": self.records,
            "kept": self.counts[Decision.KEPT],
            "marked_as_ineligible_by_automation_tools": self.counts[Decision.SET_ASIDE],
            "not_assessed": self.counts[Decision.NOT_ASSESSED],
            "to_be_screened_by_people": self.records - self.counts[Decision.SET_ASIDE],
            "reasons": [
                {"decision": decision.value, "reason": reason, "records": count}
                for (decision, reason), count in self.reasons.items()
            ],
            "records_not_assessed": self.not_assessed,
            "keep": list(self.rule.keep),
            "drop": list(self.rule.drop),
            "tool": "studytag",
            "version": tagger.version,
            "bundle_sha256": tagger.bundle,
            "operating_point": tagger.operating_point,
            "thresholds": {label: tagger.thresholds[label] for label in labels},
            "recall": {
                label: {"value": recall.value, "low": recall.low, "high": recall.high}
                for label, recall in tagger.recall.items()
                if label in labels
            },
            "measured_on": tagger.measured_on,
            "methods": self.methods(tagger),
        }

    def to_text(self, tagger: Tagger) -> str:
        """The report for people: the counts, the records not assessed, and a methods paragraph."""
        aside = self.counts[Decision.SET_ASIDE]
        lines = [
            "Screening by study design",
            "",
            f"Records                                            {self.records:>8}",
            f"Marked as ineligible by automation tools (PRISMA)  {aside:>8}",
            f"To be screened by people                           {self.records - aside:>8}",
            f"  of these not assessed                            "
            f"{self.counts[Decision.NOT_ASSESSED]:>8}",
            "",
            *(
                f"{decision.value}: {reason}: {count}"
                for (decision, reason), count in self.reasons.items()
            ),
        ]
        if self.not_assessed:
            lines += ["", "Not assessed, and so never set aside:"]
            lines += [_listed(record) for record in self.not_assessed[:_LISTED]]
            if (more := len(self.not_assessed) - _LISTED) > 0:
                lines.append(f"  and {more} more, listed in the JSON report")
        return "\n".join([*lines, "", "Methods", "", self.methods(tagger), ""])

    def methods(self, tagger: Tagger) -> str:
        """A paragraph for the methods section of a review."""
        labels = (*self.rule.keep, *self.rule.drop)
        thresholds = ", ".join(f"{label} {tagger.thresholds[label]:.3f}" for label in labels)
        aside, waived = self.counts[Decision.SET_ASIDE], self.counts[Decision.NOT_ASSESSED]
        return (
            f"Titles and abstracts of {self.records} records were tagged for study design by "
            f"studytag {tagger.version} (model bundle SHA-256 {tagger.bundle[:12]}), a text "
            f"classifier, at its operating point '{tagger.operating_point}' (probability "
            f"thresholds: {thresholds}). Records {self.rule.describe()} went on to screening by "
            f"people; {aside} others were marked as ineligible by the tool and set aside, none "
            f"were deleted. {waived} records without an abstract, or with too little text to "
            f"assess, were not assessed by the tool and went on to screening by people. "
            f"{_performance(labels, tagger)}"
        )


def _listed(record: Mapping[str, Any]) -> str:
    pmid = f" (pmid {record['pmid']})" if record["pmid"] else ""
    title = _text(record["title"])[:60] or "no title"
    return f"  record {record['record']}{pmid}: {title}: {record['reason']}"


def _performance(labels: Sequence[str], tagger: Tagger) -> str:
    measured = [label for label in labels if label in tagger.recall]
    if not measured:
        return "The recall of the tool at these thresholds has not been measured."
    shares = "; ".join(
        f"{label} {recall.value:.3f} (95 % CI {recall.low:.3f} to {recall.high:.3f})"
        for label, recall in ((label, tagger.recall[label]) for label in measured)
    )
    where = f" on {tagger.measured_on}" if tagger.measured_on else ""
    missing = [label for label in labels if label not in tagger.recall]
    rest = f" It has not been measured for {', '.join(missing)}." if missing else ""
    return f"The recall of the tool at these thresholds, measured{where}, was {shares}.{rest}"


def set_aside_path(output: Path) -> Path:
    """Where the records that do not match go: `NAME.set-aside.ris` beside `NAME.ris`."""
    suffixes = output.suffixes[-2:] if output.suffix.lower() == ".gz" else output.suffixes[-1:]
    suffix = "".join(suffixes)
    return output.with_name(f"{output.name.removesuffix(suffix)}.set-aside{suffix}")


@contextmanager
def open_screened(
    output: Path, format: str | None = None, **options: Any
) -> Iterator[Mapping[Decision, RowWriter]]:
    """Open the writers of both outputs, by decision; nothing appears before all is written.

    The records that were set aside get their file first: should the process be killed between the
    two renames, the file to screen is missing, which nobody overlooks.

    Args:
        output: Gets the records that were kept or not assessed; `set_aside_path` the others.
        format: As of `open_writer`.
        **options: As of `open_writer`.

    Raises:
        InputError: as `open_writer`.
    """
    with (
        open_writer(output, format, **options) as kept,
        open_writer(set_aside_path(output), format, **options) as aside,
    ):
        yield {
            Decision.KEPT: kept,
            Decision.NOT_ASSESSED: kept,
            Decision.SET_ASIDE: aside,
        }
