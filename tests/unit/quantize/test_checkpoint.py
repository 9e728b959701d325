import json
import shutil

import pytest

from trireme.errors import UnsupportedError
from trireme.quantize.checkpoint import check_groups, read_causal_lm

# q, k, v, o, gate, up and down of one layer of the tiny Llama.
LINEAR_PARAMETERS = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128


@pytest.fixture
def copy(llama, tmp_path):
    return shutil.copytree(llama, tmp_path / "copy")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_sizes_come_from_the_headers(llama):
    model = read_causal_lm(llama)
    assert (model.architecture, model.layers, model.dtype) == ("LlamaForCausalLM", 2, "F32")
    assert model.linear_parameters == 2 * LINEAR_PARAMETERS
    # Embeddings are tied, so stored once; two norms a layer and one at the end.
    assert model.parameters == 2 * LINEAR_PARAMETERS + 300 * 64 + 5 * 64
    assert model.weight_bytes == 4 * model.parameters
    assert sorted(set(model.linears)) == [(64, 32), (64, 64), (64, 128), (128, 64)]


def test_a_pickle_is_refused_by_name(copy):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedError, match=r"pytorch_model\.bin is a pickle"):
        read_causal_lm(copy)


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "MixtralForCausalLM", "BertModel"])
def test_an_unknown_architecture_is_named(copy, architecture):
    edit_config(copy, architectures=[architecture])
    with pytest.raises(UnsupportedError, match=f"architecture '{architecture}' is not supported"):
        read_causal_lm(copy)


def test_code_of_its_own_is_never_run(copy):
    edit_config(copy, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    with pytest.raises(UnsupportedError, match="auto_map"):
        read_causal_lm(copy)


def test_a_quantized_checkpoint_is_not_quantized_again(copy):
    edit_config(copy, quantization_config={"quant_method": "awq"})
    with pytest.raises(UnsupportedError, match=r"quantized already \(awq\)"):
        read_causal_lm(copy)
    edit_config(copy, quantization_config=["awq"])
    with pytest.raises(UnsupportedError, match="quantized already"):
        read_causal_lm(copy)
    edit_config(copy, quantization_config=None)
    assert read_causal_lm(copy).layers == 2


def test_a_cut_file_is_named(copy):
    (copy / "model.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(UnsupportedError, match=r"model\.safetensors is not a whole safetensors file"):
        read_causal_lm(copy)


def test_a_missing_config_or_tokenizer_is_named(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedError, match=r"no tokenizer\.json"):
        read_causal_lm(copy)
    (copy / "config.json").unlink()
    with pytest.raises(UnsupportedError, match=r"config\.json is missing"):
        read_causal_lm(copy)


def test_groups_must_divide_every_projection(llama):
    model = read_causal_lm(llama)
    check_groups(model, 64, 32)
    with pytest.raises(UnsupportedError, match="64 inputs, no multiple of group_size 128"):
        check_groups(model, 128, 32)
    with pytest.raises(UnsupportedError, match="32 outputs, no multiple of 64"):
        check_groups(model, 32, 64)
