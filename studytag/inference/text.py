"""Text to token ids, with bounds on what the tokenizer is given."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from studytag.errors import BundleError, InputError
from studytag.inference.session import load_or_refuse
from studytag.manifest import TOKENIZER, Manifest

CHARACTERS_PER_TOKEN = 100
"""A text is cut to this many characters for each token that the model reads; see `shortened`."""

REMEMBERED_WORDS = 2**15
"""Whose tokens are kept, 9 MB of them; after 3,000 abstracts all but 7 words of the next one are
among them."""

_LONGEST_WORD = 64
_WORDS = re.compile(r"[!-/:-@\[-`{-~]|[^ !-/:-@\[-`{-~]+")
"""Signs of ASCII, one by one, and what is between them and spaces."""

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
    """A bundle's tokenizer, set up for one unpadded document at a time. Threads may share it.

    A tokenizer of BERT's kind treats every word by itself, so that the tokens of words that have
    been met need not be found again: two fifths of the time, and the same tokens.
    """

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
            self._tokenizer.no_truncation()
            self._special = _around(self._tokenizer)
            self._special_count = self._tokenizer.num_special_tokens_to_add(is_pair=False)
            added = self._tokenizer.get_added_tokens_decoder().values()
            self._added = [token.content for token in added]
        if self._special is None:
            self._tokenizer.enable_truncation(self._max_length, direction=self._side)
        self._known: dict[str, list[int]] = {}

    def encode(self, text: str) -> tuple[NDArray[np.int64], int]:
        """The token ids that the model reads of a text, shape (1, tokens), and all its tokens.

        The number counts special tokens once, and those beyond the model's maximum length.

        Raises:
            InputError: it has none but special ones.
            BundleError: the tokenizer fails.
        """
        text = shortened(text, self._max_length, self._side)
        with load_or_refuse(self._failure):
            ids, count = self._read(text)
        if count <= self._special_count:
            raise InputError("the text has no letter or sign that the tokenizer knows")
        return np.array([ids], dtype=np.int64), count

    def forget(self) -> None:
        """Forget the words that were met, as if the tokenizer had just been loaded."""
        self._known = {}

    def _read(self, text: str) -> tuple[list[int], int]:
        if self._special is None:
            # A batch of one: unlike `encode`, it lets other Python threads run meanwhile.
            (encoding,) = self._tokenizer.encode_batch_fast([text])
            # Each piece that was cut off has special tokens of its own.
            beyond = sum(len(piece) - self._special_count for piece in encoding.overflowing)
            return encoding.ids, len(encoding) + beyond
        before, after = self._special
        spelt = any(token in text for token in self._added)
        words = [text] if spelt else _WORDS.findall(text)
        ids = list(chain.from_iterable(self._of_words(words)))
        room = max(self._max_length - self._special_count, 0)
        kept = ids[:room] if self._side == "right" else ids[max(len(ids) - room, 0) :]
        return [*before, *kept, *after], len(ids) + self._special_count

    def _of_words(self, words: list[str]) -> list[list[int]]:
        """The tokens of each word."""
        known = self._known
        if new := [word for word in dict.fromkeys(words) if word not in known]:
            encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
            fresh = {word: encoding.ids for word, encoding in zip(new, encodings, strict=True)}
            for word, ids in fresh.items():
                if len(known) < REMEMBERED_WORDS and len(word) <= _LONGEST_WORD:
                    known[word] = ids
            return [fresh[word] if word in fresh else known[word] for word in words]
        return [known[word] for word in words]


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]] | None:
    """The special tokens before and after a text's own; None if words depend on their neighbours.

    BERT's normaliser and pre-tokeniser look at one character at a time, and split at spaces and at
    signs.
    """
    bert = (
        isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.model, models.WordPiece)
    )
    added = tokenizer.get_added_tokens_decoder().values()
    if not bert or any(token.normalized for token in added):
        return None
    bare, whole = (
        tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True)
    )
    for begin in range(len(whole) - len(bare) + 1):
        end = begin + len(bare)
        if whole[begin:end] == bare:
            return whole[:begin], whole[end:]
    return None
