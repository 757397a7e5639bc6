"""Tables of speed, and a picture of speed over F1, from raw measurements."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from studytag.evaluation.tables import markdown_table, number


def rates_of(raw: dict[str, Any]) -> dict[str, float]:
    """Documents a second of each contender, the median over rounds."""
    portion = raw["articles"] / raw["rounds"]
    return {name: portion / statistics.median(times) for name, times in raw["seconds"].items()}


def contenders(raw: dict[str, Any]) -> list[str]:
    """One line per contender, the fastest first."""
    products, f1 = raw.get("product_rates"), raw.get("micro_f1", {})
    tokens = raw.get("tokens_per_document")
    length = f" of {tokens:.0f} tokens on average" if tokens else ""
    caption = (
        f"{raw['articles']} documents{length} in {raw['rounds']} interleaved rounds, "
        f"{raw['encoder']}, {raw['cores']} cores of {raw['machine']}, {raw['date']}."
    )
    if raw.get("clock") == "process_time":
        caption += " Seconds are of processor time: other work shared the cores."
    if products:
        caption += (
            f" One large matrix product: {max(products['fp32'].values()):.0f} GFLOP/s in float32, "
            f"{max(products['int8'].values()):.0f} GOP/s in int8."
        )
    header = ["Contender", "documents/s (median)"]
    header += ["tokens/s", "hardware utilisation"] if products else []
    header += ["int8 studytag is faster by", "fp32 studytag by", *(["micro-F1"] if f1 else [])]
    rates = rates_of(raw)
    rows = []
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        cells = [name, f"{rate:.1f}"]
        if products and tokens:
            peak = max(products["int8" if "int8" in name else "fp32"].values())
            share = f"{rate * raw['gop_per_document'] / peak:.0%}"
            # Fast does not read all tokens, and the rate of bf16 is not measured.
            cells += [f"{rate * tokens:.0f}", "–" if re.search("fast|bf16", name) else share]
        own = [rates.get(f"studytag, {variant}") for variant in ("int8", "fp32")]
        cells += [f"×{value / rate:.2f}" if value else "–" for value in own]
        rows.append([*cells, *([number(f1.get(name))] if f1 else [])])
    return [caption, "", *markdown_table(header, rows)]


def footprint(raw: dict[str, Any]) -> list[str]:
    """Cold start, latency and memory of each contender."""
    caption = (
        f"{raw['encoder']}, {raw['articles']} documents, medians of {raw['rounds']} processes, "
        f"{raw['machine']}, {raw['date']}."
    )
    measures = {
        "latency_p50_ms": "one article, p50 ms",
        "latency_p99_ms": "p99 ms",
        "peak_mib": "peak memory, MiB",
        "installed_mib": "packages on disk, MiB",
    }
    first = next(iter(raw["runs"].values()))[0]
    shown = [key for key in measures if key in first]
    header = ["Contender", "cold start, s", *(measures[key] for key in shown)]
    rows = []
    for name, runs in raw["runs"].items():
        figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        cells = [name, f"{figures['cold_start_s']:.1f}"]
        cells += [f"{figures[key]:.0f}" for key in shown]
        rows.append(cells)
    return [caption, "", *markdown_table(header, rows)]


FAMILIES = ("studytag", "optimum", "OpenVINO", "CTranslate2", "transformers")
"""Contenders of a name that starts so share a colour, and have a marker each."""

MARKERS = "os^Dv<>pPX*h"
SMALLEST_RANGE = 0.1


def draw(raw: dict[str, Any], path: Path) -> None:
    """Write the picture as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "studytag"
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    drawn: Counter[int] = Counter()
    for name, rate in sorted(rates_of(raw).items(), key=lambda item: -item[1]):
        family = [name.startswith(word) for word in FAMILIES].index(True)
        marker = MARKERS[drawn[family] % len(MARKERS)]
        drawn[family] += 1
        place = (rate, raw["micro_f1"][name])
        axes.scatter(*place, label=name, color=f"C{family}", marker=marker, alpha=0.8)
    figure.legend(loc="outside right upper", fontsize=7, title="the fastest first")
    axes.set(xscale="log", xlabel="documents/s", ylabel=f"micro-F1 of {raw['articles']} articles")
    axes.set_title(f"{raw['encoder']}, {raw['cores']} cores of {raw['machine']}", fontsize=9)
    axes.margins(0.1)
    # Of some hundred articles a point of F1 is noise: the scale must not make much of it.
    low, high = min(raw["micro_f1"].values()), max(raw["micro_f1"].values())
    half = max((high - low) * 0.6, SMALLEST_RANGE / 2)
    axes.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


CORES = (16, 64, 256)


def cost(raw: dict[str, Any]) -> list[str]:
    """Hours that a collection takes; articles do not depend on each other, so cores add up."""
    caption = (
        f"{raw['records']:,} records like {raw['articles']} articles of "
        f"{raw['words_per_document']:.0f} words on average: processor time on one core of "
        f"{raw['machine']}, median of {raw['rounds']} interleaved rounds on a machine shared with "
        f"other work, so indicative, {raw['date']}."
    )
    header = ["Encoder, variant", "records/s and core", "core hours"]
    header += [f"hours on {cores} cores" for cores in CORES]
    rows = []
    for name, seconds in raw["processor_seconds"].items():
        rate = raw["articles"] / statistics.median(seconds)
        hours = raw["records"] / rate / 3600
        cells = [name, f"{rate:.1f}", f"{hours:,.0f}"]
        rows.append([*cells, *(f"{hours / cores:,.0f}" for cores in CORES)])
    return [caption, "", *markdown_table(header, rows)]


def runs(raw: dict[str, Any]) -> list[str]:
    """What committed parts add to a run, and the memory of long and wide files."""
    lines = [f"`studytag predict` on {raw['machine']}, {raw['date']}."]
    if "overhead" in raw:
        pairs = zip(raw["overhead"]["parts"], raw["overhead"]["direct"], strict=True)
        added = np.array([np.divide(parts, direct) - 1 for parts, direct in pairs])
        wall, processor = np.median(added, axis=0)
        lines[0] += (
            f" Committed parts add {processor:+.1%} of processor time and {wall:+.1%} of wall-clock"
            f" time: medians of {len(added)} paired rounds over {raw['articles']} articles."
        )
    if "peak_mib" in raw:
        rows = [[name, f"{peak:.0f}"] for name, peak in raw["peak_mib"].items()]
        lines += ["", *markdown_table(["File", "peak memory, MiB"], rows)]
    return lines
