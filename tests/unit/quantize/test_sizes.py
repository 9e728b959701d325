import json
import shutil

import pytest

from trireme.errors import UnsupportedError
from trireme.quantize.checkpoint import read_causal_lm
from trireme.quantize.sizes import PUBLIC_SHAPES, read_shape, stored_bytes

# As their cards and checkpoints state them.
PUBLISHED = {
    "0.1B (SmolLM2)": 134_515_008,
    "1B (Llama 3.2)": 1_235_814_400,
    "3B (Llama 3.2)": 3_212_749_824,
    "8B (Llama 3.1)": 8_030_261_248,
    "14B (Qwen3)": 14_768_307_200,
    "32B (Qwen3)": 32_762_123_264,
    "70B (Llama 3.1)": 70_553_706_496,
}


def shape_of(name):
    return next(shape for shape in PUBLIC_SHAPES if shape.name.startswith(name))


def test_parameters_of_the_public_shapes_are_the_published_ones():
    assert {shape.name: shape.parameters for shape in PUBLIC_SHAPES} == PUBLISHED


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
        ("Mistral", {"head_dim": 48}),
        ("Qwen2", {"tie_word_embeddings": False}),
        ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    ],
)
def test_a_config_says_the_bytes_and_projections_of_the_checkpoint(llama, tmp_path, kind, more):
    import torch
    import transformers

    sizes = {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    }
    config = getattr(transformers, f"{kind}Config")(**sizes, **more)
    getattr(transformers, f"{kind}ForCausalLM")(config).to(torch.bfloat16).save_pretrained(tmp_path)
    shutil.copy(llama / "tokenizer.json", tmp_path)
    model = read_causal_lm(tmp_path)
    shape = read_shape("m", json.loads((tmp_path / "config.json").read_text()))
    assert (shape.parameters, sorted(shape.all_linears)) == (model.parameters, sorted(model.linears))
    assert stored_bytes(shape.all_linears, shape.kept, "none", 16, 0) == model.weight_bytes
    assert (shape.layers, shape.hidden_size, shape.vocab_size) == (2, 64, 300)


def test_seventy_billion_at_four_bits_are_forty_gigabytes():
    shape = shape_of("70B")
    assert 39e9 < stored_bytes(shape.all_linears, shape.kept, "awq", 4, 128) < 41e9


def test_formats_are_counted_to_the_byte():
    # 64 x 128 weights in groups of 32: 4 x 64 = 256 groups.
    linear, kept = [(128, 64)], 10
    assert stored_bytes(linear, kept, "none", 16, 0) == 20 + 2 * 8192
    assert stored_bytes(linear, kept, "fp8", 8, 0) == 20 + 8192 + 4
    assert stored_bytes(linear, kept, "awq", 4, 32) == 20 + 4096 + 128 + 512
    assert stored_bytes(linear, kept, "gptq", 8, 32) == 20 + 8192 + 256 + 512 + 4 * 128
    assert stored_bytes(linear, kept, "bnb-int8", 8, 0) == 20 + 8192 + 4 * 64 + 1
    stated = '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [64, 128]}'
    assert stored_bytes(linear, kept, "bnb-nf4", 4, 0) == 20 + 4096 + 4 * 128 + 64 + len(stated)


def test_the_cache_of_a_token_is_a_key_and_a_value_of_each_layer():
    assert shape_of("70B").cache_bytes(1) == 2 * 2 * 80 * 8 * 128
    assert shape_of("0.1B").cache_bytes(10) == 10 * 2 * 2 * 30 * 3 * 64


def test_a_missing_size_is_named():
    with pytest.raises(UnsupportedError, match="the config of m has no number under 'intermediate_size'"):
        read_shape("m", {"hidden_size": 64})


@pytest.mark.parametrize("key", ["head_dim", "num_key_value_heads"])
@pytest.mark.parametrize("value", ["64", 64.0, -64, 0, [64]])
def test_a_size_that_is_no_number_is_named_and_null_is_the_default(key, value):
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    config = {**dict.fromkeys(sizes, 8), "max_position_embeddings": 8}
    assert read_shape("m", {**config, key: None}) == read_shape("m", config)
    with pytest.raises(UnsupportedError, match=f"the config of m has no number under '{key}'"):
        read_shape("m", {**config, key: value})


def test_more_heads_than_hidden_numbers_are_no_model():
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    with pytest.raises(UnsupportedError, match="'head_dim'"):
        read_shape("m", {**dict.fromkeys(sizes, 8), "num_attention_heads": 16})
