"""The default reranker on the kernels against the module it was exported from, in fp32."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fakes.packed_rows import run_original, take_row
from trireme.encode.engines.vnni import VnniSession
from trireme.encode.packed import cpu_kernels as vnni_kernels
from trireme.encode.packed.config import read_config
from trireme.encode.session import SessionOptions, TokenBatch
from trireme.errors import ArtifactError, UnsupportedError
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import Graph
from trireme.export.packed import write_packed
from trireme.export.residual import ResidualReranker, ResidualSettings, load_encoder, read_shape

pytestmark = [
    pytest.mark.skipif(
        not (vnni_kernels.FOLDER / vnni_kernels.PLAIN).is_file(),
        reason="the kernels are not compiled: there is no C++ compiler",
    ),
    pytest.mark.filterwarnings("ignore:this processor has no AVX-512 VNNI"),
]

# Pieces of the query, and of the passage; [CLS] and the two [SEP] come to them.
PAIRS = [(3, 20), (1, 1), (9, 40), (2, 3), (30, 5), (4, 0), (70, 20)]
CLS, SEP = 2, 3


@pytest.fixture
def reranker(make_checkpoint, tmp_path):
    """(session, module); files in tmp_path / "packed"."""
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "max_position_embeddings": 128,
    }
    checkpoint = read_checkpoint(make_checkpoint(tmp_path / "source", "bert", **sizes), "cross_encoder", True)
    torch.manual_seed(0)
    module = ResidualReranker(read_shape(checkpoint.transformer_dir), ResidualSettings(apart=2, strength=0.5))
    load_encoder(module.encoder, load_file(checkpoint.transformer_dir / "model.safetensors"))
    words = module.interaction
    with torch.no_grad():
        words.idf.uniform_(0.5, 3.0)
        # Classes of two pieces each, and a quarter of the pieces inside of words.
        words.stem.copy_(torch.arange(len(words.stem)) // 2)
        words.inner.copy_((torch.arange(len(words.inner)) % 8 >= 6).float())
        words.weight.copy_(torch.tensor([0.3, 0.2, 0.4]))
        words.centre.copy_(torch.tensor([0.1, 0.05, 0.5]))
        module.side.normal_(std=0.3)
        module.head.weight.normal_(std=0.1)
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = Graph(module.eval(), names, "score", 1, needs_prior=True)
    target = tmp_path / "packed"
    target.mkdir()
    write_packed(graph, checkpoint, "int8", target)
    return VnniSession(target, SessionOptions()), module, graph, checkpoint


def make_batch(pairs=PAIRS, seed=1):
    rng = np.random.default_rng(seed)
    ids, types, lengths = [], [], []
    for query, passage in pairs:
        pieces = rng.integers(5, 40, query), rng.integers(5, 40, passage)
        ids += [CLS, *pieces[0], SEP, *pieces[1], SEP]
        types += [0] * (query + 2) + [1] * (passage + 1)
        lengths.append(query + passage + 3)
    return TokenBatch(np.array(ids), np.array(types), np.array(lengths))


def test_scores_are_near_those_of_the_module(reranker):
    session, _, graph, _ = reranker
    batch = make_batch()
    found, expected = session.run(batch), run_original(graph, batch)
    assert found.shape == (len(PAIRS),) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02)
    # The evidence moves scores further than that.
    assert np.abs(expected).max() > 0.1


def test_term_evidence_is_exact_where_the_network_says_nothing(reranker, tmp_path):
    _, module, graph, checkpoint = reranker
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.zero_()
        module.interaction.weight[2] = 0.0
    write_packed(graph, checkpoint, "int8", tmp_path / "packed")
    session = VnniSession(tmp_path / "packed", SessionOptions())
    batch = make_batch()
    np.testing.assert_allclose(session.run(batch), run_original(graph, batch), atol=1e-5)


def test_a_pair_alone_gets_the_score_it_gets_among_others(reranker):
    session = reranker[0]
    batch = make_batch()
    alone = [session.run(take_row(batch, row)) for row in range(len(PAIRS))]
    np.testing.assert_array_equal(np.concatenate(alone), session.run(batch))


def test_the_session_knows_nothing_of_a_prior(reranker):
    assert reranker[0].input_names == ["input_ids", "token_type_ids"]


def test_the_config_names_what_scores_are_made_with(reranker, tmp_path):
    residual = read_config(tmp_path / "packed" / "packed.json").residual
    assert residual is not None and (residual.apart, residual.strength, residual.bound) == (2, 0.5, 0.2)


def test_a_missing_weight_is_named(reranker, tmp_path):
    path = tmp_path / "packed" / "model.safetensors"
    weights = load_file(path)
    del weights["residual.idf"]
    save_file(weights, path)
    with pytest.raises(ArtifactError, match=r"residual\.idf"):
        VnniSession(tmp_path / "packed", SessionOptions())


def test_other_precisions_are_refused(reranker, tmp_path):
    *_, graph, checkpoint = reranker
    with pytest.raises(UnsupportedError, match="engine torch runs no reranker with an adapter"):
        write_packed(graph, checkpoint, "fp16", tmp_path / "packed")
