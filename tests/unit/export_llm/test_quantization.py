import json

import numpy as np
import pytest

from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm.quantization import Quantization, read_quantization, unpack_weight

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}


def read(stated):
    return read_quantization({"quantization_config": stated})


def test_methods_are_read_from_the_keys_of_their_tools():
    assert read_quantization({}) is None
    assert read(AWQ) == Quantization("awq", 4, 128)
    # What auto-awq wrote of old, and what gptqmodel writes.
    old = {"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": True, "version": "GEMM"}
    assert read(old).precision == "awq-int4 g64"
    assert read({**AWQ, "checkpoint_format": "gemm", "format": "gemm"}) == Quantization("awq", 4, 128)
    assert read(GPTQ) == Quantization("gptq", 4, 128, zero_offset=1)
    assert read({**GPTQ, "checkpoint_format": "gptq_v2"}).zero_offset == 0
    assert read({**GPTQ, "bits": 8, "group_size": -1}).precision == "gptq-int8"


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ({**AWQ, "bits": 3}, "AWQ with 3 bits"),
        ({**AWQ, "version": "gemv"}, "AWQ layout 'gemv'"),
        ({**AWQ, "zero_point": False}, "zero_point"),
        ({**AWQ, "group_size": 16}, "group_size 16"),
        ({**AWQ, "group_size": None}, "group_size None"),
        ({**GPTQ, "bits": 2}, "GPTQ with 2 bits"),
        ({**GPTQ, "desc_act": True}, "desc_act"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "GPTQ format 'marlin'"),
        ({"quant_method": "bitsandbytes"}, "'bitsandbytes' has no form on the CPU.*--target gpu"),
        ({"quant_method": "hqq"}, "'hqq'"),
        ({"bits": 4}, "quant_method None"),
    ],
)
def test_what_is_not_supported_is_named(stated, named):
    with pytest.raises(UnsupportedError, match=named):
        read(stated)


@pytest.mark.parametrize(
    "packing",
    [
        ("awq", 4, 32, ""),
        ("awq", 4, 64, ""),
        ("gptq", 4, 32, "gptq"),
        ("gptq", 4, -1, "gptq_v2"),
        ("gptq", 8, 64, "gptq"),
        ("gptq", 8, 32, "gptq_v2"),
    ],
)
def test_packed_layers_stand_for_the_weights_they_were_packed_from(packing, make_packed, tmp_path):
    folder, dense = make_packed(tmp_path, *packing)
    quantization = read_quantization(json.loads((folder / "config.json").read_text()))
    tensors = TensorFiles(folder)
    for prefix, expected in dense.items():
        weight = unpack_weight(tensors, prefix, quantization)
        np.testing.assert_array_equal(weight.dense(), expected)
        assert weight.integers.max() == 2 ** packing[1] - 1


def change(folder, name, edit):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors[name] = np.ascontiguousarray(edit(tensors[name]))
    save_file(tensors, folder / "model.safetensors")
    return TensorFiles(folder)


LAYER = "model.layers.1.mlp.down_proj"


def test_reordered_input_channels_are_refused(make_packed, tmp_path):
    folder, _ = make_packed(tmp_path, "gptq")
    tensors = change(folder, f"{LAYER}.g_idx", lambda order: order[::-1])
    with pytest.raises(UnsupportedError, match=r"down_proj\.g_idx reorders"):
        unpack_weight(tensors, LAYER, Quantization("gptq", 4, 32, 1))


def test_a_stored_zero_that_readers_take_differently_is_refused(make_packed, tmp_path):
    folder, _ = make_packed(tmp_path, "gptq")
    tensors = change(folder, f"{LAYER}.qzeros", lambda zeros: zeros | np.int32(0xF0))
    with pytest.raises(UnsupportedError, match=r"down_proj\.qzeros stores a zero of 15.*gptq_v2"):
        unpack_weight(tensors, LAYER, Quantization("gptq", 4, 32, 1))
    assert unpack_weight(tensors, LAYER, Quantization("gptq", 4, 32, 0)).zeros.max() == 15


def test_groups_that_do_not_fit_the_scales_are_refused(make_packed, tmp_path):
    folder, _ = make_packed(tmp_path, "awq")
    with pytest.raises(UnsupportedError, match="in groups of 64 do not fit scales"):
        unpack_weight(TensorFiles(folder), LAYER, Quantization("awq", 4, 64))
