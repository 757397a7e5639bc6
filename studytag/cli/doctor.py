"""`studytag doctor`: check that a bundle works here as it did where it was made."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from studytag.cli.options import add_signature_argument
from studytag.cli.terminal import show

if TYPE_CHECKING:
    from studytag.inference.doctor import Examination, VariantCheck


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.epilog = (
        "exit code 0: every variant reproduces the articles that the bundle carries; 1: one does "
        "not; 2: the bundle is damaged, or its signature is not right; 3: it carries no articles"
    )
    parser.add_argument(
        "bundle",
        nargs="?",
        help="folder, package, or hf://organisation/name on the Hub (default: the tagger that "
        "ships)",
    )
    parser.add_argument("--json", action="store_true", help="for scripts: print JSON")
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help="also measure the variants for some seconds; --variant auto goes by it from now on",
    )
    add_signature_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print what was found, and end with the exit code that the help tells.

    Raises:
        StudytagError: the bundle is damaged.
    """
    from studytag.inference.doctor import examine
    from studytag.inference.sources import find_bundle
    from studytag.manifest.signature import verify_signature

    folder = find_bundle(options.bundle)
    if options.require_signature is not None:
        verify_signature(folder, options.require_signature)
    if options.benchmark:
        from studytag.inference.benchmark import measure_and_keep

        measure_and_keep(folder)
    found = examine(folder)
    if options.json:
        summary = asdict(found) | {"fastest": found.fastest, "exit_code": found.exit_code}
        text = json.dumps(summary, indent=2)
    else:
        text = "\n".join(_lines(found, options.require_signature is not None))
    show(f"{text}\n")
    sys.stdout.flush()
    if found.exit_code:
        sys.exit(found.exit_code)


def _lines(found: Examination, verified: bool) -> Iterator[str]:
    machine = found.machine
    yield ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    int8 = {True: "has int8 instructions", False: "no int8 instructions", None: "int8 unknown"}
    yield f"processor: {machine.processor} ({int8[machine.fast_int8]})"
    quota = "no quota" if machine.quota is None else f"quota of {machine.quota:g}"
    yield f"cores: {machine.cores} of {machine.cores_of_machine} ({quota})"
    signature = "verified" if verified else "present, not verified" if found.signed else "none"
    yield f"bundle: {found.bundle}: {found.files} files as written; signature: {signature}"
    for name, version in found.made_with.items():
        if (here := machine.versions.get(name)) != version:
            yield f"note: made with {name} {version}, here is {here}"
    yield from map(_variant_line, found.variants)
    if not found.variants:
        yield "the bundle carries no articles to reproduce; export it again to have some"
        return
    yield f"auto takes {found.chosen}"
    unsafe = [each.name for each in found.variants if each.installed and not each.safe]
    if unsafe:
        advice = f"use --variant {found.fastest}" if found.fastest else "do not use it here"
        yield f"NOT SAFE here: {', '.join(unsafe)}; {advice}, or install other versions"
    else:
        yield f"safe here: {', '.join(each.name for each in found.variants if each.safe)}"
    if found.fastest:
        yield f"fastest of the safe that read everything: {found.fastest}"
    for name, rate in found.benchmark.items():
        yield f"benchmark: {name} {rate:.3g} documents/s on all cores"


def _rounded(rate: float | None) -> str:
    """Two digits that count, without an exponent; nothing of what was not measured."""
    return "?" if rate is None else f"{float(f'{rate:.2g}'):g}"


def _variant_line(check: VariantCheck) -> str:
    if not check.installed:
        return f"{check.name}: not checked: {check.failure}"
    if check.difference is None:
        return f"{check.name}: FAILED: {check.failure}"
    verdict = "reproduced" if check.safe else "NOT REPRODUCED"
    return (
        f"{check.name}: {check.articles} articles {verdict}, largest difference "
        f"{check.difference:.1e} (tolerance {check.tolerance:g}); about "
        f"{_rounded(check.articles_per_second)} articles/s"
    )
