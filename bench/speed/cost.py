"""What tagging a large collection costs: records a second and core, of each variant."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from bench.harness.machine import interleaved, occasion
from bench.speed.inference import sample_articles
from studytag import Predictor
from studytag.manifest import load_manifest


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Each bundle and variant tags the same articles on one core, in turns.

    Processor time, since it is what a cluster is paid by, and other work on a shared machine
    disturbs it less than wall-clock time does.
    """
    articles, _ = sample_articles(options.source, options.articles)
    texts = [f"{row.get('title') or ''} {row.get('abstract') or ''}" for row in articles]
    predictors, seconds = {}, {}
    for bundle in options.bundle:
        manifest = load_manifest(bundle)
        for variant in manifest.variants:
            predictor = Predictor(bundle, variant=variant, workers=1)  # type: ignore[arg-type]
            predictor.predict_proba(articles[:5])
            predictors[f"{manifest.encoder}, {variant}"] = predictor
            seconds[f"{manifest.encoder}, {variant}"] = [0.0] * options.rounds

    def task(name: str) -> Any:
        def run(number: int) -> None:
            started = time.process_time()
            predictors[name].predict_proba(articles)
            seconds[name][number] = time.process_time() - started

        return run

    interleaved({name: task(name) for name in predictors}, options.rounds)
    return {
        "kind": "cost",
        "articles": len(articles),
        "rounds": options.rounds,
        "records": options.records,
        "words_per_document": statistics.mean(len(text.split()) for text in texts),
        "processor_seconds": seconds,
        **occasion(),
    }
