"""The template language of the demo corpus: `<a|b>` is a choice, `$name` or `${name}` is a slot.

A slot is filled once per article and keeps its value, so that an article speaks of one treatment
throughout; `$name2` is a second, different draw from the same pool; `$Name` is capitalised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from studytag.errors import import_extra

Pools = Mapping[str, Sequence[str]]
"""Name of a slot to the phrases that may fill it."""

_CHOICE = re.compile(r"<([^<>]*\|[^<>]*)>")
_SLOT = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# "a" before a vowel sound and "an" before a consonant, once the slots are filled.
_ARTICLE = re.compile(r"[Aa](?<![^\s(].)n?(?= (\S+))")
_LOOSE = re.compile(r"\s+([,;:?)]|\.(?!\d))")
_VOWEL_SOUND = re.compile(
    r"(?!uni|use|uter|eur|one|U-|UK)[aeiouAEIO]|8|11\b|18\b|[MRF][A-Z]|HI|SC|X-|E-"
)


@cache
def load(name: str) -> dict[str, Any]:
    """One vocabulary file of this folder, without its extension, read once.

    Raises:
        MissingDependencyError: PyYAML is not installed.
    """
    yaml = import_extra("yaml", "data")
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast
    content: dict[str, Any] = yaml.load(text, loader)
    return content


def capitalise(text: str) -> str:
    """`text` with its first letter raised and the rest left alone."""
    return text[:1].upper() + text[1:]


@cache
def slots(template: str) -> frozenset[str]:
    """Names of all slots in a template; a second draw counts as the first."""
    names = (match[1] or match[2] for match in _SLOT.finditer(template))
    return frozenset(name[0].lower() + name[1:].removesuffix("2") for name in names)


class Writer:
    """Fills the templates of one article, remembering what each slot was filled with.

    Args:
        rng: Source of every choice.
        pools: What may fill a slot.
        facts: Slots filled beforehand, such as numbers.
    """

    def __init__(self, rng: Random, pools: Pools, facts: Mapping[str, str]) -> None:
        self.rng = rng
        self.pools = pools
        self.words = dict(facts)
        self.mentioned: set[str] = set()

    def word(self, name: str) -> str:
        """The value of a slot, drawn at its first use.

        Raises:
            KeyError: no pool has this name: a slip in a template.
        """
        if name not in self.words:
            first = name[:-1] if name.endswith("2") else ""
            pool = self.pools[first or name]
            taken = self.word(first) if first else None
            self.words[name] = self.rng.choice([phrase for phrase in pool if phrase != taken])
        return self.words[name]

    def write(self, template: str) -> str:
        """`template` with choices made, slots filled and articles mended, capitalised."""
        text, choices = template, 1
        while choices:  # innermost first
            text, choices = _CHOICE.subn(self._choose, text)
        text = tidy(_SLOT.sub(self._fill, text))
        return capitalise(text)

    def _choose(self, match: re.Match[str]) -> str:
        option: str = self.rng.choice(match[1].split("|"))
        return option.strip()

    def _fill(self, match: re.Match[str]) -> str:
        name = match[1] or match[2]
        slot = name[0].lower() + name[1:]
        value = self.word(slot)
        self.mentioned.add(slot)
        return capitalise(value) if name[0].isupper() else value


def tidy(text: str) -> str:
    """Mend the spaces that empty choices leave, and the indefinite articles before filled slots."""
    return _ARTICLE.sub(_article, _LOOSE.sub(r"\1", " ".join(text.split())))


def _article(match: re.Match[str]) -> str:
    start = match.start()
    if match[0][0] == "A" and start and match.string[start - 2] not in ".:?":
        return match[0]  # the A of "vitamin A in", no article
    return match[0][0] + ("n" if _VOWEL_SOUND.match(match[1].lstrip("'")) else "")
