"""The build scripts as they are run: exit codes and what is printed. None of these needs torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import Manifest, hash_file, write_manifest
from trireme.artifacts.recipe import Recipe, write_recipe

BUILD = Path(__file__).parents[3] / "build"


def run(script, *arguments):
    command = [sys.executable, str(BUILD / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path):
    """One built model of made-up files, with its config."""
    recipe = Recipe("tiny", "text_encoder", source="some/model", revision="a" * 40)
    version = tmp_path / "models" / "tiny" / "1"
    version.mkdir(parents=True)
    write_recipe(version.parent / "recipe.toml", recipe)
    place_config(version.parent, recipe)
    for name in ("model.onnx", "tokenizer.json"):
        (version / name).write_text(name)
    files = {name: hash_file(version / name) for name in ("model.onnx", "tokenizer.json")}
    sizes = {name: len(name) for name in files}
    write_manifest(version, Manifest("tiny", "text_encoder", "some/model", "", "fp32", 8, 64, files, sizes))
    return tmp_path / "models"


def test_verify_names_a_corrupt_file_and_fails(repository):
    assert run("verify.py", "--repository", repository).returncode == 0
    (repository / "tiny" / "1" / "model.onnx").write_text("other")
    done = run("verify.py", "--repository", repository)
    assert done.returncode == 1
    assert "tiny/1/model.onnx is not the file" in done.stderr
    assert "Traceback" not in done.stderr


def test_write_configs_finds_and_mends_an_edited_config(repository):
    config = repository / "tiny" / "config.pbtxt"
    before = config.read_text()
    assert run("write_configs.py", "--check", "--repository", repository).returncode == 0
    config.write_text(before + "# edited\n")
    done = run("write_configs.py", "--check", "--repository", repository)
    assert (done.returncode, config.read_text() != before) == (1, True)
    assert "tiny/config.pbtxt" in done.stdout
    assert run("write_configs.py", "--repository", repository).returncode == 0
    assert config.read_text() == before


def test_export_refuses_a_pickle_by_name_without_a_traceback(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (tmp_path / "config.json").write_text(
        '{"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 66}'
    )
    done = run("export_encoder.py", tmp_path, "--name", "m", "--repository", tmp_path / "models")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "pytorch_model.bin is a pickle" in done.stderr
    assert not (tmp_path / "models").exists()


def test_export_refuses_an_unpinned_hub_id(tmp_path):
    done = run("export_encoder.py", "some/model", "--name", "m", "--repository", tmp_path)
    assert (done.returncode, "pin a revision of some/model" in done.stderr) == (1, True)


def test_export_refuses_arguments_beside_a_recipe(repository):
    recipe = repository / "tiny" / "recipe.toml"
    done = run("export_encoder.py", "--recipe", recipe, "--precision", "int8", "--repository", repository)
    assert (done.returncode, "drop precision" in done.stderr) == (1, True)


def test_an_unknown_recipe_key_stops_the_build_and_is_named(repository):
    recipe = repository / "tiny" / "recipe.toml"
    recipe.write_text(recipe.read_text() + "treads = 2\n")
    for script, arguments in (("build_defaults.py", ()), ("export_encoder.py", ("--recipe", recipe))):
        done = run(script, *arguments, "--repository", repository)
        assert done.returncode == 1
        assert "unknown key 'treads'" in done.stderr


def test_export_llm_refuses_a_pickle_and_a_foreign_family_without_a_traceback(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text('{"model_type": "gpt2"}')
    (source / "pytorch_model.bin").write_bytes(b"\x80\x04")
    for named in ("pytorch_model.bin is a pickle", "model_type 'gpt2'"):
        done = run("export_llm.py", source, "--name", "m", "--repository", tmp_path / "models")
        assert done.returncode == 1
        assert done.stderr.startswith("error: ") and named in done.stderr
        (source / "model.safetensors").touch()
    assert not (tmp_path / "models").exists()


def test_import_gguf_refuses_what_is_no_gguf_and_a_folder_of_others_without_a_traceback(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04")
    done = run("import_gguf.py", tmp_path / "model.gguf", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "model.gguf is not a GGUF file" in done.stderr
    done = run("import_gguf.py", tmp_path / "absent.gguf", tmp_path / "out")
    assert (done.returncode, "absent.gguf cannot be read" in done.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
    done = run("import_gguf.py", tmp_path / "model.gguf", tmp_path)
    assert (done.returncode, "holds no gguf.json; name another folder" in done.stderr) == (1, True)


def test_export_llm_refuses_arguments_beside_a_recipe_and_recipes_of_other_kinds(repository):
    recipe = repository / "tiny" / "recipe.toml"
    done = run("export_llm.py", "--recipe", recipe, "--target", "gpu", "--repository", repository)
    assert (done.returncode, "drop target" in done.stderr) == (1, True)
    done = run("export_llm.py", "--recipe", recipe, "--repository", repository)
    assert (done.returncode, "export_encoder.py" in done.stderr) == (1, True)
    done = run("export_llm.py", "--name", "x", "--repository", repository)
    assert (done.returncode, "give SOURCE and --name" in done.stderr) == (1, True)
