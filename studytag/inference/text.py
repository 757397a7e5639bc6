"""Text to token ids, with bounds on what the tokenizer is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from studytag.errors import BundleError, InputError
from studytag.inference.session import load_or_refuse
from studytag.manifest import TOKENIZER, Manifest

CHARACTERS_PER_TOKEN = 100
"""A text is cut to this many characters for each token that the model reads; see `shortened`."""

_SHORTEST_CUT = 2**14
_LARGEST_FILE = 2**27


def shortened(text: str, max_length: int, side: str = "right") -> str:
    """The part of a text that can reach the model, so that megabytes are never tokenised.

    The bound is 100 characters a token (and no less than 16,384 in all). Cutting changes nothing:
    tokenizers split at white space, and make at least one token of every word. Where no word has
    more than 99 characters, the part that is kept holds at least `max_length` words, so at least as
    many tokens, all of which are those of the whole text, since the cut is at a space; and the
    tokenizer would have cut it to them anyway. Only where words are longer than that on average, or
    made of nothing but control characters, which is not language, may words be lost that would
    have been read.

    Args:
        text: With single spaces for white space.
        max_length: Tokens that the model reads.
        side: `right` keeps the beginning, `left` the end, as the tokenizer does.
    """
    most = max(CHARACTERS_PER_TOKEN * max_length, _SHORTEST_CUT)
    if len(text) <= most:
        return text
    if side == "right":
        space = text.rfind(" ", most - CHARACTERS_PER_TOKEN, most + 1)
        return text[: space if space > 0 else most]
    begin = len(text) - most
    space = text.find(" ", begin - 1, begin + CHARACTERS_PER_TOKEN)
    return text[space + 1 if space >= 0 else begin :]


class Encoder:
    """A bundle's tokenizer, set up for one unpadded document at a time. Threads may share it."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Load the tokenizer of a bundle whose files have been verified.

        Raises:
            BundleError: it cannot be loaded.
        """
        path = folder / TOKENIZER
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            raise BundleError(
                f"{path}: missing, or larger than {_LARGEST_FILE >> 20} MB; export the bundle again"
            )
        self._max_length = manifest.max_length
        self._side = manifest.truncation_side
        self._failure = f"{path}: the tokenizer does not work"
        with load_or_refuse(f"{folder}: cannot be loaded"):
            self._tokenizer = Tokenizer.from_file(str(path))
            # Some files store truncation and padding of their own, which would apply silently.
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(self._max_length, direction=self._side)

    def encode(self, text: str) -> tuple[NDArray[np.int64], int]:
        """The token ids that the model reads of a text, shape (1, tokens), and all its tokens.

        The number counts special tokens once, and those beyond the model's maximum length.

        Raises:
            InputError: it has none.
            BundleError: the tokenizer fails.
        """
        text = shortened(text, self._max_length, self._side)
        with load_or_refuse(self._failure):
            # A batch of one: unlike `encode`, it lets other Python threads run meanwhile.
            (encoding,) = self._tokenizer.encode_batch_fast([text])
        if not encoding.ids:
            raise InputError("the text has no letter or sign that the tokenizer knows")
        # Each piece that was cut off has special tokens of its own.
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        beyond = sum(len(piece) - special for piece in encoding.overflowing)
        return np.array([encoding.ids], dtype=np.int64), len(encoding) + beyond
