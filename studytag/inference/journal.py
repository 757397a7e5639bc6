"""What a run has finished: outcomes in committed parts, in a work folder beside the output.

`outcomes.bin` holds a record of fixed size for each row: which labels were decided, and every
probability. `journal.jsonl` says what the run is (its first line), and then, one line a part, how
many rows were committed, the SHA-256 of their records, and the errors of rows that have no
prediction. A part counts once its line is on disk; what lies behind the last whole line was never
committed.
The parts hold nothing of the input: the output is made of its rows, read again, and these outcomes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from studytag.errors import InputError
from studytag.files.atomic import flush_folder, short_name, write_text_atomically
from studytag.inference.predictor import Outcome, Prediction

PART_ROWS = 5000
PART_SECONDS = 15.0
"""A part ends at so many rows or after so much time, whichever comes first: a kill costs one."""

_JOURNAL = "journal.jsonl"
_OUTCOMES = "outcomes.bin"


def work_folder(target: Path) -> Path:
    """Where the parts of a run that writes `target` are kept until it is complete."""
    return target.with_name(f".{short_name(target)}.studytag")


class Journal:
    """The committed outcomes of one run. Read `outcomes()` to its end before adding to them.

    Args:
        folder: The work folder; made if it is not there.
        identity: What the run is; stands in a new journal's first line.
        labels: The predictor's labels.
        seconds: When to commit a part that is not full.

    Attributes:
        folder: The work folder.
        rows: Rows committed.

    Raises:
        InputError: the folder holds another version's journal.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        labels: list[str],
        seconds: float = PART_SECONDS,
    ) -> None:
        self.folder = folder
        self._labels = labels
        self._seconds = seconds
        self._record = np.dtype(
            [("decided", np.bool_, (len(labels),)), ("probability", "<f4", (len(labels),))]
        )
        if not (folder / _JOURNAL).exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _OUTCOMES).write_bytes(b"")
            write_text_atomically(folder / _JOURNAL, _line(dict(identity)))
            flush_folder(folder.parent)
        self._lines = open(folder / _JOURNAL, "rb+", buffering=0)
        self._records = open(folder / _OUTCOMES, "rb+", buffering=0)
        self._lines_size = len(self._lines.readline())
        self._records_size = 0
        self._rows: list[tuple[list[bool], list[float]]] = []
        self._errors: dict[int, str] = {}
        self._since = time.monotonic()
        self.rows = sum(part["rows"] for part, _ in self._parts())

    def outcomes(self) -> Iterator[Outcome]:
        """The committed outcomes, in the order of the rows.

        A part that is not as it was written ends them: it and all after it are forgotten.
        """
        rows = 0
        for part, size in self._parts():
            block = self._records.read(part["rows"] * self._record.itemsize)
            if hashlib.sha256(block).hexdigest() != part["sha256"]:
                break
            self._records_size += len(block)
            self._lines_size += size
            rows += part["rows"]
            yield from self._decoded(np.frombuffer(block, self._record), part["errors"])
        self._forget_rest()
        self.rows = rows
        self._since = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Take one more row's outcome, and commit the part if it is due.

        Raises:
            OSError: as `commit`.
        """
        if isinstance(outcome, Prediction):
            # As float32, which the predictor computes in: nothing is rounded.
            decided = [label in outcome.labels for label in self._labels]
            self._rows.append((decided, [outcome.probabilities[name] for name in self._labels]))
        else:
            self._errors[len(self._rows)] = str(outcome)
            self._rows.append(([False] * len(self._labels), [0.0] * len(self._labels)))
        if len(self._rows) >= PART_ROWS or time.monotonic() - self._since >= self._seconds:
            self.commit()

    def commit(self) -> None:
        """Make what was added durable.

        Raises:
            OSError: that failed (disk full, folder gone); the parts before are as they were.
        """
        if not self._rows:
            return
        block = np.array(self._rows, dtype=self._record).tobytes()
        part = {
            "rows": len(self._rows),
            "sha256": hashlib.sha256(block).hexdigest(),
            "errors": {str(index): error for index, error in self._errors.items()},
        }
        line = _line(part).encode()
        try:
            self._check_folder()
            _append(self._records, block)
            _append(self._lines, line)
        except OSError:
            self._forget_rest()
            raise
        self._records_size += len(block)
        self._lines_size += len(line)
        self.rows += len(self._rows)
        self._rows, self._errors = [], {}
        self._since = time.monotonic()

    def close(self) -> None:
        """Close the files; the folder stays."""
        self._lines.close()
        self._records.close()

    def remove(self) -> None:
        """Close, and remove the folder: the output is complete."""
        self.close()
        remove_work_folder(self.folder)

    def _parts(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The parts in the journal with the size of their lines, up to the first broken line."""
        self._lines.seek(0)
        self._records.seek(0)
        with open(self._lines.fileno(), "rb", closefd=False) as lines:
            lines.readline()
            for line in lines:
                try:
                    part = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    return
                if part is None:
                    return
                yield part, len(line)

    def _decoded(self, records: Any, errors: Mapping[str, str]) -> Iterator[Outcome]:
        for index, (decided, probability) in enumerate(records.tolist()):
            error = errors.get(str(index))
            if error is not None:
                yield InputError(error)
                continue
            labels = [
                name for name, positive in zip(self._labels, decided, strict=True) if positive
            ]
            # A row of a structured array keeps its inner arrays, whose items are no plain floats.
            values = np.asarray(probability).tolist()
            yield Prediction(labels, dict(zip(self._labels, values, strict=True)))

    def _forget_rest(self) -> None:
        """Cut both files behind the last good part."""
        for file, size in ((self._records, self._records_size), (self._lines, self._lines_size)):
            file.truncate(size)
            file.seek(size)

    def _check_folder(self) -> None:
        """Refuse to write to a file that somebody removed: the system would let us."""
        try:
            in_place = os.path.samestat(
                os.stat(self.folder / _JOURNAL), os.fstat(self._lines.fileno())
            )
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.folder))


def stored_identity(folder: Path) -> dict[str, Any] | None:
    """What the run is whose parts lie in `folder`; None where there are none that can be used."""
    try:
        with open(folder / _JOURNAL, "rb") as lines:
            identity = json.loads(lines.readline())
    except (OSError, ValueError):
        return None
    return identity if isinstance(identity, dict) else None


def remove_work_folder(folder: Path) -> None:
    """Remove the parts of a run; the journal first, so that no half of a folder looks whole."""
    (folder / _JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True) + "\n"


def _append(file: BinaryIO | Any, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
    os.fsync(file.fileno())
