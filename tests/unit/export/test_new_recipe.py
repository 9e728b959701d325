import pytest

from trireme.artifacts.recipe import read_recipe, write_recipe
from trireme.errors import InvalidInputError, SettingError
from trireme.export.new_recipe import check_recipe_is_free, make_recipe


@pytest.mark.parametrize(
    ("labels", "kind"), [(None, "text_encoder"), (["one"], "cross_encoder"), (["a", "b"], "classifier")]
)
def test_the_kind_is_the_checkpoints(labels, kind, make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert", labels=labels)
    recipe = make_recipe("tiny", {"source": str(folder), "kind": None, "precision": "int8"}, tmp_path)
    assert (recipe.kind, recipe.precision, recipe.dynamic_batching) == (kind, "int8", True)


def test_a_new_recipe_reads_back_as_it_was(tmp_path):
    keys = {"source": "some/model", "kind": "text_encoder", "query_prompt": 'say "é"\n', "normalize": False}
    recipe = make_recipe("tiny", keys, tmp_path)
    (tmp_path / "tiny").mkdir()
    write_recipe(tmp_path / "tiny" / "recipe.toml", recipe)
    assert read_recipe(tmp_path / "tiny" / "recipe.toml") == recipe


def test_another_recipe_in_the_folder_is_not_overwritten(tmp_path):
    recipe = make_recipe("tiny", {"source": "some/model", "kind": "text_encoder"}, tmp_path)
    check_recipe_is_free(recipe, tmp_path)
    (tmp_path / "tiny").mkdir()
    write_recipe(tmp_path / "tiny" / "recipe.toml", recipe)
    check_recipe_is_free(recipe, tmp_path)
    other = make_recipe("tiny", {"source": "other/model", "kind": "text_encoder"}, tmp_path)
    with pytest.raises(InvalidInputError, match="edit it and build with --recipe"):
        check_recipe_is_free(other, tmp_path)


def test_a_key_the_kind_does_not_have_is_named(tmp_path):
    with pytest.raises(SettingError, match="'pooling'"):
        make_recipe("tiny", {"source": "a/b", "kind": "cross_encoder", "pooling": "cls"}, tmp_path)
