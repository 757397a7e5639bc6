"""Whether a bundle gives here what it gave where it was made, and how fast.

The manifest holds invented articles with the probabilities that each variant had at export. They
are predicted again on this machine, with its processor and libraries.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from studytag.errors import MissingDependencyError, StudytagError
from studytag.hardware import available_cores, cpu_quota, has_fast_int8, processor_name
from studytag.inference.benchmark import kept_rates
from studytag.inference.predictor import Predictor
from studytag.inference.sources import local_folder
from studytag.manifest import FAST, SIGNATURE, Manifest, load_manifest, package_versions
from studytag.version import __version__

TOLERANCES = {"fp32": 1e-4, "int8": 0.02, FAST: 0.02}
"""How far a probability may lie from that at export. Processors add float32 numbers in another
order (1e-6); where that rounds an int8 activation to its neighbour, more follows."""

PACKAGES = ("onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True)
class Machine:
    """Where the bundle was examined.

    Attributes:
        versions: Package to version, Python's among them.
        processor: Its name.
        fast_int8: Whether it has int8 instructions; None where the system does not tell.
        cores: That this process may use.
        cores_of_machine: All.
        quota: Cores that the container may use; None without a limit.
    """

    versions: Mapping[str, str]
    processor: str
    fast_int8: bool | None
    cores: int
    cores_of_machine: int
    quota: float | None

    @classmethod
    def here(cls) -> Machine:
        """The machine that the process runs on."""
        quota = cpu_quota()
        python = {"studytag": __version__, "python": platform.python_version()}
        return cls(
            versions=python | package_versions(PACKAGES),
            processor=processor_name(),
            fast_int8=has_fast_int8(),
            cores=available_cores(),
            cores_of_machine=os.cpu_count() or 1,
            quota=quota if math.isfinite(quota) else None,
        )


@dataclass(frozen=True)
class VariantCheck:
    """One variant on the golden articles.

    Attributes:
        name: Of the variant.
        articles: How many there are.
        difference: The largest difference of a probability; None where it could not be computed.
        tolerance: The largest that is taken.
        articles_per_second: Measured on these few, so a rough figure.
        failure: Why it could not be computed.
        installed: Whether what runs it is installed here.
    """

    name: str
    articles: int
    tolerance: float
    difference: float | None = None
    articles_per_second: float | None = None
    failure: str | None = None
    installed: bool = True

    @property
    def safe(self) -> bool:
        """Whether it gives what it gave at export."""
        return self.difference is not None and self.difference <= self.tolerance


@dataclass(frozen=True)
class Examination:
    """What `studytag doctor` found.

    Attributes:
        machine: Where.
        bundle: Its folder.
        files: How many of its files are as they were written.
        signed: Whether it carries a signature (`--require-signature` verifies it).
        made_with: The versions of `PACKAGES` at export.
        chosen: The variant that `auto` takes here; None where it does not load.
        variants: Each on the golden articles.
        benchmark: Documents a second by variant, where `doctor --benchmark` measured them here.
    """

    machine: Machine
    bundle: str
    files: int
    signed: bool
    made_with: Mapping[str, str]
    chosen: str | None
    variants: list[VariantCheck] = field(default_factory=list)
    benchmark: Mapping[str, float] = field(default_factory=dict)

    @property
    def fastest(self) -> str | None:
        """The fastest variant among the safe ones that answer in full."""
        speeds = {
            each.name: self.benchmark.get(each.name, each.articles_per_second or 0)
            for each in self.variants
            if each.safe and each.name != FAST
        }
        return max(speeds, key=lambda name: speeds[name]) if speeds else None

    @property
    def exit_code(self) -> int:
        """0: all variants reproduce; 1: one does not; 3: there is nothing to reproduce."""
        tried = [each for each in self.variants if each.installed]
        if not all(each.safe for each in tried):
            return 1
        return 0 if tried else 3


def examine(bundle: str | Path | None = None) -> Examination:
    """Verify a bundle's files and predict its golden articles with every variant.

    Args:
        bundle: The folder; None is the tagger that ships with studytag.

    Raises:
        BundleError: it is incomplete, altered or no bundle.
    """
    folder = local_folder(bundle)
    manifest = load_manifest(folder)
    offered = manifest.served_variants(folder)
    machine = Machine.here()
    checks = [_check(folder, manifest, name) for name in offered] if manifest.golden else []
    return Examination(
        machine=machine,
        bundle=str(folder),
        files=len(manifest.files) + 1,
        signed=(folder / SIGNATURE).is_file(),
        made_with={
            name: version for name, version in manifest.versions.items() if name in PACKAGES
        },
        chosen=_chosen(folder),
        variants=checks,
        benchmark=kept_rates(manifest),
    )


def _chosen(folder: Path) -> str | None:
    try:
        with Predictor(folder) as predictor:
            return predictor.variant
    except StudytagError:
        return None


def _check(folder: Path, manifest: Manifest, variant: str) -> VariantCheck:
    golden = manifest.golden
    tolerance = TOLERANCES.get(variant, max(TOLERANCES.values()))
    records = [{"title": each.title, "abstract": each.abstract} for each in golden]
    expected = np.array([each.probabilities[variant] for each in golden])
    try:
        with Predictor(folder, variant=variant) as predictor:  # type: ignore[arg-type]
            found = predictor.predict_proba(records)
            started = time.perf_counter()
            predictor.predict_proba(records)
            seconds = time.perf_counter() - started
    except StudytagError as error:
        installed = not isinstance(error, MissingDependencyError)
        return VariantCheck(
            variant, len(golden), tolerance, failure=str(error), installed=installed
        )
    return VariantCheck(
        name=variant,
        articles=len(golden),
        tolerance=tolerance,
        difference=float(np.abs(found - expected).max()),
        articles_per_second=len(golden) / seconds,
    )
