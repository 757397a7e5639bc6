"""Labelled tables as token ids: tokenised once, then read from memory-mapped Arrow files."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from studytag.dataset import LabelledTable, read_chunks, rows_with_known_label, table_hash
from studytag.files import atomic_path
from studytag.labels import LabelSet
from studytag.records import TextRecipe

logger = logging.getLogger(__name__)

_FORMAT = 2
"""Incremented when the same table gives other files, so that older ones are not read."""


class TokenisedTable:
    """A table whose token ids stay on disk. It takes about 30 bytes of memory an article.

    Attributes:
        path: The Arrow file.
        lengths: Tokens of each article, special tokens included, shape (n,).
        truth: Shape (n, labels).
        known: Shape (n, labels); where False, truth means nothing.
        source_hash: Of the content of the table's files.
    """

    def __init__(self, path: Path, source_hash: str) -> None:
        """Map the file.

        Raises:
            pyarrow.ArrowInvalid: it is damaged.
        """
        self.path = path
        self.source_hash = source_hash
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        columns = [batch.column("token_ids") for batch in batches]
        self._values = [column.values.to_numpy() for column in columns]
        self._offsets = [column.offsets.to_numpy() for column in columns]
        self._first_rows = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self.lengths = np.concatenate([np.diff(offsets) for offsets in self._offsets])
        self.truth, self.known = (
            np.concatenate([_matrix(batch.column(name)) for batch in batches])
            for name in ("truth", "known")
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[type[TokenisedTable], tuple[Path, str]]:
        """Pickled as its path: another process maps the file itself."""
        return TokenisedTable, (self.path, self.source_hash)

    def token_ids(self, row: int) -> NDArray[np.integer[Any]]:
        """The tokens of one article, shape (its length,); a view of the file."""
        batch = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        begin, end = self._offsets[batch][row - self._first_rows[batch] :][:2]
        tokens: NDArray[np.integer[Any]] = self._values[batch][begin:end]
        return tokens

    def count_shared(self, other: TokenisedTable) -> int:
        """How many articles of this table have exactly the tokens of one in `other`.

        Those without a known label count for nothing in either. A million articles take 3 s.
        """
        ours = Counter(self._hashes())
        return sum(ours[article] for article in {each for each in other._hashes() if each in ours})

    def _hashes(self) -> Iterator[int]:
        """A number for each article's tokens, which only this process understands."""
        return (hash(self.token_ids(row).tobytes()) for row in rows_with_known_label(self.known))


def tokenise(
    source: str | Path,
    labels: LabelSet,
    tokenizer: PreTrainedTokenizerFast,
    recipe: TextRecipe,
    max_length: int,
    cache: Path,
) -> TokenisedTable:
    """The token ids of a labelled table, from `cache` if it was tokenised in this way before.

    The table is streamed, so that it may be larger than memory. The file's name is a hash of the
    table's content and of everything that decides its tokens.

    Args:
        source: As `read_chunks` takes it.
        labels: Of the table.
        tokenizer: Of the encoder.
        recipe: Makes an article's text.
        max_length: Texts are truncated to this many tokens.
        cache: A folder; it may be emptied whenever no run is in progress.

    Raises:
        InputError: as `read_chunks`; or `cache` cannot be written.
    """
    source_hash = table_hash(Path(source))
    origin = [
        _FORMAT,
        source_hash,
        list(labels),
        _fingerprint(tokenizer),
        recipe.to_dict(),
        max_length,
    ]
    key = hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:16]
    target = cache / f"{Path(source).stem}-{key}.arrow"
    if target.is_file():
        try:
            return TokenisedTable(target, source_hash)
        except pa.ArrowInvalid:
            logger.warning("%s is damaged: tokenising again", target)
    schema = _schema(tokenizer, labels)
    with atomic_path(target) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for chunk in read_chunks(source, labels):
                writer.write_batch(_tokens(chunk, tokenizer, recipe, max_length, schema))
    return TokenisedTable(target, source_hash)


def _fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Everything that decides which tokens a text becomes, except for the length."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Every call sets these two anew; of the first, only the side is the tokenizer's.
    return json.dumps(state | {"truncation": tokenizer.truncation_side, "padding": None})


def _schema(tokenizer: PreTrainedTokenizerFast, labels: LabelSet) -> pa.Schema:
    token = pa.uint16() if max(tokenizer.get_vocab().values()) < 2**16 else pa.int32()
    cells = pa.list_(pa.uint8(), len(labels))
    return pa.schema({"token_ids": pa.list_(token), "truth": cells, "known": cells})


def _tokens(
    chunk: LabelledTable,
    tokenizer: PreTrainedTokenizerFast,
    recipe: TextRecipe,
    max_length: int,
    schema: pa.Schema,
) -> pa.RecordBatch:
    encoded = tokenizer(
        recipe.compose_records(chunk.rows),
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    cells = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(matrix.astype(np.uint8).ravel()), matrix.shape[1]
        )
        for matrix in (chunk.truth, chunk.known)
    ]
    ids = pa.array(encoded, schema.field("token_ids").type)
    return pa.RecordBatch.from_arrays([ids, *cells], schema=schema)


def _matrix(column: pa.FixedSizeListArray) -> NDArray[np.bool_]:
    matrix: NDArray[np.uint8] = column.values.to_numpy().reshape(len(column), -1)
    return matrix.astype(np.bool_)
