import shutil
import subprocess
from pathlib import Path

import pytest

from trireme.artifacts.config_writer import config_files
from trireme.artifacts.repository import default_embedder, list_recipes

ROOT = Path(__file__).parents[2]
REPOSITORY = ROOT / "model_repository"
# What make serve DEFAULTS=multilingual serves; models that do not differ are links to those of the first.
REPOSITORIES = (REPOSITORY, ROOT / "defaults" / "multilingual")
RECIPES = {recipe.model: recipe for recipe in list_recipes(REPOSITORY)}
FOLDERS = [
    pytest.param(folder / recipe.model, recipe, id=f"{folder.name}/{recipe.model}")
    for folder in REPOSITORIES
    for recipe in list_recipes(folder)
    if not (folder / recipe.model).is_symlink()
]


@pytest.mark.parametrize(("folder", "recipe"), FOLDERS)
def test_committed_configs_are_what_the_scripts_generate(folder, recipe):
    for name, content in config_files(recipe).items():
        assert (folder / name).read_bytes() == content, (
            f"run build/write_configs.py --repository {folder.parent.relative_to(ROOT)} for {folder.name}/{name}"
        )


@pytest.mark.parametrize(("folder", "recipe"), FOLDERS)
def test_every_committed_config_parses(folder, recipe):
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    text = (folder / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.name == recipe.model
    assert all(tensor.dims for tensor in [*config.input, *config.output])


def test_the_models_of_the_spine_are_there():
    assert {"embedding", "retriever", "search__retrieve", "search__sort", "search"} <= set(RECIPES)


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_every_model_that_another_names_is_there(repository):
    recipes = {recipe.model: recipe for recipe in list_recipes(repository)}
    for recipe in recipes.values():
        assert set(recipe.steps) | ({recipe.embedder} - {""}) <= set(recipes)


def test_the_multilingual_defaults_serve_the_english_embedder_too_and_only_add_one():
    # Collections that hold its vectors are searched until they are reindexed.
    multilingual = {recipe.model: recipe for recipe in list_recipes(REPOSITORIES[1])}
    assert set(multilingual) - set(RECIPES) == {"multilingual"} and set(RECIPES) <= set(multilingual)
    assert default_embedder(REPOSITORIES[1]) == "multilingual"
    assert "reranker" not in multilingual["search"].steps
    for model in multilingual:
        folder = REPOSITORIES[1] / model
        assert not folder.is_symlink() or folder.resolve() == REPOSITORY / model


@pytest.mark.parametrize(
    "folder", [param.values[0] for param in FOLDERS if not param.values[1].has_weights], ids=str
)
def test_models_without_weights_keep_a_version_folder_in_git(folder):
    assert (folder / "1" / ".gitkeep").is_file()


@pytest.mark.parametrize(
    ("given", "served"),
    [
        ([], "\n.venv/bin/trireme serve"),
        (["DEFAULTS=english"], "\n.venv/bin/trireme serve"),
        (
            ["DEFAULTS=multilingual"],
            "\nTRIREME_MODEL_REPOSITORY=defaults/multilingual .venv/bin/trireme serve",
        ),
        (["DEFAULTS=german"], "DEFAULTS is english or multilingual, not german"),
    ],
)
def test_make_serve_takes_the_models_that_are_named(given, served):
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        [make, "-n", "serve", *given], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert served in done.stdout + done.stderr
    if "german" not in served:
        repository = "defaults/multilingual" if "multilingual" in served else "model_repository"
        assert f"build_defaults.py --repository {repository}\n" in done.stdout


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
    assert is_ignored("defaults/multilingual/multilingual/1/openvino_model.bin")
    assert not is_ignored("defaults/multilingual/search/1/.gitkeep")
