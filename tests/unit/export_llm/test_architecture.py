import pytest

from trireme.errors import UnsupportedError
from trireme.export_llm.architecture import Rope, read_architecture

LLAMA = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GROUPED = {**LLAMA, "num_key_value_heads": 2}


def test_keys_that_are_left_out_have_the_familys_defaults():
    llama = read_architecture(LLAMA)
    assert (llama.kv_heads, llama.head_dim, llama.norm_epsilon, llama.is_tied) == (4, 16, 1e-6, False)
    assert llama.rope == Rope("default", 10_000.0)
    assert not (llama.has_qkv_bias or llama.has_output_bias or llama.has_mlp_bias or llama.has_head_norms)
    qwen3 = read_architecture({**GROUPED, "model_type": "qwen3"})
    assert (qwen3.head_dim, qwen3.has_head_norms, qwen3.has_qkv_bias) == (128, True, False)
    qwen2 = read_architecture({**GROUPED, "model_type": "qwen2"})
    assert (qwen2.has_qkv_bias, qwen2.has_output_bias) == (True, False)


def test_biases_are_read_where_the_family_has_them():
    biased = {"attention_bias": True, "mlp_bias": True}
    llama = read_architecture({**LLAMA, **biased})
    assert llama.has_qkv_bias and llama.has_output_bias and llama.has_mlp_bias
    mistral = read_architecture({**GROUPED, **biased, "model_type": "mistral", "sliding_window": None})
    assert not (mistral.has_qkv_bias or mistral.has_mlp_bias)


@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
def test_rope_is_read_from_old_and_new_keys(place):
    old = {**LLAMA, "rope_theta": 5e5, place: {"type": "linear", "factor": 4.0}}
    assert read_architecture(old).rope == Rope("linear", 5e5, 4.0)
    stretched = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 2e4,
    }
    assert read_architecture({**LLAMA, place: stretched}).rope == Rope("llama3", 2e4, 8.0, 1.0, 4.0, 64)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
        ({"num_key_value_heads": 3}, "3 key-value heads"),
        ({"head_dim": 15}, "heads of 15"),
    ],
)
def test_what_is_not_supported_is_named(changes, named):
    with pytest.raises(UnsupportedError, match=named):
        read_architecture({**LLAMA, **changes})


def test_a_length_above_the_checkpoints_positions_is_refused_with_both_numbers():
    assert read_architecture(LLAMA, 256).positions == 256
    with pytest.raises(UnsupportedError, match="max_model_len 257 is above the checkpoint's 256"):
        read_architecture(LLAMA, 257)


@pytest.mark.parametrize(
    "sliding",
    [
        {"model_type": "mistral", "sliding_window": 100},
        {"model_type": "qwen2", "sliding_window": 100, "use_sliding_window": True},
    ],
)
def test_sliding_attention_is_served_only_within_its_window(sliding):
    config = {**GROUPED, **sliding}
    with pytest.raises(UnsupportedError, match="max_model_len to at most 100"):
        read_architecture(config)
    assert read_architecture(config, 100).positions == 256
    assert read_architecture({**config, "sliding_window": None}).family == sliding["model_type"]


def test_a_window_that_is_switched_off_does_not_matter():
    config = {**GROUPED, "model_type": "qwen2", "sliding_window": 100, "use_sliding_window": False}
    assert read_architecture(config).positions == 256


def test_a_mistral_without_the_key_slides_over_4096_tokens():
    config = {**GROUPED, "model_type": "mistral", "max_position_embeddings": 32_768}
    with pytest.raises(UnsupportedError, match="at most 4096"):
        read_architecture(config)
