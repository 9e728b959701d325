import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from trireme.checkpoints.config import read_config
from trireme.checkpoints.lora import LoraAdapter
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm import dense
from trireme.export_llm.constants import ConstantStore
from trireme.export_llm.dense import check_layers, restore_integers, write_dense
from trireme.export_llm.quantization import read_quantization

LAYER = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module", params=["awq", "gptq"])
def packed(request, make_packed, tmp_path_factory):
    return make_packed(tmp_path_factory.mktemp(request.param), request.param)


def test_integers_become_the_numbers_that_they_stand_for(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "SHARD_BYTES", 100_000)
    folder, expected = packed
    write_dense(folder, tmp_path, read_quantization(read_config(folder)))
    tensors, before = TensorFiles(tmp_path), TensorFiles(folder)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    for layer, weight in expected.items():
        assert np.array_equal(tensors.read(f"{layer}.weight"), weight)
    kept = {name for name in before.entries if not name.startswith(tuple(f"{one}." for one in expected))}
    assert set(tensors.entries) == kept | {f"{layer}.weight" for layer in expected}
    assert all(np.array_equal(tensors.read(name), before.read(name)) for name in kept)


def write_adapter(folder, module, shape):
    rng, rank = np.random.default_rng(2), 4
    down, up = rng.normal(size=(rank, shape[1])), rng.normal(size=(shape[0], rank))
    folder.mkdir()
    tensors = {
        f"base_model.model.{module}.lora_{part}.weight": np.float32(one)
        for part, one in zip("AB", (down, up), strict=True)
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 8}))
    return 2.0 * np.float32(up) @ np.float32(down)


def test_an_adapter_is_added_to_the_floats(make_llm, packed, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    update = write_adapter(tmp_path / "adapter", LAYER, (128, 64))
    (tmp_path / "dense").mkdir()
    write_dense(folder, tmp_path / "dense", None, LoraAdapter(tmp_path / "adapter"))
    before, after = TensorFiles(folder), TensorFiles(tmp_path / "dense")
    changed = {name for name in before.entries if not np.array_equal(before.read(name), after.read(name))}
    assert changed == {f"{LAYER}.weight"}
    found = after.read(f"{LAYER}.weight")
    assert np.allclose(found, before.read(f"{LAYER}.weight").astype(np.float32) + update, atol=1e-5)
    with pytest.raises(
        UnsupportedError, match=f"{LAYER} is quantized: an adapter is merged into float weights"
    ):
        write_dense(
            packed[0], tmp_path, read_quantization(read_config(packed[0])), LoraAdapter(tmp_path / "adapter")
        )


def one_layer(weight, name, *, is_half):
    """x W' as optimum-intel's graphs have it: a constant of that name, float16 ones with a conversion behind."""
    import openvino
    from openvino import opset15 as op

    states = op.parameter([-1, weight.shape[1]], np.float32, name="x")
    constant = op.constant(weight.astype(np.float16 if is_half else np.float32))
    constant.set_friendly_name(f"{name}_compressed" if is_half else name)
    matrix = op.convert(constant, "f32") if is_half else constant
    return openvino.Model([op.matmul(states, matrix, False, True)], [states])


@pytest.mark.parametrize("is_half", [True, False])
def test_a_layers_integers_take_the_place_of_its_floats(is_half, packed, tmp_path):
    import openvino

    folder, expected = packed
    quantization = read_quantization(read_config(folder))
    whole = load_file(folder / "model.safetensors")
    alone = tmp_path / "alone"
    alone.mkdir()
    save_file(
        {name: one for name, one in whole.items() if name.startswith(LAYER)}, alone / "model.safetensors"
    )
    model = one_layer(np.zeros_like(expected[LAYER]), f"self.{LAYER}.weight", is_half=is_half)
    store = ConstantStore(tmp_path / "constants")
    restore_integers(model, alone, quantization, store)
    assert "u4" in {op.get_output_element_type(0).get_type_name() for op in model.get_ops()}
    states = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    # Without activations in int8, which have an error of their own.
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    [found] = openvino.compile_model(model, "CPU", exact)([states]).values()
    assert np.allclose(found, states @ expected[LAYER].T, atol=1e-3)
    store.close()


def test_a_layer_that_the_graph_has_not_by_itself_is_refused(packed, tmp_path):
    folder, expected = packed
    model = one_layer(expected[LAYER], "self.model.layers.0.mlp.experts", is_half=True)
    store = ConstantStore(tmp_path / "constants")
    with pytest.raises(UnsupportedError, match=r"no matrix of its own.*precision = 'int4'"):
        restore_integers(model, folder, read_quantization(read_config(folder)), store)
    store.close()


def test_experts_in_integers_are_refused_before_anything_is_written(packed, tmp_path):
    folder, _ = packed
    check_layers(folder)
    whole = load_file(folder / "model.safetensors")
    experts = {name.replace("mlp.", "mlp.experts.0."): one for name, one in whole.items()}
    save_file(experts, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedError, match=r"layers\.0\.mlp\.experts\.0\.down_proj is quantized"):
        check_layers(tmp_path)
