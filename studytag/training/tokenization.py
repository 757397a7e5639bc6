"""Labelled tables as token ids: made once, then read from memory-mapped Arrow files."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from studytag.bundle import sha256
from studytag.errors import InputError
from studytag.evaluation.split import Split, read_chunks
from studytag.files import atomic_path, source_files
from studytag.labels import LabelSet
from studytag.records import TextRecipe

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Counted up when the files' layout changes, so that older ones are left alone."""


class TokenisedTable:
    """A table whose token ids stay on disk. In memory it takes some 30 bytes an article.

    Attributes:
        path: The Arrow file.
        lengths: Tokens of each article, special tokens included, shape (n,).
        truth: Shape (n, labels).
        known: Shape (n, labels); where False, truth says nothing.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            pyarrow.ArrowInvalid: it is damaged.
        """
        self.path = path
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        ids = [batch.column("token_ids") for batch in batches]
        self._values = [each.values.to_numpy() for each in ids]
        self._offsets = [each.offsets.to_numpy() for each in ids]
        self._first_rows = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self.lengths = np.concatenate([np.diff(each) for each in self._offsets])
        self.truth, self.known = (
            np.concatenate([_matrix(batch.column(name)) for batch in batches])
            for name in ("truth", "known")
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[type[TokenisedTable], tuple[Path]]:
        """Other processes map the file themselves."""
        return TokenisedTable, (self.path,)

    def token_ids(self, row: int) -> NDArray[np.integer[Any]]:
        """The tokens of one article, shape (its length,); a view of the file."""
        batch = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        begin, end = self._offsets[batch][row - self._first_rows[batch] :][:2]
        tokens: NDArray[np.integer[Any]] = self._values[batch][begin:end]
        return tokens


def tokenise(
    source: str | Path,
    labels: LabelSet,
    tokenizer: PreTrainedTokenizerBase,
    recipe: TextRecipe,
    max_length: int,
    cache: Path,
) -> TokenisedTable:
    """The token ids of a labelled table, out of `cache` if it was tokenised in this way before.

    The table is read in one stream, so that it may be larger than memory. The file's name is a
    hash of the table's content and of all that makes tokens of it.

    Args:
        source: As `read_chunks` takes it.
        labels: Of the table.
        tokenizer: Of the encoder.
        recipe: Makes an article's text.
        max_length: Texts are cut to this many tokens.
        cache: A folder; it may be emptied at any time when no run is under way.

    Raises:
        InputError: as `read_chunks`; or `cache` cannot be written.
    """
    origin = [
        _FORMAT,
        [sha256(file) for file in source_files(Path(source))],
        list(labels),
        _fingerprint(tokenizer),
        recipe.to_dict(),
        max_length,
    ]
    key = hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:16]
    target = cache / f"{Path(source).stem}-{key}.arrow"
    if target.is_file():
        try:
            return TokenisedTable(target)
        except pa.ArrowInvalid:
            logger.warning("%s is damaged: tokenising again", target)
    schema = _schema(tokenizer, labels)
    try:
        with atomic_path(target) as temporary, pa.OSFile(str(temporary), "wb") as sink:
            with pa.ipc.new_file(sink, schema) as writer:
                for chunk in read_chunks(source, labels):
                    writer.write_batch(_tokens(chunk, tokenizer, recipe, max_length, schema))
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error}); make room, or give another --cache_dir"
        ) from error
    return TokenisedTable(target)


def _fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that decides which tokens a text becomes, but for the length."""
    if not tokenizer.is_fast:
        return repr(tokenizer) + json.dumps(tokenizer.get_vocab(), sort_keys=True)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # These two are set anew by every call.
    return json.dumps(state | {"truncation": None, "padding": None})


def _schema(tokenizer: PreTrainedTokenizerBase, labels: LabelSet) -> pa.Schema:
    token = pa.uint16() if len(tokenizer) <= 2**16 else pa.int32()
    cells = pa.list_(pa.uint8(), len(labels))
    return pa.schema({"token_ids": pa.list_(token), "truth": cells, "known": cells})


def _tokens(
    chunk: Split,
    tokenizer: PreTrainedTokenizerBase,
    recipe: TextRecipe,
    max_length: int,
    schema: pa.Schema,
) -> pa.RecordBatch:
    encoded = tokenizer(
        [recipe.compose_record(row) for row in chunk.rows],
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
