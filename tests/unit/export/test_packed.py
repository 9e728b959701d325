"""What is written for the packed encoder; tests/unit/encode/engines/test_torch.py runs it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from trireme.checkpoints.families import FAMILIES
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import Graph, load_graph
from trireme.export.packed import FILES, find_obstacle, write_packed


def write(folder, target, precision="fp32"):
    target.mkdir(exist_ok=True)
    checkpoint = read_checkpoint(folder)
    write_packed(load_graph(checkpoint), checkpoint, precision, target)
    return load_file(target / "model.safetensors"), json.loads((target / "packed.json").read_text())


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.layers])
def test_every_family_is_written_under_the_same_names(family, make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", family)
    weights, config = write(folder, tmp_path / "packed")
    assert {path.name for path in (tmp_path / "packed").iterdir()} == set(FILES)
    assert weights["layers.1.qkv.weight"].shape == (96, 32)
    assert weights["layers.1.qkv.bias"].shape == (96,)
    # The padding index and those below it have no place in a packed row.
    positions = 66 - (2 if FAMILIES[family].first_position == "after padding" else 0)
    assert weights["embeddings.position"].shape == (positions, 32)
    own = load_file(folder / "model.safetensors").get("embeddings.token_type_embeddings.weight", [0])
    assert weights["embeddings.segment"].shape == (len(own), 32)
    assert config["has_segments"] is (len(own) > 1)
    assert sum(name.startswith("layers.") for name in weights) == 2 * 12


def test_a_rerankers_head_is_two_dense_layers_behind_the_first_token(make_checkpoint, tmp_path):
    weights, config = write(make_checkpoint(tmp_path / "source", "bert", ["one"]), tmp_path / "packed")
    assert (config["pooling"], config["dense"], config["is_score"]) == ("cls", ["tanh", ""], True)
    assert weights["dense.1.weight"].shape == (1, 32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_halves_the_weights(precision, make_checkpoint, tmp_path):
    weights, config = write(make_checkpoint(tmp_path / "source", "bert"), tmp_path / "packed", precision)
    assert {value.dtype for value in weights.values()} == {
        {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    }
    assert config["precision"] == precision


def test_an_activation_without_an_operator_is_refused(make_checkpoint, tmp_path):
    with pytest.raises(UnsupportedError, match="'silu'"):
        write(make_checkpoint(tmp_path / "source", "bert", hidden_act="silu"), tmp_path / "packed")


@pytest.fixture
def with_dense(make_checkpoint, tmp_path, add_sentence_files):
    """with_dense(truncate, **keys): a checkpoint that fits engine vnni, with a Dense behind its pooling."""

    def make(truncate, **keys):
        folder = make_checkpoint(tmp_path / "source", "bert", hidden_size=64, intermediate_size=96)
        add_sentence_files(folder, {"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense"))
        (folder / "2_Dense").mkdir()
        config = {"in_features": 64, "out_features": 16, **keys}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
        names = ("linear", "residual") if keys.get("use_residual") else ("linear",)
        weights = {f"{name}.weight": torch.zeros(16, 64) for name in names}
        save_file({**weights, "linear.bias": torch.zeros(16)}, folder / "2_Dense" / "model.safetensors")
        config = {"truncate_dim": truncate} if truncate else {}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
        return folder

    return make


def test_a_dense_layer_that_the_packed_encoders_know_is_written(with_dense, tmp_path):
    folder = with_dense(0, activation_function="torch.nn.modules.activation.ReLU")
    assert find_obstacle(read_checkpoint(folder)) == ""
    assert write(folder, tmp_path / "packed")[1]["dense"] == ["relu"]


@pytest.mark.parametrize(
    ("keys", "truncate", "reason"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.GELU"},
            0,
            "a Dense with the activation 'GELU'",
        ),
        ({"use_residual": True}, 0, "a Dense with use_residual"),
        ({}, 8, "truncate_dim 8"),
    ],
)
def test_what_behind_pooling_has_no_operator_is_refused(keys, truncate, reason, with_dense, tmp_path):
    folder = with_dense(truncate, **keys)
    assert find_obstacle(read_checkpoint(folder)) == f"it has {reason}"
    with pytest.raises(UnsupportedError, match=f"it has {reason}; use engine onnx"):
        write(folder, tmp_path / "packed")


def test_a_reranker_with_an_adapter_is_refused(make_checkpoint, tmp_path):
    checkpoint = read_checkpoint(make_checkpoint(tmp_path / "source", "bert"))
    graph = Graph(torch.nn.Identity(), ("input_ids",), "score", 1, needs_prior=True)
    with pytest.raises(UnsupportedError, match="adapter"):
        write_packed(graph, checkpoint, "fp16", tmp_path)
