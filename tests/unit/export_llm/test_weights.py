import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from trireme.errors import UnsupportedError
from trireme.export_llm.quantization import PackedWeight


@pytest.fixture
def edit_tensors():
    def edit(folder, add=None, drop=()):
        tensors = load_file(folder / "model.safetensors")
        kept = {name: values for name, values in tensors.items() if name not in drop}
        save_file({**kept, **(add or {})}, folder / "model.safetensors")

    return edit


def test_a_tensor_that_is_missing_or_left_over_is_named(make_llm, edit_tensors, read_weights, tmp_path):
    folder, _ = make_llm(tmp_path)
    edit_tensors(folder, add={"model.layers.0.self_attn.q_norm.weight": np.ones(16, np.float16)})
    with pytest.raises(
        UnsupportedError, match=r"'model\.layers\.0\.self_attn\.q_norm\.weight' that.*'llama'"
    ):
        read_weights(folder)
    edit_tensors(
        folder,
        drop=["model.layers.0.self_attn.q_norm.weight", "model.layers.1.mlp.up_proj.weight"],
    )
    with pytest.raises(UnsupportedError, match=r"lacks the tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        read_weights(folder)


def test_an_untied_model_without_a_head_is_refused(make_llm, edit_tensors, read_weights, tmp_path):
    folder, _ = make_llm(tmp_path)
    edit_tensors(folder, drop=["lm_head.weight"])
    with pytest.raises(UnsupportedError, match=r"lacks the tensor 'lm_head\.weight'"):
        read_weights(folder)


def test_tensors_that_change_nothing_are_left_alone(make_llm, edit_tensors, read_weights, tmp_path):
    folder, _ = make_llm(tmp_path, tie_word_embeddings=True)
    copies = {
        "lm_head.weight": np.ones((96, 64), np.float16),
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32),
    }
    edit_tensors(folder, add=copies)
    assert read_weights(folder).head == "model.embed_tokens"


def test_a_bias_of_a_packed_layer_must_be_zero_where_the_family_has_none(
    make_packed, edit_tensors, read_weights, tmp_path
):
    folder, _ = make_packed(tmp_path, "gptq")
    name = "model.layers.0.mlp.up_proj.bias"
    edit_tensors(folder, add={name: np.zeros(128, np.float16)})
    assert read_weights(folder).bias("model.layers.0.mlp.up_proj") is None
    edit_tensors(folder, add={name: np.ones(128, np.float16)})
    with pytest.raises(UnsupportedError, match=r"'model\.layers\.0\.mlp\.up_proj\.bias' that"):
        read_weights(folder)


def test_a_shape_that_config_json_contradicts_is_named(make_llm, edit_config, read_weights, tmp_path):
    folder, _ = make_llm(tmp_path)
    edit_config(folder, intermediate_size=96)
    with pytest.raises(UnsupportedError, match=r"is of shape \[128, 64\], config\.json says \[96, 64\]"):
        read_weights(folder).linear("model.layers.0.mlp.up_proj")


def test_packed_weights_without_a_quantization_config_are_refused(
    make_packed, edit_config, read_weights, tmp_path
):
    folder, _ = make_packed(tmp_path, "awq")
    assert isinstance(read_weights(folder).linear("model.layers.0.mlp.up_proj"), PackedWeight)
    edit_config(folder, quantization_config=None)
    with pytest.raises(UnsupportedError, match="no quantization_config"):
        read_weights(folder).linear("model.layers.0.mlp.up_proj")


def test_integers_in_place_of_floats_are_refused(make_llm, edit_tensors, read_weights, tmp_path):
    folder, _ = make_llm(tmp_path)
    edit_tensors(folder, add={"model.norm.weight": np.ones(64, np.int32)})
    with pytest.raises(UnsupportedError, match=r"model\.norm\.weight is of type I32"):
        read_weights(folder).norm("model.norm", 64)


def test_biases_and_norms_are_read_by_their_layer(make_llm, read_weights, tmp_path):
    folder, model = make_llm(tmp_path, "qwen2")
    weights = read_weights(folder)
    state = model.state_dict()
    prefix = "model.layers.1.self_attn.k_proj"
    np.testing.assert_array_equal(weights.bias(prefix), state[f"{prefix}.bias"].numpy())
    assert weights.bias("model.layers.1.self_attn.o_proj") is None
    np.testing.assert_array_equal(weights.norm("model.norm", 64), state["model.norm.weight"].numpy())
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen2"
