import shutil
import subprocess
from pathlib import Path

import pytest

from trireme.artifacts.config_writer import config_files
from trireme.artifacts.repository import list_recipes

ROOT = Path(__file__).parents[2]
REPOSITORY = ROOT / "model_repository"
RECIPES = {recipe.model: recipe for recipe in list_recipes(REPOSITORY)}


@pytest.mark.parametrize("model", RECIPES)
def test_committed_configs_are_what_the_scripts_generate(model):
    for name, content in config_files(RECIPES[model]).items():
        assert (REPOSITORY / model / name).read_bytes() == content, (
            f"run build/write_configs.py for {model}/{name}"
        )


@pytest.mark.parametrize("model", RECIPES)
def test_every_committed_config_parses(model):
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    text = (REPOSITORY / model / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.name == model
    assert all(tensor.dims for tensor in [*config.input, *config.output])


def test_the_models_of_the_spine_are_there():
    assert {"embedding", "retriever", "search__retrieve", "search__sort", "search"} <= set(RECIPES)


def test_every_model_that_another_names_is_there():
    for recipe in RECIPES.values():
        assert set(recipe.steps) | ({recipe.embedder} - {""}) <= set(RECIPES)


@pytest.mark.parametrize("model", [name for name, recipe in RECIPES.items() if not recipe.has_weights])
def test_models_without_weights_keep_a_version_folder_in_git(model):
    assert (REPOSITORY / model / "1" / ".gitkeep").is_file()


def test_built_files_are_ignored_by_git_and_kept_folders_are_not():
    def is_ignored(path):
        done = subprocess.run(
            [shutil.which("git") or "git", "check-ignore", "--no-index", "-q", path], cwd=ROOT, check=False
        )
        assert done.returncode in (0, 1)
        return done.returncode == 0

    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert is_ignored("model_repository/embedding/1/model.onnx")
    assert is_ignored("model_repository/embedding/.tmp-x/model.onnx")
    assert not is_ignored("model_repository/search/1/.gitkeep")
    assert not is_ignored("model_repository/embedding/warmup/text")
