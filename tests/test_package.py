"""The package as users get it: a wheel, installed by itself, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from support import REPOSITORY

import studytag

PROGRAM = """
import sys
from importlib.metadata import version
import studytag
assert studytag.__version__ == version("studytag")
for bundle in (None, sys.argv[1]):
    with studytag.Predictor(bundle) as predictor:
        (prediction,) = predictor.predict({"title": "A trial of sealants in children"})
    print(sorted(prediction.probabilities) == sorted(predictor.labels))
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--outdir", folder)
    run(*build, cwd=REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_everything_but_tests_and_benchmarks(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names}
    assert {name for name in packages if not name.endswith(".dist-info")} == {"studytag"}
    for file in (REPOSITORY / "studytag").rglob("*"):
        if file.suffix in (".py", ".yaml", ".j2", ".typed", ".ris", ".json", ".onnx"):
            assert file.relative_to(REPOSITORY).as_posix() in names


@pytest.mark.slow
def test_the_wheel_alone_serves_a_bundle(wheel, exported, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", wheel)
    output = run(scripts / "python", "-c", PROGRAM, exported.bundle, cwd=tmp_path)
    assert output.split() == ["True", "True"]
    packages = next((tmp_path / "venv").rglob("site-packages"))
    installed = [path for path in packages.rglob("*") if path.is_file()]
    pip = sum(path.stat().st_size for path in installed if "pip" in path.parts)
    assert sum(path.stat().st_size for path in installed) - pip < 260e6
    article = ("--title", "A trial of sealants", "--bundle", exported.bundle)
    assert "threshold" in run(scripts / "studytag", "predict", *article, cwd=tmp_path)
    training = subprocess.run(
        [scripts / "studytag", "train"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert training.returncode == 2
    assert "pip install 'studytag[train]'" in training.stderr
    assert len(training.stderr.splitlines()) == 1


def test_the_version_is_known_in_a_checkout_that_is_not_installed(tmp_path):
    program = "import studytag; print(studytag.__version__)"
    command = [sys.executable, "-S", "-c", program]  # no site-packages
    assert run(*command, cwd=REPOSITORY).strip() == studytag.__version__
