import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from trireme.checkpoints.lora import LoraAdapter
from trireme.errors import NotFoundError, UnsupportedError

LAYER = "model.layers.0.self_attn.q_proj"
KNOWN = {LAYER: (6, 8)}
RNG = np.random.default_rng(2)


def write(folder, layer=LAYER, name="adapter_model.safetensors", shapes=((2, 8), (6, 2)), **config):
    folder.mkdir(exist_ok=True)
    down, up = (RNG.normal(size=shape).astype(np.float32) for shape in shapes)
    prefix = f"base_model.model.{layer}"
    save_file({f"{prefix}.lora_A.weight": down, f"{prefix}.lora_B.weight": up}, folder / name)
    given = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(given))
    return down, up


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter.safetensors"])
def test_an_update_is_the_scaled_product(name, tmp_path):
    down, up = write(tmp_path, name=name)
    adapter = LoraAdapter(tmp_path)
    adapter.check_modules(KNOWN)
    assert adapter.modules == {LAYER}
    np.testing.assert_allclose(adapter.update(LAYER), 2.0 * up @ down, rtol=1e-5)


def test_rank_stabilized_adapters_scale_by_the_root(tmp_path):
    down, up = write(tmp_path, use_rslora=True)
    np.testing.assert_allclose(LoraAdapter(tmp_path).update(LAYER), 4 / 2**0.5 * up @ down, rtol=1e-5)


def test_what_has_no_place_in_the_model_is_named(tmp_path):
    write(tmp_path, layer="model.layers.9.self_attn.q_proj")
    with pytest.raises(UnsupportedError, match=r"no layer 'model\.layers\.9"):
        LoraAdapter(tmp_path).check_modules(KNOWN)
    for shapes in (((2, 7), (6, 2)), ((2, 8), (5, 2)), ((2, 8), (6, 3)), ((2,), (6, 2))):
        write(tmp_path, shapes=shapes)
        with pytest.raises(UnsupportedError, match=r"q_proj' is .* times .*, the layer \[6, 8\]"):
            LoraAdapter(tmp_path).check_modules(KNOWN)


def test_an_adapter_of_another_base_is_refused(tmp_path):
    write(tmp_path, base_sha256="a" * 64, base_model_name_or_path="org/one")
    adapter = LoraAdapter(tmp_path)
    adapter.check_base("org/one", "a" * 64)
    adapter.check_base("", "")
    with pytest.raises(UnsupportedError, match="base_sha256"):
        adapter.check_base("org/one", "b" * 64)
    with pytest.raises(UnsupportedError, match=r"base_model_name_or_path.*org/two"):
        adapter.check_base("org/two", "a" * 64)


@pytest.mark.parametrize(
    ("config", "key"),
    [({"peft_type": "IA3"}, "peft_type"), ({"use_dora": True}, "use_dora"), ({"bias": "all"}, "bias")],
)
def test_what_is_no_plain_lora_is_refused_by_its_key(config, key, tmp_path):
    write(tmp_path, **config)
    with pytest.raises(UnsupportedError, match=key):
        LoraAdapter(tmp_path)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"lora_alpha": None}, "lora_alpha = null"),
        ({"lora_alpha": "4"}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha = NaN"),
        ({"alpha_pattern": {"q_proj": [4]}}, "q_proj"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern"),
        ({"alpha_pattern": {"q_proj(": 4}}, "no regular expression"),
    ],
)
def test_an_alpha_that_nobody_can_count_with_is_named(config, key, tmp_path):
    write(tmp_path, **config)
    with pytest.raises(UnsupportedError, match=key):
        LoraAdapter(tmp_path)


def test_tensors_of_another_kind_and_half_an_update_are_named(tmp_path):
    write(tmp_path)
    half = np.zeros((2, 8), np.float32)
    path = tmp_path / "adapter_model.safetensors"
    save_file({"base_model.model.model.embed_tokens.lora_embedding_A": half}, path)
    with pytest.raises(
        UnsupportedError, match=r"embed_tokens\.lora_embedding_A' is no LoRA of a linear layer"
    ):
        LoraAdapter(tmp_path)
    save_file({f"base_model.model.{LAYER}.lora_A.weight": half}, path)
    with pytest.raises(UnsupportedError, match="only one of lora_A and lora_B"):
        LoraAdapter(tmp_path)


def test_a_folder_without_an_adapter_says_what_it_lacks(tmp_path):
    with pytest.raises(NotFoundError, match=r"adapter_model\.safetensors or adapter\.safetensors"):
        LoraAdapter(tmp_path)
    write(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(NotFoundError, match=r"adapter_config\.json"):
        LoraAdapter(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA"}))
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(UnsupportedError, match="not a whole safetensors file"):
        LoraAdapter(tmp_path)


def test_an_adapter_whose_weights_are_a_pickle_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UnsupportedError, match=r"adapter_model\.bin is a pickle"):
        LoraAdapter(tmp_path)


def test_the_factors_of_an_update_make_it_and_the_largest_rank_is_said(tmp_path):
    write(tmp_path)
    adapter = LoraAdapter(tmp_path)
    down, up = adapter.factors(LAYER)
    np.testing.assert_allclose(up @ down, adapter.update(LAYER), rtol=1e-5)
    assert adapter.rank == 2


@pytest.mark.parametrize(
    ("config", "uneven"),
    [
        ({}, ""),
        ({"use_rslora": True}, ""),
        # The file's rank is 2.
        ({"r": 4}, LAYER),
        ({"alpha_pattern": {"q_proj": 5}}, LAYER),
        ({"alpha_pattern": {"q_proj": 4}, "rank_pattern": {"q_proj": 2}}, ""),
    ],
)
def test_a_layer_that_is_scaled_otherwise_than_the_rest_is_found(tmp_path, config, uneven):
    write(tmp_path, **config)
    assert LoraAdapter(tmp_path).find_uneven() == uneven


def test_a_layer_of_an_unknown_shape_takes_any_product(tmp_path):
    write(tmp_path)
    LoraAdapter(tmp_path).check_modules({LAYER: None})
    write(tmp_path, shapes=((2, 8), (6, 3)))
    with pytest.raises(UnsupportedError, match=r"the layer \['\?', '\?'\]"):
        LoraAdapter(tmp_path).check_modules({LAYER: None})


def test_two_updates_of_one_layer_are_named(tmp_path):
    down, up = write(tmp_path)
    start = f"base_model.model.{LAYER}.lora"
    twice = {f"{start}_A.default.weight": down, f"{start}_A.weight": down, f"{start}_B.weight": up}
    save_file(twice, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UnsupportedError, match=r"has both .*lora_A\..* and .*lora_A\..*; save the adapter"):
        LoraAdapter(tmp_path)


@pytest.mark.parametrize("alpha", [0, 2.5])
def test_an_alpha_may_be_nothing_or_a_fraction(alpha, tmp_path):
    down, up = write(tmp_path, lora_alpha=alpha)
    np.testing.assert_allclose(LoraAdapter(tmp_path).update(LAYER), alpha / 2 * up @ down, rtol=1e-5)
