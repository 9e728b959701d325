import json

import pytest

from trireme.checkpoints.config import check_weights, read_config, read_list, read_optional, refuse
from trireme.errors import UnsupportedError

CONFIG = {"model_type": "bert"}


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_checkpoint_that_brings_code_is_refused(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert read_config(tmp_path) == CONFIG
    (tmp_path / name).write_text(json.dumps({"auto_map": {"AutoModel": "own.Model"}}))
    with pytest.raises(UnsupportedError, match=f"{name} asks for code of its own"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "is missing"), ("{", "is not valid JSON"), ("[]", "holds no JSON object")]
)
def test_a_missing_or_broken_config_is_named(text, message, tmp_path):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnsupportedError, match=rf"config\.json {message}"):
        read_config(tmp_path)


def test_a_file_that_may_be_missing_is_empty_then_and_otherwise_read(tmp_path):
    assert read_optional(tmp_path / "side.json") == {}
    (tmp_path / "side.json").write_text('{"a": 1}')
    assert read_optional(tmp_path / "side.json") == {"a": 1}


@pytest.mark.parametrize("text", ["{}", "[]", "[1]"])
def test_a_list_of_anything_but_objects_is_named(text, tmp_path):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(UnsupportedError, match=r"modules\.json holds no list of JSON objects"):
        read_list(tmp_path / "modules.json")


def test_a_long_value_that_is_refused_is_shown_by_its_beginning(tmp_path):
    message = str(refuse(tmp_path / "config.json", "rope", "x" * 500, "leave it out"))
    assert message.endswith("xxx ...: leave it out") and len(message) < 150 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pkl"])
def test_a_pickle_in_place_of_weights_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedError, match=f"{name} is a pickle"):
        check_weights(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    check_weights(tmp_path)
