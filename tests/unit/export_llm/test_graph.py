import numpy as np
import pytest

from trireme.export_llm.reference import compute_logits

F32 = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
PROMPT = np.random.default_rng(1).integers(0, 96, 70)
MODELS = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "llama biased": {"attention_bias": True, "mlp_bias": True, "head_dim": 32},
    "mistral": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
}


def run(path, pieces, mask=None):
    """Logits of a prompt given in `pieces`, through the state of one request."""
    import openvino

    request = openvino.Core().compile_model(path, "CPU", F32).create_infer_request()
    found, end = [], 0
    for piece in pieces:
        start, end = end, end + len(piece)
        feeds = {
            "input_ids": np.asarray(piece, np.int64)[None],
            "attention_mask": np.ones((1, end), np.int64) if mask is None else mask[None, :end],
            "position_ids": np.arange(start, end)[None] if mask is None else positions(mask)[None, start:end],
            "beam_idx": np.zeros(1, np.int32),
        }
        found.append(np.array(request.infer(feeds)["logits"][0]))
    return np.concatenate(found)


def positions(mask):
    return np.maximum(np.cumsum(mask) - 1, 0)


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_computes_what_the_checkpoint_says(name, make_llm, read_weights, write_graph, tmp_path):
    folder, _ = make_llm(tmp_path / "source", name.split(" ", maxsplit=1)[0], **MODELS[name])
    (expected,) = compute_logits(read_weights(folder), [PROMPT])
    found = run(write_graph(folder, tmp_path / "graph"), np.split(PROMPT, [30, 31, 69]))
    # The checkpoint is in float16 and so are the graph's constants: what is left is the order of sums.
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "packing",
    [
        ("awq", 4, 32, ""),
        ("awq", 4, 64, ""),
        ("gptq", 4, 32, "gptq"),
        ("gptq", 4, 64, "gptq_v2"),
        ("gptq", 4, -1, "gptq"),
        ("gptq", 8, 32, "gptq"),
        ("gptq", 8, -1, "gptq_v2"),
    ],
)
def test_a_packed_checkpoint_gives_the_logits_of_the_weights_it_stands_for(
    packing, make_packed, write_graph, tmp_path, torch_logits
):
    import torch
    import transformers

    folder, dense = make_packed(tmp_path / "source", *packing)
    model = transformers.AutoModelForCausalLM.from_config(plain_config(folder)).float().eval()
    state = {
        **unpacked_tensors(folder),
        **{f"{name}.weight": torch.tensor(weight) for name, weight in dense.items()},
    }
    model.load_state_dict(state)
    expected = torch_logits(model, PROMPT)
    found = run(write_graph(folder, tmp_path / "graph"), np.split(PROMPT, [40]))
    # The kernel for few rows multiplies scales after it has summed: a little apart from the dense product.
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def plain_config(folder):
    import json

    import transformers

    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    return transformers.AutoConfig.for_model(**config)


def unpacked_tensors(folder):
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    return {name: tensor.float() for name, tensor in tensors.items() if "_proj." not in name}


def test_packed_weights_stay_packed_in_the_file_and_when_compiled(make_packed, write_graph, tmp_path):
    import openvino

    folder, dense = make_packed(tmp_path / "source", "awq")
    path = write_graph(folder, tmp_path / "graph")
    kinds = [
        node.get_element_type().to_string()
        for node in openvino.Core().read_model(path).get_ops()
        if node.get_type_name() == "Constant"
    ]
    assert kinds.count("u4") == 2 * len(dense)
    weights = sum(weight.size for weight in dense.values())
    other = 2 * 2 * 96 * 64
    assert path.with_suffix(".bin").stat().st_size < weights * 0.65 + other + 20_000
    compiled = openvino.Core().compile_model(path, "CPU", {})
    executed = compiled.get_runtime_model().get_ops()
    # Weights that were unpacked to floats would stand as Multiply and Subtract, or be folded away.
    assert len([node for node in executed if layer_type(node) == "FullyConnected"]) >= 7 * 2
    assert not [node for node in executed if layer_type(node) in ("Subtract", "Multiply") and is_weight(node)]


def layer_type(node):
    return node.get_rt_info()["layerType"].value


def is_weight(node):
    return node.get_output_partial_shape(0).is_static


def test_padding_on_the_left_changes_nothing(make_llm, write_graph, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    path = write_graph(folder, tmp_path / "graph")
    mask = np.array([0] * 5 + [1] * 20)
    padded = run(path, [np.concatenate([np.zeros(5, int), PROMPT[:20]])], mask)
    plain = run(path, [PROMPT[:20]])
    np.testing.assert_allclose(padded[5:], plain, atol=1e-4 * np.abs(plain).max())


def test_the_same_checkpoint_gives_the_same_bytes(make_llm, write_graph, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    first, second = (write_graph(folder, tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".bin").read_bytes() == second.with_suffix(".bin").read_bytes()


def test_weights_beyond_float16_stay_float32(make_llm, read_weights, tmp_path):
    from safetensors.numpy import load_file, save_file

    from trireme.export_llm.constants import ConstantStore
    from trireme.export_llm.graph import build_graph

    folder, _ = make_llm(tmp_path / "source", "llama", "float32")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][3, 4] = 1e6
    save_file(tensors, folder / "model.safetensors")
    store = ConstantStore(tmp_path / "constants")
    build_graph(read_weights(folder), store)
    store.close()
    assert store.kept_fp32 == 1
