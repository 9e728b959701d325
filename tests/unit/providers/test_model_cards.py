import dataclasses
from pathlib import Path

import pytest

from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.providers.model_cards import ModelCard, read_card

RECIPE = 'kind = "text_encoder"\n[checkpoint]\nsource = "a/b"\n[export]\nmin_cosine = 0.97\n'
FILES = ("model.onnx", "tokenizer.json")
MANIFEST = Manifest(
    "embedding",
    "text_encoder",
    "a/b",
    "f" * 40,
    "int8",
    384,
    256,
    dict.fromkeys(FILES, "0" * 64),
    dict.fromkeys(FILES, 21),
    figures={"cosine_min": 0.98},
    quality={"squad": {"before": 0.5, "after": 0.4}},
)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "embedding" / "1").mkdir(parents=True)
    (tmp_path / "embedding" / "recipe.toml").write_text(RECIPE)
    write_manifest(tmp_path / "embedding" / "1", MANIFEST)
    (tmp_path / "rag").mkdir()
    (tmp_path / "rag" / "recipe.toml").write_text(
        'kind = "rag"\n[answer]\nsteps = ["embedding", "retriever", "reranker", "llm"]\n'
    )
    return tmp_path


def test_a_card_is_what_the_manifest_says_and_the_thresholds_of_the_recipe(repository):
    assert read_card(repository, "embedding") == ModelCard(
        kind="text_encoder",
        version=MANIFEST.version,
        precision="int8",
        engine="onnx",
        bytes=42,
        dimensions=384,
        max_length=256,
        source="a/b",
        revision="f" * 40,
        figures={"cosine_min": 0.98},
        quality={"squad": {"before": 0.5, "after": 0.4}},
        gate={"min_cosine": 0.97},
    )


def test_a_model_without_files_says_what_it_calls(repository):
    assert read_card(repository, "rag") == ModelCard(
        "rag", steps=("embedding", "retriever", "reranker", "llm")
    )


def test_a_folder_of_this_machine_is_not_told(repository):
    moved = dataclasses.replace(MANIFEST, source="/home/someone/checkpoints/mini.gguf")
    write_manifest(repository / "embedding" / "1", moved)
    assert read_card(repository, "embedding").source == "mini.gguf"


@pytest.mark.parametrize("model", ["none", "../embedding", "embedding/1", ".", "", "/", "a\x00b"])
def test_there_is_no_card_of_what_is_not_at_hand(repository, model):
    assert read_card(repository, model) is None
    assert read_card(Path("/nowhere"), model) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 99}'])
def test_there_is_no_card_of_a_manifest_that_cannot_be_read(repository, text):
    (repository / "embedding" / "1" / "manifest.json").write_text(text)
    assert read_card(repository, "embedding") is None
