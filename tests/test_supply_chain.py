"""What is installed to serve: pinned, hashed, and under licences that go with ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from support import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

LOCK = REPOSITORY / "requirements" / "serve.txt"
PERMISSIVE = re.compile(
    r"Apache|MIT|BSD|ISC|PSF|Python Software Foundation|MPL|Mozilla|HPND|Unlicense|0BSD|Zlib",
    re.IGNORECASE,
)


def locked():
    """Package to its entries: requirement and number of hashes."""
    entries = {}
    for block in re.split(r"\n(?=\S)", LOCK.read_text().strip()):
        line = block.split("\\")[0].strip()
        requirement = Requirement(line)
        entries.setdefault(requirement.name.lower(), []).append(
            (requirement, block.count("--hash=sha256:"))
        )
    return entries


def wanted():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return map(Requirement, project["dependencies"] + extras["files"] + extras["serve"][1:])


def test_every_package_is_pinned_with_hashes_and_fits_pyproject():
    entries = locked()
    assert all(hashes for group in entries.values() for _, hashes in group)
    for requirement in wanted():
        for pinned, _ in entries[requirement.name.lower()]:
            (pin,) = pinned.specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version), requirement


def test_the_licences_of_what_serves_are_permissive():
    names = sorted(locked())
    listing = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--format=json", "--from=all", "--packages", *names],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = json.loads(listing.stdout)
    assert len(packages) > 15
    for package in packages:
        licences = [package[key] for key in ("License-Metadata", "License-Classifier")]
        licences.append(package.get("License-Expression", ""))
        assert any(map(PERMISSIVE.search, licences)), package
