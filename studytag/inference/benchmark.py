"""Which variant of a bundle is the fastest on this machine: measured once, kept for the user.

What is fast differs between processors: int8 in onnxruntime is twice as fast as in OpenVINO on AMD
Zen 3, and slower than it on Zen 5 (docs/experiments.md). `variant="auto"` goes by what is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from studytag.documents import read_json
from studytag.errors import InputError
from studytag.hardware import available_cores, processor_name
from studytag.inference.model import Model
from studytag.manifest import Manifest, load_manifest, package_versions

SECONDS = 4.0
"""Of measuring; loading the variants comes on top."""

MINIMUM_ROUNDS = 3

_SENTENCE = "Of {} children, half were randomly assigned to fluoride varnish, half to placebo. "
_SENTENCES = (8, 14, 20, 26)
"""Articles of 150 to 500 tokens, as abstracts are."""


def runnable_variants(manifest: Manifest) -> list[str]:
    """The variants of a bundle whose engines are installed."""
    return [
        name
        for name, variant in manifest.variants.items()
        if name != "pytorch" and find_spec(variant.engine) is not None
    ]


def measure_variants(bundle: str | Path, seconds: float = SECONDS) -> dict[str, float]:
    """Documents a second of each variant that can run here, on all cores.

    The variants take turns for `seconds`, because the speed of shared machines drifts; a variant's
    rate is the median over the rounds.

    Raises:
        BundleError: the bundle is damaged.
    """
    bundle = Path(bundle)
    manifest = load_manifest(bundle)
    models = {name: Model(bundle, manifest, name) for name in runnable_variants(manifest)}
    cores = available_cores()
    articles = [_SENTENCE.format(50 + length) * length for length in _SENTENCES] * cores
    taken: dict[str, list[float]] = {name: [] for name in models}
    with ThreadPoolExecutor(cores) as pool:

        def run(model: Model) -> float:
            started = time.perf_counter()
            list(pool.map(model.read, articles))
            return time.perf_counter() - started

        for model in models.values():
            run(model)  # arenas grow, and OpenVINO compiles for each length
        finish = time.perf_counter() + seconds
        while len(next(iter(taken.values()))) < MINIMUM_ROUNDS or time.perf_counter() < finish:
            for name, model in models.items():
                taken[name].append(run(model))
    return {name: len(articles) / statistics.median(times) for name, times in taken.items()}


def measure_and_keep(bundle: str | Path, seconds: float = SECONDS) -> dict[str, float]:
    """As `measure_variants`; `variant="auto"` goes by it from now on.

    Raises:
        BundleError: the bundle is damaged.
        InputError: the user's cache cannot be written.
    """
    from studytag.files import write_json_atomically

    rates = measure_variants(bundle, seconds)
    path = _place(load_manifest(bundle, variants=()))
    write_json_atomically(path, {"processor": processor_name(), "documents_per_second": rates})
    return rates


def kept_rates(manifest: Manifest) -> Mapping[str, float]:
    """Documents a second as kept for this bundle, machine and engines; empty without any."""
    try:
        path = _place(manifest)
        stored = read_json(path, "measure again")["documents_per_second"] if path.is_file() else {}
        return {str(name): float(rate) for name, rate in stored.items()}
    except (InputError, OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError):
        return {}  # a cache that cannot be read is no cache; RuntimeError: there is no home


def _place(manifest: Manifest) -> Path:
    """The file of the cache: another for each bundle, processor, share of it, and version."""
    facts = {
        "graphs": {name: manifest.files[each.file] for name, each in manifest.variants.items()},
        "processor": processor_name(),
        "cores": available_cores(),
        "versions": package_versions(["onnxruntime", "openvino"]),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "studytag", "benchmarks", f"{digest[:16]}.json")
