"""`--log-json`: everything a run has to say, one JSON object a line on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studytag.errors import StudytagError
from studytag.inference.progress import FileSummary

_SECONDS = 10.0


class JsonListener:
    """Writes `begin`, `progress` (every ten seconds), `row_error` and `file` events."""

    def __init__(self) -> None:
        self._file = ""
        self._total: int | None = None
        self._kept = self._rows = self._failed = 0
        self._began = self._last = 0.0

    def begin(self, source: Path, total: int | None, kept: int) -> None:
        """Inference begins."""
        self._file, self._total, self._kept = str(source), total, kept
        self._rows, self._failed = kept, 0
        self._began = self._last = time.monotonic()
        _emit("begin", file=self._file, rows_estimated=total, rows_kept=kept)

    def row(self, number: int, error: str | None) -> None:
        """A row was written."""
        self._rows = number
        if error is not None:
            self._failed += 1
            _emit("row_error", file=self._file, row=number, message=error)
        now = time.monotonic()
        if now - self._last >= _SECONDS:
            self._last = now
            self._progress(now)

    def end(self, summary: FileSummary | None) -> None:
        """The file is complete, or the run has been cut short."""
        if summary is not None:
            _emit("file", file=self._file, **asdict(summary))

    def _progress(self, now: float) -> None:
        rate = (self._rows - self._kept) / (now - self._began)
        left = None if self._total is None else max(self._total - self._rows, 0) / max(rate, 1e-9)
        _emit(
            "progress",
            file=self._file,
            rows=self._rows,
            rows_estimated=self._total,
            errors=self._failed,
            rows_per_second=round(rate, 2),
            seconds_left=None if left is None else round(left),
        )


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values = dict(getattr(record, "fields", {}))
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return _event("log", level=record.levelname.lower(), message=record.getMessage(), **values)


@contextmanager
def json_log() -> Iterator[None]:
    """Log as JSON while the block runs; an error that a user can mend ends the program as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    try:
        yield
    except StudytagError as error:
        _emit("error", message=str(error), exit_code=error.exit_code)
        sys.exit(error.exit_code)
    finally:
        root.handlers[:] = before


def _event(event: str, **values: Any) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"event": event, "time": moment, **values}, ensure_ascii=False)


def _emit(event: str, **values: Any) -> None:
    sys.stderr.write(_event(event, **values) + "\n")
    sys.stderr.flush()
