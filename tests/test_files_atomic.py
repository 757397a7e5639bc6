"""Outputs that appear complete or not at all, whatever becomes of their writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studytag.errors import InputError
from studytag.files import atomic_folder, atomic_path, repair_folder, write_text_atomically

HOLD = (
    "import sys, time; from studytag.files import {kind} as kind\n"
    "with kind(sys.argv[1]) as place:\n"
    "    print(place, flush=True); time.sleep(60)"
)


def writer(path: Path, kind: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that is busy writing `path`, and its temporary file or folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(kind=kind), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_second_writer_is_told_who_writes(tmp_path):
    target = tmp_path / "a.csv"
    process, _ = writer(target, "atomic_path")
    try:
        with pytest.raises(InputError) as caught:
            write_text_atomically(target, "mine")
    finally:
        process.kill()
        process.wait()
    assert str(caught.value).startswith(f"{target}: is being written by process {process.pid} on ")
    assert str(caught.value).endswith("; wait for it, or name another output")
    write_text_atomically(target, "mine")  # its death gave the lock back
    assert os.listdir(tmp_path) == ["a.csv"]


def test_two_writers_in_one_process(tmp_path):
    with atomic_path(tmp_path / "a"), pytest.raises(InputError, match="is being written by"):
        write_text_atomically(tmp_path / "a", "mine")
    with atomic_path(tmp_path / "a"), atomic_path(tmp_path / "b"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
@pytest.mark.parametrize("kind", ["atomic_path", "atomic_folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path, kind):
    target = tmp_path / "out"
    for _ in range(2):
        process, temporary = writer(target, kind)
        assert temporary.parent == tmp_path
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert temporary.exists()
    other = tmp_path / ".out.of.another.partial"
    other.touch()
    with atomic_folder(target) if kind == "atomic_folder" else atomic_path(target):
        pass
    assert sorted(os.listdir(tmp_path)) == [other.name, "out"]


def test_temporary_names_cannot_be_foreseen(tmp_path):
    names = set()
    for _ in range(3):
        with atomic_path(tmp_path / "a") as temporary:
            names.add(temporary.name)
    assert len(names) == 3


def test_long_names(tmp_path):
    write_text_atomically(tmp_path / ("n" * 250), "text")
    with atomic_folder(tmp_path / ("é" * 120)):
        pass
    with pytest.raises(InputError, match="cannot be written \\(.*too long\\)"):
        write_text_atomically(tmp_path / ("n" * 300), "text")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_in_one_line(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(InputError) as caught, atomic_path(target), open("/dev/full", "wb") as full:
        full.write(b"x")
    assert str(caught.value) == (
        f"{target}: cannot be written (No space left on device); "
        f"free some space or choose another place"
    )
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_errors_of_other_files_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        open(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_replaced_file_hands_its_permissions_on(tmp_path):
    target = tmp_path / "a"
    target.touch()
    target.chmod(0o640)
    write_text_atomically(target, "new")
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_file_without_write_permission_is_flushed_in_a_folder(tmp_path):
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "weights").write_text("1")
        (folder / "weights").chmod(0o444)
    assert (tmp_path / "model" / "weights").read_text() == "1"


def test_a_folder_lost_between_two_renames_comes_back(tmp_path):
    """The state that a process killed half-way leaves on systems without an exchange."""
    lost = tmp_path / ".model.0123456789ab.old"
    lost.mkdir()
    (lost / "weights").write_text("1")
    repair_folder(tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "1"
    os.rename(tmp_path / "model", lost)
    (tmp_path / ".model.lock").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "model"):
        raise ZeroDivisionError
    assert (tmp_path / "model" / "weights").read_text() == "1"
    assert os.listdir(tmp_path) == ["model"]


def test_a_lost_folder_is_left_to_a_writer_that_lives(tmp_path):
    with atomic_folder(tmp_path / "model"):
        (tmp_path / ".model.0123456789ab.old").mkdir()
        repair_folder(tmp_path / "model")
        assert not (tmp_path / "model").exists()


def test_the_second_file_of_a_killed_writer_goes_too(tmp_path):
    for name in ("0123456789ab.partial", "0123456789ab.partial.narrow0", "lock"):
        (tmp_path / f".a.parquet.{name}").touch()
    write_text_atomically(tmp_path / "a.parquet", "new")
    assert os.listdir(tmp_path) == ["a.parquet"]


@pytest.mark.skipif(sys.platform != "linux", reason="exchanges folders in one step")
def test_a_folder_is_there_at_every_moment(tmp_path):
    """A reader that looks all the time while the folder is replaced never misses it."""
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "version").write_text("0")
    watch = (
        "import sys, time\nprint('looking', flush=True)\nend = time.monotonic() + 1.0\n"
        "while time.monotonic() < end: open(sys.argv[1])\nprint('never missed')"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", watch, str(target / "version")], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "looking\n"
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        with atomic_folder(target) as folder:
            (folder / "version").write_text("1")
    assert reader.communicate()[0] == "never missed\n"
