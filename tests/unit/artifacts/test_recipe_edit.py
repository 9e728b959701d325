import pytest

from trireme.artifacts.recipe import Recipe, parse_recipe, write_recipe
from trireme.artifacts.recipe_edit import edit_recipe
from trireme.errors import SettingError

RECIPE = """# The default embedder.
kind = "text_encoder"

[checkpoint]
source = "a/b"  # as published

[serving]
# Rows of one batch.
max_batch_size = 64
threads=0 # one per core
  max_batch_tokens   =  2_048
dynamic_batching = true

# The end.
[export]
precision = "int8"
"""


def test_only_the_values_of_changed_keys_change():
    edited = edit_recipe(RECIPE, "m", {"threads": 1, "max_batch_tokens": 4096, "max_batch_size": 32})
    assert edited == (
        RECIPE.replace("= 64", "= 32").replace("threads=0 #", "threads=1 #").replace("2_048", "4096")
    )


def test_a_new_key_goes_to_the_end_of_the_serving_table():
    edited = edit_recipe(RECIPE, "m", {"instances": 2})
    assert edited == RECIPE.replace("batching = true\n", "batching = true\ninstances = 2\n")
    assert parse_recipe(edited, "m").instances == 2


def test_a_recipe_without_the_table_gets_one_at_its_end():
    flat = 'kind = "text_encoder"\nsource = "a/b"'
    assert edit_recipe(flat, "m", {"instances": 2}) == flat + "\n\n[serving]\ninstances = 2\n"


def test_a_flat_key_is_changed_where_it_stands(tmp_path):
    write_recipe(tmp_path / "recipe.toml", Recipe("m", "text_encoder", source="a/b", threads=4))
    text = (tmp_path / "recipe.toml").read_text()
    assert edit_recipe(text, "m", {"threads": 2}) == text.replace("threads = 4", "threads = 2")


def test_a_value_that_is_there_already_changes_nothing():
    assert edit_recipe(RECIPE, "m", {"threads": 0, "instances": 1}) == RECIPE


def test_a_line_within_a_text_is_not_taken_for_the_key():
    prompt = 'query_prompt = """\nthreads = 0\n"""\n'
    text = RECIPE.replace("[checkpoint]\n", "[checkpoint]\n" + prompt)
    edited = edit_recipe(text, "m", {"threads": 3})
    assert prompt in edited
    assert parse_recipe(edited, "m").threads == 3


@pytest.mark.parametrize("key", ["serving.threads", '"threads"', "serving . threads"])
def test_other_ways_to_write_a_key_are_understood(key):
    text = f'{key} = 0\nkind = "text_encoder"\nsource = "a/b"\n'
    assert edit_recipe(text, "m", {"threads": 3}) == text.replace("= 0", "= 3")


def test_line_ends_stay_as_they_are():
    text = RECIPE.replace("\n", "\r\n")
    edited = edit_recipe(text, "m", {"threads": 3, "instances": 2})
    assert edited.count("\n") == edited.count("\r\n") == text.count("\n") + 1


def test_what_cannot_be_edited_line_by_line_is_named():
    text = 'kind = "text_encoder"\nsource = "a/b"\nserving = { threads = 0 }\n'
    with pytest.raises(SettingError, match=r"m/recipe\.toml; write threads = 2 by hand"):
        edit_recipe(text, "m", {"threads": 2})


def test_a_value_out_of_range_is_named():
    with pytest.raises(SettingError, match="threads must be at least 0"):
        edit_recipe(RECIPE, "m", {"threads": -1})
