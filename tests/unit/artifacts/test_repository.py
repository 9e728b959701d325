import pytest

from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.artifacts.recipe import Recipe, write_recipe
from trireme.artifacts.repository import find_model, list_models, version_dir
from trireme.errors import ArtifactError, NotFoundError


def add(repository, recipe):
    (repository / recipe.model).mkdir()
    write_recipe(repository / recipe.model / "recipe.toml", recipe)


def test_models_are_listed_built_or_not(tmp_path):
    add(tmp_path, Recipe("unbuilt", "text_encoder", source="x", precision="int8"))
    add(tmp_path, Recipe("built", "text_encoder", source="x"))
    add(tmp_path, Recipe("order", "sort"))
    (tmp_path / "order" / "1").mkdir()
    (tmp_path / "built" / "1").mkdir()
    files, sizes = ({"model.onnx": "0", "tokenizer.json": "1"}, {"model.onnx": 7, "tokenizer.json": 3})
    figures = {"cosine_min": 0.9}
    made = Manifest("built", "text_encoder", "x", "", "fp16", 8, 64, files, sizes, figures=figures)
    write_manifest(tmp_path / "built" / "1", made)
    built, order, unbuilt = list_models(tmp_path)
    assert (built.name, built.precision, built.bytes, built.is_built) == ("built", "fp16", 10, True)
    assert built.figures == figures
    assert (order.name, order.kind, order.is_built) == ("order", "sort", True)
    assert (unbuilt.name, unbuilt.precision, unbuilt.is_built) == ("unbuilt", "int8", False)


def test_a_served_model_is_found_by_the_backend_that_serves_its_kind(tmp_path):
    add(tmp_path, Recipe("grades", "classifier", source="x"))
    (tmp_path / "grades" / "1").mkdir()
    files, sizes = ({"model.onnx": "0", "tokenizer.json": "1"}, {"model.onnx": 7, "tokenizer.json": 3})
    made = Manifest("grades", "classifier", "x", "", "fp32", 2, 64, files, sizes, labels=("a", "b"))
    write_manifest(tmp_path / "grades" / "1", made)
    found = find_model(tmp_path, "grades", "cross_encoder")
    assert found is not None and found.kind == "classifier"
    assert find_model(tmp_path, "grades", "text_encoder") is None
    assert find_model(tmp_path, "none", "cross_encoder") is None


def test_the_highest_version_is_taken_by_number(tmp_path):
    for name in ("9", "10", ".tmp-11", "12x"):
        (tmp_path / "m" / name).mkdir(parents=True)
    assert version_dir(tmp_path, "m").name == "10"


def test_a_model_without_a_version_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="'m' has no version"):
        version_dir(tmp_path, "m")


def test_a_missing_repository_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="nowhere"):
        list_models(tmp_path / "nowhere")
