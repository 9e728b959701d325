"""Missing or altered weights, unknown settings: the start stops and names what is wrong."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from stacks import ROOT, environment_of, settings_on_free_ports, start_server

from trireme.artifacts.manifest import hash_file, read_manifest
from trireme.errors import UnavailableError


@pytest.fixture
def encoder_only(tmp_path):
    """A repository with a copy of the embedding model alone: no database is needed."""
    repository = tmp_path / "models"
    shutil.copytree(ROOT / "model_repository" / "embedding", repository / "embedding")
    return repository


def weights_of(version):
    """The file of weights, whichever engine this machine's build took."""
    [name] = {"model.safetensors", "openvino_model.bin"} & set(read_manifest(version).files)
    return version / name


def refusal(repository, tmp_path, **environ):
    with start_server(repository, tmp_path, **environ) as server:
        with pytest.raises(UnavailableError) as caught:
            server.wait_until_ready()
    return str(caught.value)


def test_the_whole_model_loads(encoder_only, tmp_path):
    with start_server(encoder_only, tmp_path) as server:
        server.wait_until_ready()


def test_altered_weights_are_refused_by_name_with_the_command_that_builds_them(encoder_only, tmp_path):
    weights = weights_of(encoder_only / "embedding" / "1")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    message = refusal(encoder_only, tmp_path)
    assert f"{weights.name} is not the file in the manifest" in message
    assert "build/export_encoder.py" in message


@pytest.mark.parametrize("part", ["weights", "tokenizer.json", "manifest.json"])
def test_a_missing_file_is_refused_by_name(encoder_only, tmp_path, part):
    version = encoder_only / "embedding" / "1"
    name = weights_of(version).name if part == "weights" else part
    (version / name).unlink()
    assert f"{name} is missing" in refusal(encoder_only, tmp_path)


def test_a_matching_hash_does_not_save_a_file_that_is_no_model(encoder_only, tmp_path):
    version = encoder_only / "embedding" / "1"
    weights = weights_of(version)
    weights.write_bytes(b"not a model")
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"][weights.name] = hash_file(weights)
    (version / "manifest.json").write_text(json.dumps(manifest))
    # OpenVINO finds out by the graph that belongs to them.
    assert re.search(rf"cannot load ({weights.name}|openvino_model.xml)", refusal(encoder_only, tmp_path))


def test_an_unknown_parameter_of_a_model_is_named(encoder_only, tmp_path):
    config = encoder_only / "embedding" / "config.pbtxt"
    config.write_text(config.read_text() + 'parameters { key: "colour" value { string_value: "red" } }\n')
    assert "unknown parameter colour" in refusal(encoder_only, tmp_path)


def test_an_unknown_setting_stops_a_retriever_that_is_started_by_hand(tmp_path):
    repository = tmp_path / "models"
    for model in ("embedding", "retriever"):
        shutil.copytree(ROOT / "model_repository" / model, repository / model)
    assert "unknown setting TRIREME_GRCP_PORT" in refusal(repository, tmp_path, TRIREME_GRCP_PORT="1")


def test_a_retriever_without_a_database_url_names_the_setting(tmp_path):
    repository = tmp_path / "models"
    for model in ("embedding", "retriever"):
        shutil.copytree(ROOT / "model_repository" / model, repository / model)
    assert "TRIREME_DATABASE_URL is not set" in refusal(repository, tmp_path)


def test_serve_names_a_model_that_is_not_built(tmp_path):
    repository = tmp_path / "models"
    shutil.copytree(ROOT / "model_repository", repository)
    shutil.rmtree(repository / "embedding" / "1")
    settings = settings_on_free_ports(tmp_path / "data", model_repository=repository)
    done = subprocess.run(
        [sys.executable, "-m", "trireme.cli", "serve"],
        env=environment_of(settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "embedding" in done.stderr
    assert "build/build_defaults.py" in done.stderr
    assert "Traceback" not in done.stderr
