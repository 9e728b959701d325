import numpy as np
import pytest

from trireme.checkpoints.families import FAMILIES
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import export_onnx, load_graph, pool
from trireme.export.measure import open_tokenizer, open_torch
from trireme.export.parity import open_onnx, run_texts
from trireme.export.tokenizer_file import write_tokenizer

TEXTS = ["a", "what is a short sentence for", "one two three. " * 30, "船 7", ""]


def export(folder, tmp_path, **more):
    checkpoint = read_checkpoint(folder, **more)
    graph = load_graph(checkpoint)
    export_onnx(graph, tmp_path / "model.onnx")
    write_tokenizer(checkpoint, tmp_path / "tokenizer.json")
    return checkpoint, graph, open_tokenizer(tmp_path, checkpoint.max_length)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_an_exported_encoder_equals_torch_alone_and_in_a_batch(family, make_checkpoint, tmp_path):
    checkpoint, graph, tokenizer = export(make_checkpoint(tmp_path / "source", family), tmp_path)
    expected = run_texts(open_torch(graph), tokenizer, TEXTS, batch=1)
    exported = open_onnx(tmp_path / "model.onnx")
    assert np.abs(run_texts(exported, tokenizer, TEXTS) - expected).max() < 1e-4
    assert np.abs(run_texts(exported, tokenizer, TEXTS, batch=1) - expected).max() < 1e-4
    assert expected.shape == (len(TEXTS), 32) and graph.dimensions == 32
    assert checkpoint.max_length == 64
    # Different texts must have different vectors, or the comparison says nothing.
    assert np.abs(expected[0] - expected[1]).max() > 0.01


def test_a_window_of_attention_that_a_row_is_longer_than_is_exported(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "modernbert", local_attention=8)
    _, graph, tokenizer = export(folder, tmp_path)
    expected = run_texts(open_torch(graph), tokenizer, TEXTS, batch=1)
    assert np.abs(run_texts(open_onnx(tmp_path / "model.onnx"), tokenizer, TEXTS) - expected).max() < 1e-4
    wide = load_graph(read_checkpoint(make_checkpoint(tmp_path / "wide", "modernbert")))
    difference = np.abs(run_texts(open_torch(wide), tokenizer, TEXTS, batch=1) - expected).max(1)
    assert difference[TEXTS.index("a")] < 1e-6 and difference[2] > 1e-3, "only a long row feels the window"


@pytest.mark.parametrize("family", FAMILIES)
def test_only_families_with_segments_take_token_types(family, make_checkpoint, tmp_path):
    graph = load_graph(read_checkpoint(make_checkpoint(tmp_path, family)))
    own = graph.module.encoder.state_dict().get("embeddings.token_type_embeddings.weight", [0])
    assert ("token_type_ids" in graph.input_names) == (len(own) > 1)


def test_an_exported_reranker_scores_each_pair_as_torch_does(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert", labels=["relevance"])
    checkpoint, graph, tokenizer = export(folder, tmp_path)
    pairs = [
        ("a query", "a passage"),
        ("a query", "an unrelated text, much longer than the other"),
        ("b", "c"),
    ]
    expected = run_texts(open_torch(graph), tokenizer, pairs)
    assert (checkpoint.kind, graph.output_name, expected.shape) == ("cross_encoder", "score", (3,))
    assert np.abs(run_texts(open_onnx(tmp_path / "model.onnx"), tokenizer, pairs) - expected).max() < 1e-4


def test_an_exported_classifier_gives_the_logits_of_every_label(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "distilbert", labels=["bad", "fair", "good"])
    checkpoint, graph, tokenizer = export(folder, tmp_path)
    expected = run_texts(open_torch(graph), tokenizer, TEXTS)
    assert (checkpoint.kind, checkpoint.labels) == ("classifier", ("bad", "fair", "good"))
    assert (graph.output_name, expected.shape) == ("logits", (len(TEXTS), 3))
    assert np.abs(run_texts(open_onnx(tmp_path / "model.onnx"), tokenizer, TEXTS) - expected).max() < 1e-4


def test_an_encoder_without_a_head_is_not_exported_as_a_reranker(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path, "bert", id2label={0: "relevance"}, label2id={"relevance": 0})
    with pytest.raises(UnsupportedError, match="holds no weight 'classifier"):
        load_graph(read_checkpoint(folder, "cross_encoder"))


def test_dense_layers_follow_the_pooling(make_checkpoint, add_sentence_files, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = make_checkpoint(tmp_path / "source", "bert")
    add_sentence_files(folder, {"pooling_mode": "cls"}, ("Transformer", "Pooling", "Dense"))
    (folder / "2_Dense").mkdir()
    config = (
        '{"in_features": 32, "out_features": 8, "bias": true, "activation_function": "torch.nn.Identity"}'
    )
    (folder / "2_Dense" / "config.json").write_text(config)
    weights = {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    checkpoint, graph, tokenizer = export(folder, tmp_path)
    assert (checkpoint.pooling, checkpoint.normalize, graph.dimensions) == ("cls", False, 8)
    encoder = graph.module.encoder
    feeds = {name: torch.tensor([tokenizer.encode("abc").ids]) for name in ("input_ids",)}
    with torch.inference_mode():
        first = encoder(**feeds).last_hidden_state[:, 0]
    expected = (first @ weights["linear.weight"].T + weights["linear.bias"]).numpy()
    found = run_texts(open_onnx(tmp_path / "model.onnx"), tokenizer, ["abc"])
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", 1.0),
        ("mean", 2.0),
        ("max", 3.0),
        ("lasttoken", 3.0),
        ("mean_sqrt_len_tokens", 4.0 / 2**0.5),
        ("weightedmean", (1 * 1 + 2 * 3) / 3),
    ],
)
def test_pooling_leaves_padding_out(mode, expected):
    import torch

    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, mode).item() == pytest.approx(expected)
