import json

import pytest
from safetensors.torch import load_file, save_file

from trireme.errors import UnsupportedError
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import load_graph
from trireme.export.sentence_files import DenseLayer
from trireme.export.weights import load_dense


def change(folder, drop=(), **add):
    """Takes away the tensors whose names hold a part of `drop`, and adds others."""
    path = folder / "model.safetensors"
    weights = {
        name: value for name, value in load_file(path).items() if not any(part in name for part in drop)
    }
    save_file({**weights, **add}, path, metadata={"format": "pt"})
    return read_checkpoint(folder)


def test_a_pooler_may_be_missing_only_where_nothing_reads_it(make_checkpoint, tmp_path):
    load_graph(change(make_checkpoint(tmp_path / "texts", "bert"), ["pooler"]))
    with pytest.raises(UnsupportedError, match=r"no weight 'bert\.pooler\.dense\.bias'"):
        load_graph(change(make_checkpoint(tmp_path / "pairs", "bert", ["score"]), ["pooler"]))


@pytest.mark.parametrize(
    ("family", "labels", "part"),
    [
        ("bert", None, "encoder.layer.1.output.dense.weight"),
        ("bert", ["a", "b"], "classifier.weight"),
        ("roberta", ["score"], "classifier.dense.weight"),
        ("xlm-roberta", ["score"], "classifier.out_proj"),
        ("distilbert", ["a", "b"], "pre_classifier"),
        ("distilbert", None, "embeddings.LayerNorm"),
    ],
)
def test_a_missing_weight_is_named(family, labels, part, make_checkpoint, tmp_path):
    with pytest.raises(UnsupportedError, match=f"no weight '.*{part}.*random numbers"):
        load_graph(change(make_checkpoint(tmp_path / "source", family, labels), [part]))


def test_an_encoder_is_read_out_of_a_model_with_a_head(make_checkpoint, tmp_path):
    import transformers

    folder = make_checkpoint(tmp_path / "source", "bert")
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    assert any(name.startswith("cls.") for name in load_file(folder / "model.safetensors"))
    assert load_graph(read_checkpoint(folder)).dimensions == 32


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_weight_that_the_encoder_has_no_place_for_is_named(prefix, make_checkpoint, tmp_path):
    import torch

    folder = make_checkpoint(tmp_path / "source", "bert", ["score"] if prefix else None)
    name = f"{prefix}encoder.layer.0.attention.self.distance_embedding.weight"
    with pytest.raises(UnsupportedError, match=r"distance_embedding.* no place"):
        load_graph(change(folder, **{name: torch.zeros(131, 16)}))
    change(folder, ["distance_embedding"], **{f"{prefix}embeddings.position_ids": torch.arange(66)[None]})
    load_graph(read_checkpoint(folder))


def test_fewer_layers_than_the_file_has_are_refused(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(UnsupportedError, match=r"'encoder\.layer\.1\."):
        load_graph(read_checkpoint(folder))


def test_a_head_of_another_size_is_refused(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert", ["a", "b"])
    config = json.loads((folder / "config.json").read_text())
    names = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    (folder / "config.json").write_text(json.dumps({**config, **names}))
    with pytest.raises(UnsupportedError, match="classifier"):
        load_graph(read_checkpoint(folder))


@pytest.mark.parametrize("weights", ["linear.weight", "linear.other", None])
def test_a_dense_layer_whose_weights_do_not_fit_is_named(weights, tmp_path):
    import torch

    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing")
    if weights:
        save_file({weights: torch.zeros(3, 4), "linear.bias": torch.zeros(8)}, path)
    with pytest.raises(UnsupportedError, match=r"model\.safetensors does not fit the config\.json"):
        load_dense(DenseLayer(path, 8, 8, True, "Tanh"))


def test_a_head_that_config_json_does_not_name_is_refused(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert", ["score"])
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=r"'classifier\.bias'.* names no architectures"):
        load_graph(read_checkpoint(folder))
