"""The text a model reads, and the columns of a table. All articles are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from studytag.errors import BundleError, InputError
from studytag.records import COLUMNS, LIST_COLUMNS, TextRecipe, clean, table_schema

MISSING = [None, float("nan"), np.float32("nan"), pd.NA, "", " \n\t "]


def test_title_and_abstract_are_joined_by_the_separator():
    assert TextRecipe().compose("Sealants", "We sealed.") == "Sealants We sealed."
    assert TextRecipe(separator=" [SEP] ").compose("A", "B") == "A [SEP] B"


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_one_part_is_enough_and_leaves_no_separator(missing):
    assert TextRecipe().compose("Only a title", missing) == "Only a title"
    assert TextRecipe().compose(missing, "Only an abstract") == "Only an abstract"


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_no_text_at_all_is_refused(missing):
    with pytest.raises(InputError, match="neither title nor abstract"):
        TextRecipe().compose(missing, missing)


def test_white_space_becomes_single_spaces():
    text = TextRecipe().compose("  Fluoride\n varnish\u00a0", "AIM:\tnone.\r\n\r\nMETHODS: none. ")
    assert text == "Fluoride varnish AIM: none. METHODS: none."


def test_the_text_is_cut_after_max_chars():
    recipe = TextRecipe(max_chars=12)
    assert recipe.compose("Sealants", "We sealed.") == "Sealants We "
    assert recipe.compose("Short", None) == "Short"


@pytest.mark.parametrize("value", [5, True, ["A title"], {"title": "A"}, b"bytes", np.zeros(3)])
def test_what_is_not_text_is_refused_in_one_line(value):
    with pytest.raises(InputError, match=f"expected text, found {type(value).__name__}") as caught:
        clean(value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="expected text"):
        TextRecipe().compose("A title", value)


def test_a_record_is_a_mapping_or_a_ready_made_text():
    recipe = TextRecipe()
    leaky = {"title": "A", "abstract": "B", "year": 2020, "mesh_terms": ["Humans"]}
    assert recipe.compose_record(leaky) == "A B"
    assert recipe.compose_record({"abstract": "B"}) == "B"
    assert recipe.compose_record(" A  text ") == "A text"
    assert recipe.compose_record(pd.Series({"title": "A"}).to_dict()) == "A"
    for empty in ("", {}, {"Title": "wrong key"}):
        with pytest.raises(InputError, match="neither title nor abstract"):
            recipe.compose_record(empty)
    for wrong in (None, 3, ["A", "B"]):
        with pytest.raises(InputError, match="a string or a mapping"):
            recipe.compose_record(wrong)


def test_a_recipe_survives_the_manifest():
    recipe = TextRecipe(separator=" | ", max_chars=2000)
    assert TextRecipe.from_dict(recipe.to_dict()) == recipe
    assert TextRecipe.from_dict({}) == TextRecipe()


@pytest.mark.parametrize(
    "stored", [{"name": "title-abstract-v2"}, {"lower_case": True}, ["title"], None, "v1"]
)
def test_an_unknown_recipe_is_refused(stored):
    with pytest.raises(BundleError, match="update studytag"):
        TextRecipe.from_dict(stored)


def test_the_schema_has_the_contract_s_columns_and_types():
    schema = table_schema()
    assert tuple(schema.names) == COLUMNS
    assert schema.field("year").type == pa.int32()
    for name in COLUMNS:
        if name in LIST_COLUMNS:
            assert schema.field(name).type == pa.list_(pa.string())
        elif name != "year":
            assert schema.field(name).type == pa.string()
