"""Runs that are killed, stopped, or find the disk full: they go on, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import invented_articles

from studytag import Predictor
from studytag.errors import InputError, StoppedError
from studytag.files import open_writer, read_rows
from studytag.inference.files import Options, predict_file
from studytag.inference.identity import predictor_identity

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")

NOTE = "A note that no model reads. "

PATIENCE = 3600
"""Seconds until a process is given up: so many that a busy machine never decides a test."""


def articles(count: int, notes: int = 30) -> list[dict]:
    """Short texts, tagged fast, in rows large enough that a few make a large file."""
    return [
        {
            "pmid": str(10_000_000 + number),
            "title": row["title"],
            "abstract": "We measured plaque.",
            "year": 2020,
            "notes": NOTE * notes,
        }
        for number, row in enumerate(invented_articles(count))
    ]


def write(path: Path, rows: list[dict]) -> Path:
    with open_writer(path) as writer:
        for row in rows:
            writer.write(row)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("input") / "in.jsonl", articles(1500))


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    """As large, of fewer rows."""
    return write(tmp_path_factory.mktemp("input") / "in.jsonl", articles(400, 120))


@pytest.fixture(scope="module")
def predictor(exported):
    with Predictor(exported.bundle, variant="fp32", workers=2) as loaded:
        yield loaded


@pytest.fixture
def command(exported):
    """Starts `studytag predict`, committing often."""
    started: list[subprocess.Popen] = []

    def start(source: Path, target: Path, *options: str, **popen) -> subprocess.Popen:
        arguments = [str(source), str(target), "--bundle", str(exported.bundle)]
        process = subprocess.Popen(
            [sys.executable, "-m", "studytag", "predict", *arguments, "--variant", "fp32"]
            + ["--workers", "1", "--commit-every", "0.1", *options],
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def committed(target: Path) -> int:
    """The rows that the journal beside an output holds."""
    try:
        lines = (target.parent / f".{target.name}.studytag" / "journal.jsonl").read_bytes()
    except FileNotFoundError:
        return 0
    parts = [line for line in lines.split(b"\n")[1:-1]]
    return sum(json.loads(part)["rows"] for part in parts)


def wait_for_rows(process: subprocess.Popen, target: Path, rows: int) -> None:
    end = time.monotonic() + PATIENCE
    while committed(target) <= rows and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)


def finish(process: subprocess.Popen) -> str:
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, errors
    return errors


def assert_same(target: Path, expected: Path) -> None:
    if target.suffix == ".parquet":
        import pyarrow.parquet as pq

        found, wanted = pq.read_table(target), pq.read_table(expected)
        assert found.schema.equals(wanted.schema, check_metadata=True)
        assert found.equals(wanted)
    else:
        assert target.read_bytes() == expected.read_bytes()


def kill_until_done(command, source: Path, folder: Path, suffix: str, kills: int) -> None:
    expected = folder / f"expected{suffix}"
    finish(command(source, expected))
    target = folder / f"out{suffix}"
    chance = random.Random(suffix)
    kept = 0
    for _ in range(kills):
        process = command(source, target)
        if chance.random() < 0.7:
            wait_for_rows(process, target, kept)
        time.sleep(chance.random() * 0.5)
        process.kill()
        process.wait()
        now = committed(target)
        if target.exists():  # it was faster than the kill: begin again
            assert_same(target, expected)
            target.unlink()
            shutil.rmtree(folder / f".{target.name}.studytag", ignore_errors=True)
            now = 0
        else:
            assert now >= kept
        kept = now
    said = finish(command(source, target))
    assert not kept or f"going on after row {kept}" in said
    assert_same(target, expected)
    # Nothing is left of the killed: no parts, locks or temporary files.
    assert {path.name for path in folder.iterdir()} == {expected.name, target.name}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_killed_run_goes_on_and_ends_the_same(command, source, tmp_path, suffix):
    kill_until_done(command, source, tmp_path, suffix, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".ris"])
def test_fifty_kills(command, tmp_path, suffix):
    folder = tmp_path / "outputs"
    folder.mkdir()
    rows = articles(20_000)
    for number, row in enumerate(rows):
        if number % 10:  # errors of rows; they are as much a part of the output, and soon done
            row |= {"title": None, "abstract": None}
    source = write(tmp_path / "in.parquet", rows)
    kill_until_done(command, source, folder, suffix, kills=13)


def test_signals_end_a_run_in_order(command, source, tmp_path):
    target = tmp_path / "out.jsonl"
    kept = 0
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process = command(source, target)
        wait_for_rows(process, target, kept)
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE)[1]
        if target.exists():
            break
        assert process.returncode == 75
        assert committed(target) > kept
        kept = committed(target)
        last = said.strip().splitlines()[-1]
        assert last.startswith(f"error: {target}: stopped before its end; {kept} rows are kept in")
        assert last.endswith("run the same command to go on")
    finish(command(source, target))
    finish(command(source, tmp_path / "expected.jsonl"))
    assert_same(target, tmp_path / "expected.jsonl")


def limit_files_to(size: int):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_no_room_for_the_output(command, source, tmp_path):
    target = tmp_path / "out.jsonl"
    process = command(source, target, preexec_fn=limit_files_to(1_000_000))
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 74
    last = said.strip().splitlines()[-1]
    kept = committed(target)
    assert 0 < kept < 1500
    assert last.startswith(f"error: {target}: cannot be written (File too large)")
    assert f"{kept} rows are kept in {tmp_path / '.out.jsonl.studytag'}" in last
    assert [path.name for path in tmp_path.iterdir()] == [".out.jsonl.studytag"]
    finish(command(source, target))
    finish(command(source, tmp_path / "expected.jsonl"))
    assert_same(target, tmp_path / "expected.jsonl")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a given size, which only root may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: int, *options: str) -> Path:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}k", *options]), "tmpfs", disk],
            capture_output=True,
            check=False,
        )
        if made.returncode:
            pytest.skip("mounting a small file system takes root")
        return disk

    yield mount
    subprocess.run(["umount", "-l", disk], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".ris"])
def test_full_disks(command, source, tmp_path, small_disk, suffix):
    expected = tmp_path / f"expected{suffix}"
    finish(command(source, expected))
    # The output and the parts beside it, 50 bytes a row, never fit.
    needed = (expected.stat().st_size + 50 * 1500) // 1024
    disk = small_disk(48)
    target = disk / f"out{suffix}"
    kept = 0
    for step in range(5):
        room = 48 + max(needed // 2 - 48, 8) * step // 5  # parquet packs a continued run better
        subprocess.run(["mount", "-o", f"remount,size={room}k", disk], check=True)
        process = command(source, target)
        said = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 74, said
        assert "No space left on device" in said.strip().splitlines()[-1]
        assert committed(target) >= kept
        kept = committed(target)
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    finish(command(source, target))
    assert_same(target, expected)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(command, source, small_disk):
    target = small_disk(65536) / "out.jsonl"
    process = command(source, target)
    wait_for_rows(process, target, 0)
    target.parent.joinpath(".out.jsonl.studytag").chmod(0o700)
    done = subprocess.run(["mount", "-o", "remount,ro", target.parent], capture_output=True)
    if done.returncode:  # tmpfs refuses while a file is open for writing
        pytest.skip("this system does not remount a busy file system")
    assert process.wait(timeout=PATIENCE) == 74


def test_a_folder_that_vanishes(command, source, tmp_path):
    target = tmp_path / "outputs" / "out.jsonl"
    process = command(source, target)
    wait_for_rows(process, target, 0)
    shutil.rmtree(target.parent)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 74
    assert "No such file or directory" in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_a_second_run_says_who_holds_the_output(command, source, tmp_path):
    target = tmp_path / "out.jsonl"
    first = command(source, target)
    wait_for_rows(first, target, 0)
    first.send_signal(signal.SIGSTOP)  # or it may be done before the second looks
    second = command(source, target)
    said = second.communicate(timeout=PATIENCE)[1]
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert f"{target}: is being written by process {first.pid} on " in said
    finish(first)


def test_json_for_machines(command, tmp_path):
    rows = [*articles(3), {"pmid": "1", "title": " "}]
    source = write(tmp_path / "in.jsonl", rows)
    source.write_text(source.read_text() + "{broken\n")
    said = finish(command(source, tmp_path / "out.csv", "--log-json"))
    events = [json.loads(line) for line in said.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds.count("row_error") == 2
    assert {"begin", "file", "log"} <= set(kinds)
    summary = next(event for event in events if event["event"] == "file")
    assert (summary["rows"], summary["failed"], summary["kept"]) == (5, 2, 0)
    missing = command(tmp_path / "missing.csv", tmp_path / "out.csv", "--log-json")
    said = missing.communicate(timeout=PATIENCE)[1]
    assert missing.returncode == json.loads(said.splitlines()[-1])["exit_code"] == 2


class Stop:
    """Says stop once enough rows were read."""

    def __init__(self, rows: int) -> None:
        self.left = rows

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def cut_short(predictor, source: Path, target: Path, rows: int = 200, **options) -> None:
    with pytest.raises(StoppedError):
        predict_file(
            predictor,
            source,
            target,
            options=Options(commit_seconds=0.0, **options),  # as often as it can
            stop=Stop(rows),
            progress=False,
        )


def test_another_run_is_refused_and_restart_begins_anew(predictor, exported, short, tmp_path):
    copy, target = shutil.copy(short, tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    cut_short(predictor, copy, target)
    assert committed(target) == 200
    with pytest.raises(InputError, match=r"begun it differently \(operating point: f1, now fixed"):
        predict_file(predictor, copy, target, operating_point="fixed", progress=False)
    with Predictor(exported.bundle, variant="fp32", thresholds={"RCT": 0.9}) as other:
        with pytest.raises(InputError, match=r"thresholds of RCT\); run it as before, or"):
            predict_file(other, copy, target, progress=False)
        own = predictor_identity(other, None)
        assert predictor_identity(other, "f1") == predictor_identity(predictor, None) != own
    os.utime(copy, (1, 1))
    with pytest.raises(InputError, match="modification time of the input: .*, now 1970-01-01"):
        predict_file(predictor, copy, target, progress=False)
    with open(copy, "a") as stream:
        stream.write('{"title": "One more"}\n')
    with pytest.raises(InputError, match="size of the input: "):
        predict_file(predictor, copy, target, progress=False)
    assert committed(target) == 200
    summary = predict_file(predictor, copy, target, options=Options(restart=True), progress=False)
    assert (summary.rows, summary.kept) == (401, 0)


def test_an_input_known_by_its_whole_hash_may_be_copied(predictor, short, tmp_path):
    copy, target = shutil.copy(short, tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    cut_short(predictor, copy, target, hash_input=True)
    os.utime(copy, (1, 1))
    summary = predict_file(predictor, copy, target, progress=False)
    assert (summary.rows, summary.kept) == (400, 200)


@pytest.mark.parametrize("damage", ["torn journal", "torn outcomes", "altered outcomes"])
def test_parts_that_are_not_as_written_are_made_again(predictor, short, tmp_path, damage):
    expected, target = tmp_path / "expected.csv", tmp_path / "out.csv"
    predict_file(predictor, short, expected, progress=False)
    cut_short(predictor, short, target)
    folder = tmp_path / ".out.csv.studytag"
    journal, outcomes = folder / "journal.jsonl", folder / "outcomes.bin"
    if damage == "torn journal":
        journal.write_bytes(journal.read_bytes()[:-20])
    elif damage == "torn outcomes":
        outcomes.write_bytes(outcomes.read_bytes()[:-20])
    else:
        content = bytearray(outcomes.read_bytes())
        content[-30] ^= 1
        outcomes.write_bytes(content)
    summary = predict_file(predictor, short, target, progress=False)
    assert 0 < summary.kept < 200
    assert_same(target, expected)
    assert not folder.exists()


def test_errors_of_rows_are_kept_too(predictor, tmp_path):
    rows = articles(400, 120)
    for index in (3, 150, 399):
        rows[index] |= {"title": None, "abstract": None}
    source = write(tmp_path / "in.jsonl", rows)
    predict_file(predictor, source, tmp_path / "expected.csv", progress=False)
    cut_short(predictor, source, tmp_path / "out.csv")
    summary = predict_file(predictor, source, tmp_path / "out.csv", progress=False)
    assert (summary.rows, summary.failed, summary.kept) == (400, 3, 200)
    assert_same(tmp_path / "out.csv", tmp_path / "expected.csv")


def test_small_files_and_no_resume_keep_nothing(predictor, short, tmp_path):
    cut_short(predictor, short, tmp_path / "out.csv", resume=False)
    small = write(tmp_path / "small.csv", articles(20))
    cut_short(predictor, small, tmp_path / "out.csv", rows=10)
    assert [path.name for path in tmp_path.iterdir()] == ["small.csv"]


def test_an_input_that_changes_meanwhile(predictor, short, tmp_path):
    copy, target = Path(shutil.copy(short, tmp_path / "in.jsonl")), tmp_path / "out.jsonl"

    def stop() -> bool:
        os.utime(copy)
        return False

    with pytest.raises(InputError, match="was changed while it was read; .* --restart"):
        predict_file(predictor, copy, target, stop=stop, progress=False)
    assert not target.exists()


def test_rows_that_cannot_be_read_are_errors_of_rows(predictor, tmp_path):
    lines = ['{"title": "A trial"}', "{broken", '["list"]', '{"title": "\\ud800"}']
    lines += ['{"title": "B", "labels": 5}', '{"title": "C", "year": "in press"}']
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(["not json", *lines]) + "\n")
    for suffix in (".jsonl", ".csv", ".parquet", ".ris"):
        target = tmp_path / f"out{suffix}"
        summary = predict_file(predictor, source, target, progress=False)
        assert (summary.rows, summary.failed) == (7, 5)
        if suffix != ".ris":
            rows = list(read_rows(target))
            errors = [row["studytag_error"] for row in rows]
            assert [error is None for error in errors] == [False, True, *[False] * 4, True]
            assert errors[0].startswith("line 1: not JSON (")
            assert "it begins: {broken" in errors[2]


def test_cells_that_do_not_fit_their_row(predictor, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text('title,year\nA,2020\nB,2020,rest\nC\n"D" x,1\nE,in press\n')
    summary = predict_file(predictor, source, tmp_path / "out.csv", progress=False)
    assert (summary.rows, summary.failed) == (5, 3)
    errors = [row["studytag_error"] for row in read_rows(tmp_path / "out.csv")]
    assert "line 3: 3 cells under 2 columns" in errors[1]
    assert '(beyond them: ["rest"])' in errors[1]
    assert errors[3].startswith("line 5: ")


def test_values_that_the_output_cannot_hold(predictor, tmp_path):
    source = tmp_path / "in.jsonl"
    values = ["1", "1.5", '"text"', "[1]", '{"a": 1}', "[NaN]", "null"]
    lines = [f'{{"title": "A trial", "value": {value}}}' for value in values]
    source.write_text("\n".join([*lines, '{"title": "B", "other": 1}']) + "\n")
    for suffix in (".jsonl", ".csv", ".parquet"):
        target = tmp_path / f"out{suffix}"
        summary = predict_file(predictor, source, target, progress=False)
        assert summary.rows == 8
        rows = list(read_rows(target))
        assert all(row["studytag_labels"] is not None for row in rows)
        assert str(rows[7]["other"]) == "1"
        if suffix == ".jsonl":
            assert [row["value"] for row in rows[:6]] == [1, 1.5, "text", [1], {"a": 1}, "[NaN]"]
            assert "written as text" in rows[5]["studytag_error"]
        if suffix == ".parquet":
            found = [row["value"] for row in rows[:6]]
            assert found == ["1", "1.5", "text", "[1]", '{"a": 1}', "[NaN]"]


def test_a_text_that_is_too_long_for_a_cell(predictor, tmp_path):
    rows = [{"Title": "A trial", "n": 1}, {"Title": "B" * 40_000, "n": 2}, {"Title": "C", "n": 3}]
    source = tmp_path / "in.csv"
    source.write_text("\n".join(["Title,n", *(f"{row['Title']},{row['n']}" for row in rows)]))
    summary = predict_file(predictor, source, tmp_path / "out.xlsx", progress=False)
    assert (summary.rows, summary.failed) == (3, 1)
    found = list(read_rows(tmp_path / "out.xlsx"))
    assert [(len(row["title"]), row["n"]) for row in found] == [
        *((7, "1"), (32_767, "2"), (1, "3")),
    ]
    assert all(row["studytag_labels"] is not None for row in found)
    assert found[1]["studytag_error"].endswith(
        "cut after 32767 characters, the most that a cell of the output takes: title"
    )


@pytest.mark.slow
def test_more_rows_than_the_output_takes_are_refused_before_the_first(predictor, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("title\n" + "A\n" * 1_048_576)
    with pytest.raises(InputError, match=r"Excel takes 1,048,575 rows and .*in.csv has more"):
        predict_file(predictor, source, tmp_path / "out.xlsx", progress=False)


def test_whole_numbers_then_a_fraction(predictor, tmp_path):
    rows = [{"title": "", "value": 1}] * 10_000 + [{"title": "A", "value": 1.5}]
    source = write(tmp_path / "in.jsonl", rows)
    predict_file(predictor, source, tmp_path / "out.parquet", progress=False)
    assert [row["value"] for row in read_rows(tmp_path / "out.parquet")][-2:] == [1.0, 1.5]
