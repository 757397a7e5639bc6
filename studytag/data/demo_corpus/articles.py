"""Composes the title and abstract of one invented article of a given kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from studytag.data.demo_corpus.facts import article_facts
from studytag.data.demo_corpus.grammar import Writer, capitalise, load, slots, tidy

Kind = dict[str, Any]
"""Templates and indexing chances of one kind of article, as the YAML files give them."""

# Topics that share background, outlook and incidental sentences; others have their own.
_FAMILY = dict.fromkeys(("material", "cell", "model"), "laboratory")
# What an article can be about. Sentences that bring up none of these anew are preferred, so that
# an abstract keeps to the subject of its title.
_SUBJECTS = frozenset(
    "treat factor biomarker gene lesion structure remedy outcome event test marker".split()
)
_MINOR = frozenset(("outcome", "event"))
# Chance that such an article has no abstract; elsewhere 3 in 100 have none.
_TITLE_ONLY = {"editorial": 0.45, "case_report": 0.12, "vet_case": 0.1, "narrative_review": 0.06}
_SMALL_WORDS = frozenset("a an and as at by for from in is of on or the to via with vs".split())


@dataclass(frozen=True)
class Article:
    """Text of one article and the subject headings of its topic."""

    title: str
    abstract: str
    subjects: tuple[str, ...]


@cache
def kinds() -> dict[str, Kind]:
    """Every kind of article by name, in a fixed order."""
    files = ("trials", "observational", "laboratory", "reviews")
    return {name: kind for file in files for name, kind in load(file).items()}


def compose(rng: Random, name: str, year: int) -> Article:
    """Write an article of the kind `name`, published in `year`."""
    kind, shared = kinds()[name], load("shared")
    topics = load("topics").get(kind["topic"], [{}])
    topic = rng.choice(topics)
    condition = topic.get("condition", "")
    pools = shared | topic | {"condition": [condition] if isinstance(condition, str) else condition}
    null = rng.random() < 0.3 and "null" in kind
    direction = "more" if name == "case_control" else "same" if null else "less"
    people = rng.choice(topic.get("people", [""]))
    treat, _, control = rng.choice(topic.get("treat", [""])).partition(" / ")
    # Ages follow the people studied, or the condition where that says more.
    facts = article_facts(rng, year, kind["size"], f"{people} {condition}", direction)
    nation = rng.choice(list(shared["nations"].items()))
    facts |= {"country": nation[0], "national": nation[1]}
    facts |= {"people": people, "treat": treat, "control": control}
    writer = Writer(rng, pools, facts)
    title = writer.write(rng.choice(kind["title"]))
    abstract = _abstract(writer, name, kind | (kind["null"] if null else {}))
    style = _Style(rng)
    return Article(
        title=style.title(title),
        abstract=style.apply(abstract),
        subjects=tuple(rng.sample(topic.get("mesh", []), min(len(topic.get("mesh", [])), 3))),
    )


def _abstract(writer: Writer, name: str, kind: Kind) -> str:
    """Background and aim, methods, results, conclusion; empty for articles without abstract."""
    rng = writer.rng
    if rng.random() < _TITLE_ONLY.get(name, 0.03):
        return ""
    length = rng.choices((0, 1, 2, 3), (9, 16, 33, 42))[0]
    shared = load("shared")
    family = _FAMILY.get(kind["topic"], kind["topic"])
    extra = kind.get("extra", family)
    background = [] if extra == "single" else shared[f"background_{family}"]
    outlook = [] if extra in ("opinion", "guideline", "protocol") else shared[f"outlook_{family}"]
    less = max(length - 1, 0)
    parts = [
        [*_some(writer, background, length), _core(writer, kind["aim"])],
        [
            *_steps(writer, kind["methods"], length),
            *_some(writer, shared[f"extra_{extra}"], length),
        ],
        [
            *_steps(writer, kind["results"], length),
            *_some(writer, shared[f"detail_{extra}"], length),
        ],
        [*_steps(writer, kind["conclusion"], length), *_some(writer, outlook, less)],
    ]
    written = [" ".join(part) for part in parts]
    return _layout(rng, name, written)


def _steps(writer: Writer, steps: list[list[str]], length: int) -> list[str]:
    """One sentence of the first step, and more of the others the longer the abstract."""
    sentences = [_core(writer, steps[0])]
    for step in steps[1:]:
        sentences += _some(writer, step, length)
    return sentences


def _core(writer: Writer, pool: list[str]) -> str:
    """One of the sentences that bring up the fewest new subjects."""
    fresh = [(slots(template) & _SUBJECTS) - writer.mentioned for template in pool]
    cost = [(len(new - _MINOR), len(new)) for new in fresh]
    fitting = [template for template, each in zip(pool, cost, strict=True) if each == min(cost)]
    return writer.write(writer.rng.choice(fitting))


def _some(writer: Writer, pool: list[str], length: int) -> list[str]:
    """Up to `length` sentences on the subjects so far, in any order; in long abstracts some."""
    known = writer.mentioned | _MINOR
    fitting = [template for template in pool if slots(template) & _SUBJECTS <= known]
    count = min(len(fitting), writer.rng.randint(length // 2, length))
    return [writer.write(template) for template in writer.rng.sample(fitting, count)]


def _layout(rng: Random, name: str, parts: list[str]) -> str:
    """The four parts under headings, or run together."""
    if name in ("narrative_review", "editorial", "chemistry") or rng.random() < 0.5:
        return " ".join(parts)
    layouts = load("shared")["headings"]
    headings = rng.choice(layouts.get(name, layouts["default"]))
    return " ".join(
        part if heading is None else f"{heading}: {part}"
        for heading, part in zip(headings, parts, strict=True)
    )


@cache
def _american() -> tuple[re.Pattern[str], dict[str, str]]:
    """British stems, longest first, and their American forms."""
    stems: dict[str, str] = load("shared")["american"]
    spelling = stems | {capitalise(key): capitalise(value) for key, value in stems.items()}
    return re.compile("|".join(sorted(spelling, key=len, reverse=True))), spelling


class _Style:
    """One journal's habits: spelling, hyphens, statistics, titles."""

    def __init__(self, rng: Random) -> None:
        self.substitutions: list[tuple[str, str]] = []
        self.american = rng.random() < 0.6
        self.title_case = rng.random() < 0.2
        self.full_stop = rng.random() < 0.85
        options = (
            [("p (?=[<>=] 0)", "P "), ("p ([<>=]) 0", r"p\g<1>0"), (r"p ([<>=]) 0\.", r"P \1 .")],
            [(r"(95% CI) (\S+) to (?=\S)", r"\1 \2–"), ("95% CI", "95% confidence interval")],
            [(r"(?<=\()n = ", "n=")],
            [("follow-up", "follow up"), ("case-control", "case control")],
            [("meta-analy", "metaanaly"), ("double-blind", "double blind")],
            [("cross-sectional", "cross sectional"), ("in vitro study", "in-vitro study")],
        )
        for option, chance in zip(options, (0.6, 0.5, 0.3, 0.15, 0.04, 0.15), strict=True):
            if rng.random() < chance:
                self.substitutions.append(rng.choice(option))

    def apply(self, text: str) -> str:
        if self.american:
            words, spelling = _american()
            text = words.sub(lambda match: spelling[match[0]], text)
        for pattern, replacement in self.substitutions:
            text = re.sub(pattern, replacement, text)
            text = re.sub(capitalise(pattern), capitalise(replacement), text)
        return tidy(text)

    def title(self, text: str) -> str:
        text = self.apply(text)
        if self.title_case:
            words = text.split()
            text = " ".join(w if w in _SMALL_WORDS else capitalise(w) for w in words)
            text = capitalise(text)
        return text if text.endswith("?") or not self.full_stop else f"{text}."
