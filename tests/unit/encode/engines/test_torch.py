"""The packed encoder on the CPU against transformers' own output, for each family and each pooling."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fakes.packed_rows import POOLING_KEYS, draw_rows, run_original, take_row
from trireme.checkpoints.families import FAMILIES
from trireme.encode.engines.torch import GRAPH_SIZES, TorchSession, _pack, _place
from trireme.encode.packed.bert import TorchOperators
from trireme.encode.packed.config import PackedConfig, read_config, write_config
from trireme.encode.session import SessionOptions, TokenBatch
from trireme.errors import ArtifactError, InvalidInputError, UnavailableError
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import load_graph
from trireme.export.packed import write_packed

PACKED = [name for name, family in FAMILIES.items() if family.layers]
HEADED = [name for name in PACKED if FAMILIES[name].head]
LENGTHS = np.array([7, 1, 30, 12, 2, 30], np.int64)


def make_batch(has_segments, lengths=LENGTHS):
    return draw_rows(lengths, has_segments)


@pytest.fixture
def export(tmp_path):
    """export(checkpoint folder, precision) -> (session, graph, checkpoint); files in tmp_path / "packed"."""

    def make(folder, precision="fp32"):
        checkpoint = read_checkpoint(folder)
        graph = load_graph(checkpoint)
        target = tmp_path / "packed"
        target.mkdir(exist_ok=True)
        write_packed(graph, checkpoint, precision, target)
        return TorchSession(target, SessionOptions(threads=1)), graph, checkpoint

    return make


@pytest.mark.parametrize("family", PACKED)
def test_vectors_of_every_family_equal_those_of_transformers(family, make_checkpoint, export, tmp_path):
    session, graph, checkpoint = export(make_checkpoint(tmp_path / "source", family))
    batch = make_batch(checkpoint.has_segments)
    np.testing.assert_allclose(session.run(batch), run_original(graph, batch), atol=2e-5)


@pytest.mark.parametrize("mode", POOLING_KEYS)
def test_every_pooling_equals_that_of_the_padded_graph(
    mode, make_checkpoint, add_sentence_files, export, tmp_path
):
    folder = make_checkpoint(tmp_path / "source", "bert")
    add_sentence_files(folder, {POOLING_KEYS[mode]: True})
    session, graph, checkpoint = export(folder)
    assert checkpoint.pooling == mode
    batch = make_batch(has_segments=True)
    np.testing.assert_allclose(session.run(batch), run_original(graph, batch), atol=2e-5)


@pytest.mark.parametrize("labels", [["one"], ["one", "two", "three"]], ids=["reranker", "classifier"])
@pytest.mark.parametrize("family", HEADED)
def test_heads_of_every_family_equal_those_of_transformers(family, labels, make_checkpoint, export, tmp_path):
    session, graph, checkpoint = export(make_checkpoint(tmp_path / "source", family, labels))
    batch = make_batch(checkpoint.has_segments)
    output = session.run(batch)
    assert output.shape == ((len(LENGTHS),) if len(labels) == 1 else (len(LENGTHS), len(labels)))
    np.testing.assert_allclose(output, run_original(graph, batch), atol=2e-5)


def test_dense_layers_run_behind_the_pooling(make_checkpoint, add_sentence_files, export, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert")
    add_sentence_files(folder, {"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "Dense"))
    dense = folder / "2_Dense"
    dense.mkdir()
    (dense / "config.json").write_text(json.dumps({"in_features": 32, "out_features": 8, "bias": True}))
    torch.manual_seed(0)
    weights = {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}
    save_file(weights, dense / "model.safetensors")
    session, graph, _ = export(folder)
    batch = make_batch(has_segments=True)
    assert session.run(batch).shape == (len(LENGTHS), 8)
    np.testing.assert_allclose(session.run(batch), run_original(graph, batch), atol=2e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations_equal_those_of_transformers(activation, make_checkpoint, export, tmp_path):
    session, graph, _ = export(make_checkpoint(tmp_path / "source", "bert", hidden_act=activation))
    batch = make_batch(has_segments=True)
    np.testing.assert_allclose(session.run(batch), run_original(graph, batch), atol=2e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_batch_equals_its_rows_alone(precision, make_checkpoint, export, tmp_path):
    session, _, _ = export(make_checkpoint(tmp_path / "source", "bert"), precision)
    batch = make_batch(has_segments=True)
    alone = np.concatenate([session.run(take_row(batch, row)) for row in range(len(LENGTHS))])
    tolerance = {"fp32": 2e-5, "fp16": 5e-3, "bf16": 5e-2}[precision]
    np.testing.assert_allclose(session.run(batch), alone, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_near_the_original(precision, make_checkpoint, export, tmp_path):
    session, graph, _ = export(make_checkpoint(tmp_path / "source", "bert"), precision)
    batch = make_batch(has_segments=True)
    output, original = session.run(batch), run_original(graph, batch)
    assert output.dtype == np.float32
    lengths = np.linalg.norm(output, axis=1) * np.linalg.norm(original, axis=1)
    assert ((output * original).sum(1) / lengths).min() > 0.999


def test_the_session_names_segments_only_where_the_model_has_them(make_checkpoint, export, tmp_path):
    assert export(make_checkpoint(tmp_path / "a", "bert"))[0].input_names == ["input_ids", "token_type_ids"]
    assert export(make_checkpoint(tmp_path / "b", "roberta"))[0].input_names == ["input_ids"]


def test_segment_ids_are_ignored_where_the_model_has_none(make_checkpoint, export, tmp_path):
    session, _, _ = export(make_checkpoint(tmp_path / "source", "roberta"))
    batch = make_batch(has_segments=False)
    other = replace(batch, type_ids=np.ones_like(batch.type_ids))
    np.testing.assert_array_equal(session.run(batch), session.run(other))


@pytest.mark.parametrize(("lengths", "message"), [([67], "67 tokens"), ([3, 0], "tokens"), ([], "rows")])
def test_rows_that_cannot_run_are_refused(lengths, message, make_checkpoint, export, tmp_path):
    session, _, _ = export(make_checkpoint(tmp_path / "source", "bert"))
    with pytest.raises(InvalidInputError, match=message):
        session.run(make_batch(has_segments=True, lengths=np.array(lengths, np.int64)))


def test_a_missing_gpu_is_told_in_one_sentence(make_checkpoint, export, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    export(make_checkpoint(tmp_path / "source", "bert"))
    with pytest.raises(UnavailableError, match="sees no GPU"):
        TorchSession(tmp_path / "packed", SessionOptions(device_id=0))


def test_a_missing_weight_is_named(make_checkpoint, export, tmp_path):
    export(make_checkpoint(tmp_path / "source", "bert"))
    path = tmp_path / "packed" / "model.safetensors"
    weights = load_file(path)
    del weights["layers.1.up.bias"]
    save_file(weights, path)
    with pytest.raises(ArtifactError, match=r"layers\.1\.up\.bias"):
        TorchSession(tmp_path / "packed", SessionOptions())


@pytest.mark.parametrize("damage", ["weights", "config", "version", "pooling"])
def test_damaged_files_are_named(damage, make_checkpoint, export, tmp_path):
    export(make_checkpoint(tmp_path / "source", "bert"))
    folder = tmp_path / "packed"
    config = json.loads((folder / "packed.json").read_text())
    if damage == "weights":
        (folder / "model.safetensors").write_bytes(b"not tensors")
    elif damage == "config":
        (folder / "packed.json").write_text("{")
    else:
        config["format_version" if damage == "version" else "pooling"] = 99 if damage == "version" else "?"
        (folder / "packed.json").write_text(json.dumps(config))
    with pytest.raises(
        ArtifactError, match=r"model\.safetensors" if damage == "weights" else r"packed\.json"
    ):
        TorchSession(folder, SessionOptions())


def test_a_config_is_read_as_it_was_written(tmp_path):
    config = PackedConfig("bf16", 2, 4, 1e-5, "gelu", True, "cls", ("tanh", ""), is_score=True)
    write_config(tmp_path / "packed.json", config)
    assert read_config(tmp_path / "packed.json") == config


def test_tokens_behind_the_batch_are_rows_of_one_token():
    lengths = np.array([2, 3], np.int64)
    batch = TokenBatch(np.arange(10, 15), np.ones(5, np.int64), lengths)
    tokens = _place(_pack(batch, 8, has_segments=True), lengths, 8)
    assert tokens.ids.tolist() == [10, 11, 12, 13, 14, 0, 0, 0]
    assert tokens.type_ids.tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert tokens.starts.tolist() == [0, 0, 2, 2, 2, 5, 6, 7]
    assert tokens.ends.tolist() == [2, 2, 5, 5, 5, 6, 7, 8]
    assert tokens.offsets.tolist() == [0, 2, 5]


def test_sizes_of_graphs_are_whole_steps():
    # A size that is no multiple of its step would leave a gap between two ranges.
    assert all(last % step == 0 for last, step in GRAPH_SIZES)


def test_pooling_of_one_row_of_one_token_is_its_state():
    state = torch.tensor([[1.0, -2.0]])
    batch = TokenBatch(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.int64))
    tokens = _place(_pack(batch, 1, has_segments=False), batch.lengths, 1)
    for mode in POOLING_KEYS:
        assert TorchOperators().pool(state, tokens, mode).tolist() == [[1.0, -2.0]]
