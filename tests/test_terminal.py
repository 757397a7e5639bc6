"""The command line under closed and full outputs, and with files that try to steer the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support import REPOSITORY, handmade_bundle

from studytag.cli.terminal import printable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells and signals of POSIX")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return handmade_bundle(tmp_path_factory.mktemp("terminal") / "bundle")


def shell(line, folder, **variables):
    """Run a line of the shell, in which $STUDYTAG is the command."""
    command = f"{sys.executable} -m studytag"
    return subprocess.run(
        ["bash", "-c", line.replace("$STUDYTAG", command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        check=False,
        timeout=600,
    )


OUTPUTS = {
    "closed": (">&-", 2, "standard output is closed"),
    "full": ("> /dev/full", 74, "No space left on device"),
    "a pipe nobody reads": ("| true", 0, ""),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_output_that_takes_nothing_is_one_line(tmp_path, bundle, kind):
    redirection, code, said = OUTPUTS[kind]
    done = shell(f"$STUDYTAG doctor {bundle} {redirection}", tmp_path)
    printed = done.stderr.decode()
    assert done.returncode == code, printed
    assert "Traceback" not in printed
    assert said in printed
    assert printed.count("\n") == (1 if said else 0)


def test_a_closed_standard_error_is_no_matter(tmp_path, bundle):
    done = shell(f"$STUDYTAG doctor {bundle} --json 2>&-", tmp_path)
    assert json.loads(done.stdout)["exit_code"] == 3


LINES = {
    "too long a name": f"predict a.csv {'x' * 300}.csv",
    "no such input": "predict none.csv b.csv",
    "the input is a folder that cannot be read": "predict a.csv /proc/none/b.csv",
    "a file larger than allowed": "predict a.csv b.csv --no-resume",
}


@pytest.mark.parametrize("kind", LINES)
def test_what_the_system_refuses_is_one_line(tmp_path, bundle, kind):
    (tmp_path / "a.csv").write_text("title\n" + "A trial\n" * 400)
    # Coverage of tests would write a larger file when the process ends, and be refused as well.
    limited = "unset COVERAGE_PROCESS_CONFIG; ulimit -f 4; trap '' XFSZ; "
    limit = limited if "larger" in kind else ""
    done = shell(f"{limit}$STUDYTAG {LINES[kind]} --bundle {bundle}", tmp_path)
    printed = done.stderr.decode()
    assert done.returncode in (2, 74), printed
    assert "Traceback" not in printed
    assert [line for line in printed.splitlines() if line][-1].startswith("error: ")
    assert not (tmp_path / "b.csv").exists()


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_control_characters_of_a_file_never_reach_the_terminal(tmp_path, bundle):
    rows = [
        {"pmid": HOSTILE, "title": ""},
        {"pmid": HOSTILE, "title": "A trial", HOSTILE: "x", "year": HOSTILE},
        {"pmid": HOSTILE, "title": 5},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / f"{HOSTILE}.csv").write_text(f"title{HOSTILE},b\nA trial\n")
    lines = [
        "predict a.jsonl b.csv",
        "predict a.jsonl b.parquet",
        f"predict {HOSTILE!r}.csv b.csv".replace(repr(HOSTILE), f"'{HOSTILE}'"),
        f"predict a.jsonl b.csv --input-format '{HOSTILE}'",
        f"doctor '{HOSTILE}'",
        "screen a.jsonl c.jsonl --keep RCT",
        "evaluate t.jsonl --robustness",
    ]
    table = [{"title": "A trial", "labels": ["RCT"], "source": HOSTILE} for _ in range(20)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    for line in lines:
        option = "" if line.startswith("doctor") else f" --bundle {bundle}"
        done = shell(f"$STUDYTAG {line}{option}", tmp_path)
        printed = (done.stdout + done.stderr).decode()
        assert printed
        assert not {*"\x1b\x07\x9b\u202e"} & {*printed}, line


def test_a_terminal_of_another_encoding_gets_every_report(tmp_path, bundle):
    (tmp_path / "a.jsonl").write_text(json.dumps({"title": "Wirkung von α-Tocopherol"}) + "\n")
    line = f"$STUDYTAG screen a.jsonl b.jsonl --keep RCT --operating-point f1 --bundle {bundle}"
    done = shell(line, tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr.decode()
    assert b"Wirkung von \\u03b1-Tocopherol" in done.stdout


def test_printable_leaves_text_as_it_is():
    text = "Zażółć 研究\tµ ± – 18\u00a0%\n"
    assert printable(text) == text
    assert printable(HOSTILE) == r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
