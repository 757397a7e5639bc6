"""Small checks of stored values, put together to a schema: type, range, length.

A check takes a value and the name of its entry, and raises BundleError where the value is not what
the entry must hold. The predictor needs it, and needs no further package; hence no pydantic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from studytag.errors import BundleError

ADVICE = "copy the whole folder again, or train or export it again"

Check = Callable[[Any, str], None]

LARGEST = 2**53
"""Whole numbers beyond it are not exact in every reader of JSON."""

_DEEPEST = 32


def wrong(entry: str, value: object, expected: str) -> BundleError:
    """The error of an entry that does not hold what it must."""
    return BundleError(f"entry {entry} is {shown(value)}, not {expected}; {ADVICE}")


def shown(value: object) -> str:
    """The beginning of a value as Python writes it, without characters that move a cursor."""
    if isinstance(value, Mapping | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST:  # may have more digits than Python prints
        return "a huge number"
    return ascii(value)[:60]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)


def whole(low: int, high: int = LARGEST) -> Check:
    """A whole number from `low` to `high`."""

    def check(value: Any, entry: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise wrong(entry, value, f"a whole number from {low} to {high}")

    return check


def number(low: float, high: float, *, above: bool = False) -> Check:
    """A finite number from `low` to `high`; `above`: greater than `low`."""

    def check(value: Any, entry: str) -> None:
        if not is_number(value) or not low <= value <= high or (above and value == low):
            relation = "above" if above else "from"
            raise wrong(entry, value, f"a finite number {relation} {low:g} to {high:g}")

    return check


share = number(0, 1)
"""A probability, threshold or score."""


def text(longest: int, *, pattern: str = r".*", empty: bool = True) -> Check:
    """A text of at most `longest` characters that matches `pattern` as a whole."""
    compiled = re.compile(pattern, re.S)

    def check(value: Any, entry: str) -> None:
        if not isinstance(value, str) or len(value) > longest or not compiled.fullmatch(value):
            raise wrong(entry, value, f"a text of at most {longest} characters as it is written")
        if not (value or empty):
            raise wrong(entry, value, "a text")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise wrong(entry, value, "a text without unpaired surrogates")

    return check


def name(longest: int = 300) -> Check:
    """A text that a terminal may be shown as it is."""
    plain = text(longest, empty=False)

    def check(value: Any, entry: str) -> None:
        plain(value, entry)
        if not value.isprintable():
            raise wrong(entry, value, "a text without control characters")

    return check


def one_of(*values: str) -> Check:
    """One of some texts."""

    def check(value: Any, entry: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise wrong(entry, value, f"one of {', '.join(values)}")

    return check


def optional(inner: Check) -> Check:
    """Null, or what `inner` takes."""

    def check(value: Any, entry: str) -> None:
        if value is not None:
            inner(value, entry)

    return check


def sequence(item: Check, most: int, *, least: int = 0) -> Check:
    """A list of `least` to `most` items."""

    def check(value: Any, entry: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            size = f"{least}" if least == most else f"{least} to {most}"
            raise wrong(entry, value, f"a list of {size} items")
        for index, each in enumerate(value):
            item(each, f"{entry}[{index}]")

    return check


def mapping(key: Check, value: Check, *, least: int = 0, most: int = 10_000) -> Check:
    """An object whose keys and values pass their checks."""

    def check(stored: Any, entry: str) -> None:
        if not isinstance(stored, dict) or not least <= len(stored) <= most:
            raise wrong(entry, stored, f"an object of {least} to {most} entries")
        for each, held in stored.items():
            key(each, f"{entry} (a name in it)")
            value(held, f"{entry}.{each}")

    return check


def record(required: Mapping[str, Check], extra: Mapping[str, Check] | None = None) -> Check:
    """An object with exactly these entries, those of `extra` where it has them."""
    known = {**required, **(extra or {})}

    def check(stored: Any, entry: str) -> None:
        if not isinstance(stored, dict):
            raise wrong(entry or "(the whole)", stored, "an object")
        inside = f"{entry}." if entry else ""
        for each in required:
            if each not in stored:
                raise BundleError(f"entry {inside}{each} is missing; {ADVICE}")
        for each, value in stored.items():
            if each not in known:
                raise BundleError(f"entry {inside}{shown(each)} is unknown; update studytag")
            known[each](value, f"{inside}{each}")

    return check


def anything(value: Any, entry: str, depth: int = 0) -> None:
    """Whatever JSON can hold, with finite numbers, and not nested without end."""
    if depth > _DEEPEST:
        raise wrong(entry, value, f"nested at most {_DEEPEST} levels deep")
    if isinstance(value, dict):
        for key, held in value.items():
            anything(held, f"{entry}.{key:.40}", depth + 1)
    elif isinstance(value, list):
        for index, held in enumerate(value):
            anything(held, f"{entry}[{index}]", depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool) and not is_number(value):
        raise wrong(entry, value, "a finite number")


def same_keys(stored: Mapping[str, Any], names: Sequence[str], entry: str) -> None:
    """Refuse a key that is none of `names`."""
    for each in stored:
        if each not in names:
            raise wrong(f"{entry} (a name in it)", each, "one of those that the manifest names")
