"""The default reranker on a tiny random encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file  # noqa: E402

from trireme.errors import ArtifactError  # noqa: E402
from trireme.export import residual  # noqa: E402

SHAPE = residual.EncoderShape(
    vocab_size=60,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=40,
)
SETTINGS = residual.ResidualSettings(rank=2, alpha=4.0, apart=1)
CLS, SEP = 1, 2


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    folder = tmp_path / "base"
    folder.mkdir()
    encoder = residual.PairEncoder(SHAPE, apart=1)
    named = {residual.encoder_name(n): v.contiguous() for n, v in encoder.state_dict().items()}
    save_file(named, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(vars(SHAPE) | {"model_type": "bert"}))
    return folder


def new_model(base_dir: Path) -> residual.ResidualReranker:
    model = residual.ResidualReranker(SHAPE, SETTINGS)
    residual.load_encoder(model.encoder, residual.load_file(base_dir / "model.safetensors"))
    residual.attach_low_rank(model)
    return model.eval()


def randomize(model: residual.ResidualReranker) -> None:
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith((".up", ".down", "head.weight", "head.bias", "side")):
                value.copy_((torch.randn_like(value) * 0.3).half().float())
        model.interaction.idf.copy_(torch.rand(SHAPE.vocab_size).half().float() * 8)
        model.interaction.inner[40:] = 1.0
        model.interaction.stem[5] = 6
        model.interaction.weight.copy_(torch.tensor([0.1, 0.05, 0.5]))
        model.interaction.centre.copy_(torch.tensor([0.2, 0.1, 0.5]))


@pytest.fixture
def adapter_dir(base_dir: Path, tmp_path: Path) -> Path:
    model = new_model(base_dir)
    randomize(model)
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(residual.trained_state(model), folder / "adapter.safetensors")
    config = residual.adapter_config(SETTINGS, base_dir)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def batch(*pairs: tuple[list[int], list[int]]):
    width = max(len(q) + len(p) for q, p in pairs) + 3
    ids = torch.zeros(len(pairs), width, dtype=torch.int64)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (q, p) in enumerate(pairs):
        tokens = [CLS, *q, SEP, *p, SEP]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        types[row, len(q) + 2 : len(tokens)] = 1
    return ids, mask, types


PAIRS = [([5, 9, 41], [7, 6, 9, 41, 12, 30]), ([8], [8, 9]), ([20, 21, 22, 23, 24], list(range(10, 35)))]


@torch.no_grad()
def test_a_zero_head_and_zero_term_weights_adjust_nothing(base_dir: Path):
    assert torch.equal(new_model(base_dir)(*batch(*PAIRS)), torch.zeros(len(PAIRS)))


@torch.no_grad()
def test_the_merged_model_scores_as_the_unmerged_one(base_dir: Path, adapter_dir: Path):
    apart = residual.load_unmerged(base_dir, adapter_dir)
    merged = residual.load_reranker(base_dir, adapter_dir)
    assert any(isinstance(m, residual.LowRankLinear) for m in apart.modules())
    assert not any(isinstance(m, residual.LowRankLinear) for m in merged.modules())
    adjustments = merged(*batch(*PAIRS))
    assert adjustments.abs().min() > 1e-4
    torch.testing.assert_close(adjustments, apart(*batch(*PAIRS)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_saved_adapter_scores_as_the_model_it_was_saved_from(base_dir: Path, adapter_dir: Path):
    torch.manual_seed(7)
    loaded = residual.load_unmerged(base_dir, adapter_dir)
    state = residual.trained_state(loaded)
    for name, value in residual.load_file(adapter_dir / "adapter.safetensors").items():
        assert torch.equal(value, state[name]), name


@torch.no_grad()
def test_a_padded_batch_scores_as_its_pairs_one_by_one(base_dir: Path, adapter_dir: Path):
    model = residual.load_reranker(base_dir, adapter_dir)
    together = model(*batch(*PAIRS))
    single = [model(*batch(pair)) for pair in PAIRS]
    torch.testing.assert_close(together, torch.cat(single), atol=1e-5, rtol=0)


def test_a_base_model_with_another_hash_is_refused_by_name(base_dir: Path, adapter_dir: Path):
    path = base_dir / "model.safetensors"
    weights = residual.load_file(path)
    weights["embeddings.LayerNorm.bias"] += 1.0
    save_file(weights, path)
    with pytest.raises(ArtifactError, match=r"model\.safetensors has sha256 "):
        residual.load_reranker(base_dir, adapter_dir)


def test_an_adapter_with_a_missing_tensor_is_refused_by_name(base_dir: Path, adapter_dir: Path):
    path = adapter_dir / "adapter.safetensors"
    state = residual.load_file(path)
    del state["side"]
    save_file(state, path)
    with pytest.raises(ArtifactError, match=r"missing.*side"):
        residual.load_reranker(base_dir, adapter_dir)


@torch.no_grad()
def test_the_first_layers_read_a_passage_as_if_it_stood_alone(base_dir: Path):
    encoder = new_model(base_dir).encoder
    query, passage = PAIRS[0]
    both = encoder.separate(*batch((query, passage)))[0, len(query) + 1 :]
    ids = torch.tensor([[CLS, *passage, SEP]])
    alone = encoder.separate(ids, torch.ones_like(ids), torch.zeros_like(ids))[0]
    torch.testing.assert_close(both, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_word_evidence_counts_stems_and_whole_words_only():
    terms = residual.Interaction(SHAPE.vocab_size, SETTINGS)
    terms.idf[3:] = 2.0
    terms.inner[40:] = 1.0
    terms.stem[5] = 6
    states = torch.zeros(1, 12, 4)

    def coverage(query: list[int], passage: list[int]) -> float:
        ids, mask, types = batch((query, passage))
        parts = residual.ResidualReranker(SHAPE, SETTINGS).parts(mask, types)
        return float(terms.features(ids, states[:, : ids.shape[1]], *parts)[0, 0])

    assert coverage([5], [6, 9]) == pytest.approx(coverage([9], [6, 9]))
    assert coverage([5], [7, 8]) == 0.0
    assert coverage([9, 41], [9, 41]) > coverage([9, 41], [41, 9])


@torch.no_grad()
def test_a_pair_without_passage_keeps_its_cosine(base_dir: Path, adapter_dir: Path):
    model = residual.load_reranker(base_dir, adapter_dir)
    assert model(*batch(([5, 9], []))).tolist() == pytest.approx([0.0])
