"""The numbers of one invented article: sample sizes that add up, rates, estimates, dates, ages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from random import Random

Facts = dict[str, str]
"""Name of a slot to its value."""

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
# First match decides: (words in the name of the people studied, youngest, oldest).
_AGES = (
    (r"infant|preschool", 2, 5),
    (r"child", 6, 11),
    (r"adolescent|growing", 12, 16),
    (r"student|young|pregnant", 19, 31),
    (r"older|nursing home|edentulous|stroke|knee", 64, 88),
    (r"", 27, 71),
)


def article_facts(
    rng: Random, year: int, size: Sequence[int], people: str, direction: str
) -> Facts:
    """Draw every number an article may quote.

    Args:
        rng: Source of every draw.
        year: Year of publication; no date lies after it.
        size: Least and greatest number of participants, drawn on a logarithmic scale.
        people: Who was studied; decides ages and sex.
        direction: Event rate of group 1 against group 2: "less", "more" or "same".
    """
    return (
        _counts(rng, size, direction)
        | _estimates(rng)
        | _dates(rng, year)
        | _persons(rng, people)
        | _laboratory(rng)
        | _literature(rng)
    )


def _counts(rng: Random, size: Sequence[int], direction: str) -> Facts:
    """Group sizes n1 + n2 = n, events e1 and e2 with percentages and ratios that follow."""
    n = round(math.exp(rng.uniform(math.log(size[0]), math.log(size[1]))))
    share = 1 / rng.choice((2, 2, 3)) if direction == "more" else 0.5
    n1 = max(1, round(n * share) - (rng.randint(0, 2) if n > 12 else 0))
    n2 = max(n - n1, 1)
    rate = rng.uniform(0.2, 0.4)
    factor = {"less": rng.uniform(0.3, 0.6), "more": rng.uniform(1.5, 2.1), "same": 1.0}[direction]
    e1 = max(1, round(n1 * rate * factor))
    e2 = max(1, round(n2 * rate))
    e0 = max(1, round(n * rng.uniform(0.06, 0.45)))
    risk = _ratio((e1 / n1) / (e2 / n2), math.sqrt(max(1 / e1 - 1 / n1 + 1 / e2 - 1 / n2, 0.01)))
    odds = (e1 / max(n1 - e1, 1)) / (e2 / max(n2 - e2, 1))
    spread = math.sqrt(1 / e1 + 1 / max(n1 - e1, 1) + 1 / e2 + 1 / max(n2 - e2, 1))
    numbers = {"n": n, "n1": n1, "n2": n2, "e1": e1, "e2": e2, "e0": e0}
    percents = {"e1p": e1 / n1, "e2p": e2 / n2, "e0p": e0 / n}
    return (
        {name: str(value) for name, value in numbers.items()}
        | {name: f"{100 * value:.1f}" for name, value in percents.items()}
        | {"risk_ratio": risk, "odds_ratio": _ratio(odds, spread)}
        | {"lost": _NUMBERS[rng.randint(2, 6)] if n < 80 else str(max(7, n // rng.randint(9, 30)))}
    )


def _ratio(estimate: float, spread: float) -> str:
    low, high = (estimate * math.exp(sign * 1.96 * spread) for sign in (-1, 1))
    return f"{estimate:.2f}, 95% CI {low:.2f} to {high:.2f}"


def _estimates(rng: Random) -> Facts:
    """Estimates not tied to counts; those named without `null` exclude no effect."""
    log_ratio = rng.uniform(0.25, 0.95)
    diff = rng.uniform(0.3, 2.4)
    margin = diff * rng.uniform(0.3, 0.85)
    null_diff, null_margin = rng.uniform(-0.2, 0.2), rng.uniform(0.3, 0.8)
    mean = rng.uniform(2, 40)
    fold = rng.uniform(1.4, 6.8)
    return {
        "ratio": _ratio(math.exp(log_ratio), log_ratio / rng.uniform(2.2, 4.5)),
        "ratio_low": _ratio(math.exp(-log_ratio), log_ratio / rng.uniform(2.2, 4.5)),
        "ratio_null": _ratio(math.exp(rng.uniform(-0.1, 0.1)), rng.uniform(0.1, 0.3)),
        "diff": f"{diff:.2f}, 95% CI {diff - margin:.2f} to {diff + margin:.2f}",
        "diff_null": (
            f"{null_diff:.2f}, 95% CI {null_diff - null_margin:.2f} to "
            f"{null_diff + null_margin:.2f}"
        ),
        "mean1": f"{mean:.1f} (SD {mean * rng.uniform(0.1, 0.3):.1f})",
        "mean2": f"{mean * rng.uniform(0.6, 0.85):.1f} (SD {mean * rng.uniform(0.1, 0.3):.1f})",
        "psig": rng.choice(("p < 0.001", "p < 0.05", f"p = 0.0{rng.randint(11, 49)}", "p < 0.01")),
        "pns": rng.choice(("p > 0.05", f"p = 0.{rng.randint(11, 94)}")),
        "auc": f"0.{rng.randint(71, 97)}",
        "pct": str(rng.randint(67, 97)),
        "digit": str(rng.randint(0, 9)),
        "fold": f"{fold:.1f}",
    }


def _dates(rng: Random, year: int) -> Facts:
    years = rng.randint(2, 9)
    to = year - rng.randint(1, 2)
    start = to - rng.randint(years, years + 4)
    return {
        "years": str(years),
        "from": str(start),
        "to": str(to),
        "entry_from": str(to - years - rng.randint(1, 3)),
        "entry_to": str(to - years),
        "months": str(rng.choice((3, 6, 9, 12, 18, 24, 36))),
        "weeks": str(rng.choice((2, 4, 6, 8, 12, 16, 24))),
        "sites": _NUMBERS[rng.randint(2, 6)],
    }


def _persons(rng: Random, people: str) -> Facts:
    """Ages and sex that suit the people studied."""
    low, high = next((low, high) for words, low, high in _AGES if re.search(words, people))
    age = rng.randint(low, high)
    female = bool(re.search("women|breast|pregnant", people))
    young = "boy", "girl"
    noun = (young if age < 16 else ("man", "woman"))[female or rng.random() < 0.5]
    share = rng.randint(38, 67)
    makeup = "were in paid employment" if female else f"were {'girls' if high < 17 else 'women'}"
    return {
        "age": f"{low + (high - low) * rng.uniform(0.35, 0.65):.1f}",
        "sd": f"{(high - low) * rng.uniform(0.15, 0.3):.1f}",
        "agelo": str(low),
        "agehi": str(high),
        "one_age": str(age),
        "sex": noun,
        "he": "he" if noun in ("man", "boy") else "she",
        "makeup": f"{share}% {makeup}",
    }


def _laboratory(rng: Random) -> Facts:
    """Groups times specimens (or animals) per group make the total."""
    groups, per = rng.randint(2, 6), rng.choice((6, 7, 8, 9, 10, 12, 15, 20))
    conc = rng.choice((1, 2, 5, 10, 20, 50))
    return {
        "groups": _NUMBERS[groups],
        "per": str(per),
        "total": str(groups * per),
        "cycles": str(rng.choice((2000, 5000, 10000, 20000))),
        "conc": str(conc),
        "conc_hi": str(conc * rng.choice((4, 10, 20))),
        "hours": str(rng.choice((6, 12, 24, 48, 72))),
        "mm": f"{rng.randint(8, 42)} × {rng.randint(5, 30)}",
        "mm0": str(rng.randint(20, 480)),
        "pet_age": str(rng.choice((2, 3, 4, 5, 6, 7, 9, 10, 12, 13))),
    }


def _literature(rng: Random) -> Facts:
    included = rng.randint(7, 48)
    return {
        "k": str(included),
        "k0": str(included * rng.randint(14, 90) + rng.randint(0, 13)),
        "i2": str(rng.randint(0, 91)),
    }
