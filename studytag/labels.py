"""The label set: names in their fixed order, and multi-hot encoding with a mask of the known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studytag.errors import InputError


@dataclass(frozen=True)
class LabelSet:
    """Label names in the order of every array's columns.

    Raises:
        InputError: no name, a name twice, or an empty name.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names or not all(self.names) or len(set(self.names)) < len(self.names):
            raise InputError(f"label names must be given, non-empty and distinct: {self.names}")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def encode(
        self, rows: Sequence[Iterable[str] | None], column: str, first_row: int = 1
    ) -> NDArray[np.bool_]:
        """Multi-hot encode one list of label names for each row; None is an empty list.

        Args:
            rows: Lists of names.
            column: Where they are from, for messages.
            first_row: The number of the first row, for messages.

        Returns:
            Booleans of shape (len(rows), len(self)).

        Raises:
            InputError: a name is not of this label set; names the row and the column.
        """
        position = {name: index for index, name in enumerate(self.names)}
        encoded = np.zeros((len(rows), len(self)), dtype=np.bool_)
        for index, row in enumerate(rows):
            for name in row if row is not None else ():
                if name not in position:
                    raise InputError(
                        f"row {first_row + index}, column {column!r}: unknown label {name!r}; "
                        f"the labels are {', '.join(self.names)}"
                    )
                encoded[index, position[name]] = True
        return encoded

    def decode(self, multi_hot: NDArray[np.bool_]) -> list[str]:
        """The names set in one row, shape (len(self),)."""
        return [name for name, present in zip(self.names, multi_hot, strict=True) if present]
