import numpy as np
import pytest

from trireme.checkpoints.families import LLM_FAMILIES
from trireme.export_llm.reference import compute_logits

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 96, tokens).tolist() for tokens in (65, 1, 17)]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MODELS = {
    **{family: {} for family in LLM_FAMILIES},
    "llama, tied, one head for all keys": {"tie_word_embeddings": True, "num_key_value_heads": 1},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
    "llama, heads wider than its states": {"head_dim": 32},
    "llama, linear rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    "llama, llama3 rope": {"rope_parameters": LLAMA3},
    "mistral, a head of keys for each": {"num_key_value_heads": 4},
    "qwen2, tied": {"tie_word_embeddings": True},
}


@pytest.mark.parametrize("name", MODELS)
def test_numpy_computes_what_transformers_computes(name, make_llm, read_weights, torch_logits, tmp_path):
    for dtype in ("float32", "bfloat16"):
        family = name.split(",")[0].split(" ")[0]
        folder, model = make_llm(tmp_path / dtype, family, dtype, **MODELS[name])
        found = compute_logits(read_weights(folder), PROMPTS)
        for prompt, logits in zip(PROMPTS, found, strict=True):
            expected = torch_logits(model, prompt)
            assert logits.shape == expected.shape
            np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())


def test_the_progress_of_layers_is_told(make_llm, read_weights, tmp_path):
    folder, _ = make_llm(tmp_path)
    told = []
    compute_logits(read_weights(folder), [[1, 2]], told.append)
    assert told == ["layer 1 of 2", "layer 2 of 2"]
