"""How a run tells where it is: a bar for people, or whatever a caller makes of the same events."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from studytag.files import ERROR_COLUMN

logger = logging.getLogger(__name__)

WARNINGS = 10
"""Row errors of a file that the log names one by one; of the others it gives the number."""


@dataclass(frozen=True)
class FileSummary:
    """What `predict_file` did.

    Attributes:
        rows: Rows read and written.
        failed: Rows among them with an error.
        seconds: Wall-clock time of this process.
        kept: Rows among them whose outcome an earlier, interrupted run had left.
    """

    rows: int
    failed: int
    seconds: float
    kept: int = 0

    @property
    def rows_per_second(self) -> float:
        """The rate of this process: without the rows that were kept."""
        return (self.rows - self.kept) / max(self.seconds, 1e-9)

    def describe(self) -> str:
        """The summary in words, for logs."""
        return (
            f"{self.rows} rows in {self.seconds:.1f} s ({self.rows_per_second:.1f} per second), "
            f"{self.failed} with an error"
        )


class Listener(Protocol):
    """Hears of a file's progress, in the thread that called `predict_file`."""

    def begin(self, source: Path, total: int | None, kept: int) -> None:
        """Inference begins.

        Args:
            source: The file.
            total: Its rows, known or estimated; None where neither is possible.
            kept: Rows before this one that an earlier run had finished.
        """

    def row(self, number: int, error: str | None) -> None:
        """A row was written; `error` says what is wrong with it."""

    def end(self, summary: FileSummary | None) -> None:
        """The file is complete; or, without a summary, the run has been cut short."""


class Silent:
    """Says nothing but warnings about rows with an error."""

    def __init__(self) -> None:
        self._source = Path()
        self._failed = 0

    def begin(self, source: Path, total: int | None, kept: int) -> None:
        """Remember the file."""
        self._source = source
        self._failed = 0

    def row(self, number: int, error: str | None) -> None:
        """Warn of the first errors."""
        if error is not None:
            self._failed += 1
            if self._failed <= WARNINGS:
                logger.warning("%s: %.500s", self._source, error)  # the column has all of it

    def end(self, summary: FileSummary | None) -> None:
        """Give the number of the other errors."""
        if self._failed > WARNINGS:
            logger.warning(
                "%s: %d more rows with an error; see column %s",
                *(self._source, self._failed - WARNINGS, ERROR_COLUMN),
            )


class Bar(Silent):
    """A bar with rate, remaining time and errors, where standard error is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None

    def begin(self, source: Path, total: int | None, kept: int) -> None:
        """Draw the bar; rows that were kept stand on it and do not count for the rate."""
        super().begin(source, total, kept)
        try:
            from tqdm import tqdm
        except ImportError:  # CSV and JSONL are tagged without any extra installed
            return
        self._bar = tqdm(
            total=total, initial=kept, unit="article", desc=source.name, disable=None, leave=False
        )

    def row(self, number: int, error: str | None) -> None:
        """Move the bar."""
        if self._bar is not None:
            if error is not None:
                self._bar.set_postfix(errors=self._failed + 1, refresh=False)
            self._bar.update()
        super().row(number, error)

    def end(self, summary: FileSummary | None) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        super().end(summary)


def as_listener(progress: bool | Listener) -> Listener:
    """The listener that the argument `progress` of `predict_file` and `predict_folder` means."""
    if isinstance(progress, bool):
        return Bar() if progress else Silent()
    return progress
