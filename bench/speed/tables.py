"""Tables of speed, from raw measurements."""

from __future__ import annotations

import statistics
from typing import Any

from bench.harness.machine import best
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
    if products:
        caption += (
            f" One large matrix product: {best(products['fp32']):.0f} GFLOP/s in float32, "
            f"{best(products['int8']):.0f} GOP/s in int8."
        )
    header = ["Contender", "documents/s (median)"]
    header += ["tokens/s", "hardware utilisation"] if products else []
    header += ["int8 studytag is faster by", "fp32 studytag by", *(["micro-F1"] if f1 else [])]
    rates = rates_of(raw)
    rows = []
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        cells = [name, f"{rate:.1f}"]
        if products and tokens:
            peak = best(products["int8" if "int8" in name else "fp32"])
            share = rate * raw["gop_per_document"] / peak
            cells += [f"{rate * tokens:.0f}", f"{share:.0%}" if name not in CHEAP else "–"]
        own = [rates.get(f"studytag, {variant}") for variant in ("int8", "fp32")]
        cells += [f"×{value / rate:.2f}" if value else "–" for value in own]
        rows.append([*cells, *([number(f1.get(name))] if f1 else [])])
    return [caption, "", *markdown_table(header, rows)]


CHEAP = ("Keyword rules", "TF-IDF + logistic regression")
"""Contenders without an encoder, whose operations nobody counted."""


def footprint(raw: dict[str, Any]) -> list[str]:
    """Cold start, latency and memory of each contender."""
    caption = (
        f"{raw['encoder']}, {raw['articles']} documents, medians of {raw['rounds']} processes, "
        f"{raw['machine']}, {raw['date']}."
    )
    header = ["Contender", "cold start, s", "one article, p50 ms", "p99 ms", "peak memory, MiB"]
    rows = []
    for name, runs in raw["runs"].items():
        figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        cells = [name, f"{figures['cold_start_s']:.1f}"]
        cells += [f"{figures[key]:.0f}" for key in ("latency_p50_ms", "latency_p99_ms", "peak_mib")]
        rows.append(cells)
    return [caption, "", *markdown_table(header, rows)]


def files(raw: dict[str, Any]) -> list[str]:
    """The cost of reading and writing each format, and memory by the number of records."""
    model = raw["model_us"]
    lines = [
        f"{raw['articles']} real articles with all their columns; the {raw['variant']} model takes "
        f"{model / 1000:.1f} ms an article. {raw['machine']}, {raw['date']}.",
        "",
    ]
    header = ["Format", "read, µs an article", "write, µs", "both, share of the model's time"]
    rows = [
        [name, f"{read:.0f}", f"{write:.0f}", f"{(read + write) / model:.1%}"]
        for name, (read, write) in raw["costs_us"].items()
    ]
    lines += [*markdown_table(header, rows), ""]
    peaks = [[f"{int(count):,}", f"{peak:.0f}"] for count, peak in raw["peaks_mib"].items()]
    return lines + markdown_table(["Short records in the file", "peak memory, MiB"], peaks)


def scale(raw: dict[str, Any]) -> list[str]:
    """Start-up and memory of training by the size of its table."""
    header = ["Articles", "first time, s", "from the cache, s", "own memory, MiB: first"]
    header += ["from the cache", "mapped files, MiB"]
    rows = [
        [
            *(f"{int(count):,}", f"{first['seconds']:.0f}", f"{again['seconds']:.1f}"),
            *(f"{first['RssAnon']}", f"{again['RssAnon']}", f"{again['RssFile']}"),
        ]
        for count, (first, again) in raw["runs"].items()
    ]
    caption = f"{raw['encoder']}, texts of at most {raw['max_length']} tokens"
    return [f"{caption}, {raw['machine']}, {raw['date']}.", "", *markdown_table(header, rows)]


def training(raw: dict[str, Any]) -> list[str]:
    """Training speed of each contender, the fastest first; a step counts three forward passes."""
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in raw["runs"].items()
    }
    own = next(iter(medians.values()))
    scored = [key for key in own if "F1" in key]
    product = statistics.median(raw["fp32_product_rates"])
    caption = (
        f"{raw['articles']} articles of {raw['tokens_per_article']:.0f} tokens on average, "
        f"{raw['epochs']} epoch(s), {raw['encoder']}, medians of {raw['rounds']} round(s), "
        f"{raw['machine']}, {raw['date']}. One large matrix product: {product:.0f} GFLOP/s."
    )
    header = ["Contender", "articles/s", "studytag is faster by", "hardware utilisation"]
    header += ["peak memory, MiB", *scored]
    rows = []
    for name, figures in sorted(medians.items(), key=lambda item: item[1]["seconds"]):
        speed = raw["epochs"] * raw["articles"] / figures["seconds"]
        share = 3 * speed * raw["gflop_per_article"] / product
        cells = [name, f"{speed:.2f}", f"×{figures['seconds'] / own['seconds']:.2f}"]
        cells += [f"{share:.0%}", f"{figures['peak_mib']:.0f}"]
        rows.append([*cells, *(f"{figures[key]:.3f}" for key in scored)])
    return [caption, "", *markdown_table(header, rows)]
