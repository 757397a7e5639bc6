"""Documents a second over F1, as a picture beside the table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.speed.tables import rates_of

FAMILIES = ("studytag", "optimum", "OpenVINO", "CTranslate2", "transformers")
"""Contenders of a name that starts so share a colour."""


def digest(raw: dict[str, Any]) -> str:
    """Of what a picture is made from; it is written into the picture."""
    content = {"rates": rates_of(raw), "f1": raw["micro_f1"]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def draw(raw: dict[str, Any], path: Path) -> None:
    """Write the picture as SVG; only the fastest contender of each name and precision is named."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "studytag"
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    named = set()
    for name, rate in sorted(rates_of(raw).items(), key=lambda item: -item[1]):
        family = next((word for word in FAMILIES if name.startswith(word)), "other")
        colour = f"C{FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)}"
        axes.scatter(rate, raw["micro_f1"][name], color=colour)
        if (family, "int8" in name) not in named:
            named.add((family, "int8" in name))
            place = (rate, raw["micro_f1"][name])
            axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="documents/s", ylabel="micro-F1")
    axes.set_title(f"{raw['encoder']}, {raw['cores']} cores of {raw['machine']}", fontsize=9)
    axes.margins(0.15)
    figure.savefig(path, metadata={"Date": None, "Description": digest(raw)})
