from pathlib import Path

import pytest

from trireme.providers.own_limits import KEPT_SECONDS, OwnLimits

DEFAULTS = Path(__file__).parents[3] / "defaults"
RAG = 'kind = "rag"\n[answer]\nsteps = ["embedding", "retrieve", "reranker", "writer"]\n'


def place(repository: Path, name: str, length: int) -> None:

    from trireme.artifacts.manifest import Manifest, write_manifest

    folder = repository / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (repository / name / "recipe.toml").write_text('kind = "generator"\n[checkpoint]\nsource = "x"\n')
    files = dict.fromkeys(
        ("openvino_model.xml", "openvino_model.bin", "tokenizer.json", "config.json"), "0" * 64
    )
    manifest = Manifest(name, "generator", "x", "", "fp32", 8, length, files, dict.fromkeys(files, 1))
    write_manifest(folder, manifest)


@pytest.fixture
def repository(tmp_path):
    place(tmp_path, "writer", 2_048)
    (tmp_path / "rag").mkdir()
    (tmp_path / "rag" / "recipe.toml").write_text(RAG)
    return tmp_path


def test_a_generators_limit_is_its_manifests(repository):
    limits = OwnLimits(repository)
    assert limits.context_length("writer") == 2_048
    assert not limits.finds_its_prompt("writer")


def test_a_rag_models_limit_is_that_of_the_model_that_writes_for_it(repository):
    limits = OwnLimits(repository)
    assert limits.context_length("rag") == 2_048
    assert limits.finds_its_prompt("rag")


@pytest.mark.parametrize("model", ["none", "../writer", "writer/1", ".", ""])
def test_nothing_is_known_of_a_model_that_is_not_at_hand(repository, model):
    limits = OwnLimits(repository)
    assert limits.context_length(model) is None
    assert not limits.finds_its_prompt(model)


def test_a_model_that_is_built_anew_is_read_anew(repository):
    now = [0.0]
    limits = OwnLimits(repository, lambda: now[0])
    limits.context_length("writer")
    place(repository, "writer", 4_096)
    assert limits.context_length("writer") == 2_048
    now[0] = KEPT_SECONDS + 1
    assert limits.context_length("writer") == 4_096
