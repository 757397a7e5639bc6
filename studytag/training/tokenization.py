"""Articles as token ids."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from studytag.evaluation.split import Split
from studytag.records import TextRecipe


def tokenize(
    split: Split, tokenizer: PreTrainedTokenizerBase, recipe: TextRecipe, max_length: int
) -> list[list[int]]:
    """Token ids of every article, special tokens included, cut to `max_length`, not padded."""
    texts = [recipe.compose_record(row) for row in split.rows]
    encoded = tokenizer(
        texts,
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    return list(encoded["input_ids"])
