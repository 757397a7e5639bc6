"""What a review reports of its screening: counts, a methods paragraph, and what decided.

It follows PRISMA 2020 (the box "records marked as ineligible by automation tools") and the RAISE
statement of 2025: it names the tool, its version, what it decided by, and how often it was measured
to be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from studytag.inference.screening import UNTAGGED, Decision, Rule
from studytag.records import Row, clean, place_of

_LISTED = 20
_PRECISION = "precision of the tool (the share of its tags that were right)"


@dataclass(frozen=True)
class Share:
    """A share that was measured.

    Attributes:
        value: The share.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Side:
    """What decides one side of a rule.

    Attributes:
        point: Name of the operating point.
        thresholds: By label.
        measured: By label, where it was measured at these thresholds: the recall of labels to keep,
            the precision of labels to drop, since these are what may lose a study.
    """

    point: str
    thresholds: Mapping[str, float]
    measured: Mapping[str, Share] = field(default_factory=dict)

    def describe(self, labels: Sequence[str]) -> str:
        """How labels were decided."""
        thresholds = ", ".join(f"{label} {self.thresholds[label]:.3f}" for label in labels)
        return (
            f"tagged {' or '.join(labels)} at its operating point '{self.point}' (probability "
            f"thresholds: {thresholds})"
        )

    def to_dict(self, labels: Sequence[str]) -> dict[str, Any]:
        """What was measured of labels, for programs."""
        return {label: asdict(self.measured[label]) for label in labels if label in self.measured}


@dataclass(frozen=True)
class Tagger:
    """What decided, as a reader of the review needs to know it.

    Attributes:
        version: Of studytag.
        bundle: SHA-256 of the bundle.
        keep: What decides the labels to keep.
        drop: What decides the labels to drop.
        measured_on: What both were measured on.
    """

    version: str
    bundle: str
    keep: Side
    drop: Side
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
        rule = self.rule
        sides = [(tagger.keep, rule.keep), (tagger.drop, rule.drop)]
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
            "keep": list(rule.keep),
            "drop": list(rule.drop),
            "tool": "studytag",
            "version": tagger.version,
            "bundle_sha256": tagger.bundle,
            "operating_point": tagger.keep.point,
            "operating_point_of_drop": tagger.drop.point if rule.drop else None,
            "thresholds": {
                label: side.thresholds[label] for side, labels in sides for label in labels
            },
            "recall": tagger.keep.to_dict(rule.keep),
            "precision": tagger.drop.to_dict(rule.drop),
            "measured_on": tagger.measured_on,
            "methods": self.methods(tagger),
        }

    def to_text(self, tagger: Tagger) -> str:
        """The report for people: the counts, the records not assessed, and a methods paragraph."""
        aside = self.counts[Decision.SET_ASIDE]
        lines = [
            "Screening by tags",
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
        keep, drop = self.rule.keep, self.rule.drop
        matching, performance = [], []
        if keep:
            matching.append(tagger.keep.describe(keep))
            performance.append(_performance("recall of the tool", keep, tagger.keep, tagger))
        if drop:
            matching.append(f"not {tagger.drop.describe(drop)}")
            performance.append(_performance(_PRECISION, drop, tagger.drop, tagger))
        aside, waived = self.counts[Decision.SET_ASIDE], self.counts[Decision.NOT_ASSESSED]
        untagged = self.reasons.get((Decision.NOT_ASSESSED, UNTAGGED), 0)
        return (
            f"Titles and abstracts of {_counted(self.records)} were tagged by studytag "
            f"{tagger.version} (model bundle SHA-256 {tagger.bundle[:12]}), a text "
            f"classifier. Records {' and '.join(matching)} went on to screening by people; the "
            f"tool marked {_counted(aside, 'other ')} as ineligible, to be set aside and not "
            f"deleted. {_counted(waived - untagged)} without an abstract, or with too little text "
            f"to assess, and {_counted(untagged)} that could not be read or tagged went on to "
            f"screening by people without being assessed by the tool. "
            f"{' '.join(performance)}"
        )


def _counted(count: int, kind: str = "") -> str:
    return f"{count} {kind}record{'s' * (count != 1)}"


def _listed(record: Mapping[str, Any]) -> str:
    title = clean(str(record["title"] or ""))[:60] or "no title"
    return f"  {place_of(record['record'], record, 'record')}: {title}: {record['reason']}"


def _performance(metric: str, labels: Sequence[str], side: Side, tagger: Tagger) -> str:
    subject = f"The {metric} at these thresholds"
    measured = [label for label in labels if label in side.measured]
    if not measured:
        return f"{subject} has not been measured."
    shares = "; ".join(
        f"{label} {share.value:.3f} (95 % CI {share.low:.3f} to {share.high:.3f})"
        for label, share in ((label, side.measured[label]) for label in measured)
    )
    where = f" on {tagger.measured_on}" if tagger.measured_on else ""
    missing = [label for label in labels if label not in side.measured]
    rest = f" It has not been measured for {', '.join(missing)}." if missing else ""
    return f"{subject}, measured{where}, was {shares}.{rest}"
