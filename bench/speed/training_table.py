"""The table of training speed, from raw measurements."""

from __future__ import annotations

import statistics
from typing import Any

from studytag.evaluation.tables import markdown_table, number


def training(raw: dict[str, Any]) -> list[str]:
    """One line per contender, the fastest first; rates are medians of the rounds, F1 are means."""
    own = next(name for name in raw["runs"] if name.startswith("studytag, "))
    options, peaks = raw["options"], raw["product_rates"]
    products = " and ".join(
        f"{statistics.median(rates):.0f} GFLOP/s in {'float32' if kind == 'no' else kind}"
        for kind, rates in peaks.items()
    )
    caption = (
        f"{raw['articles']} articles, {raw['epochs']} epochs, batches of "
        f"{options['per_device_train_batch_size']} articles (studytag's of at most "
        f"{options['tokens_per_batch']} tokens), learning rate {options['learning_rate']:g}, "
        f"{raw['encoder']}, {raw['rounds']} interleaved rounds, PyTorch {raw['torch']}, "
        f"{raw['machine']}, {raw['date']}. One large matrix product: {products}. Hardware "
        "utilisation is 3 x the operations of a forward pass over the real tokens, by that product "
        f"in the same precision. F1 on {raw['validation_articles'] // 2} other articles, mean of "
        "the rounds' seeds."
    )
    if raw["clock"] == "process_time":
        caption += " Processor seconds of one thread: other work shared the cores."
    seconds = {
        name: statistics.median(run["seconds"] for run in runs)
        for name, runs in raw["runs"].items()
    }
    header = ["Contender", "articles/s (slowest–fastest)", f"{own} is faster by", "tokens/s"]
    header += ["hardware utilisation", "peak memory, MiB", "micro-F1", "macro-F1"]
    rows = []
    for name, median in sorted(seconds.items(), key=lambda item: item[1]):
        runs, total = raw["runs"][name], raw["articles"] * raw["epochs"]
        slowest, fastest = (total / pick(run["seconds"] for run in runs) for pick in (max, min))
        peak = statistics.median(peaks[raw["precision"][name]])
        f1 = [statistics.mean(run[score] for run in runs) for score in ("micro_f1", "macro_f1")]
        rows.append(
            [
                name,
                f"{total / median:.1f} ({slowest:.1f}–{fastest:.1f})",
                f"×{median / seconds[own]:.2f}",
                f"{raw['tokens'][name] / median:.0f}",
                f"{raw['gop'][name] / median / peak:.1%}",
                f"{max(run['peak_mib'] for run in runs):.0f}",
                *map(number, f1),
            ]
        )
    return [caption, "", *markdown_table(header, rows)]
