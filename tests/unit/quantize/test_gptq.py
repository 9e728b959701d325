import sys

import pytest

from trireme.errors import UnavailableError
from trireme.quantize import bnb, gptq
from trireme.quantize.recipe import QuantizeRecipe


@pytest.mark.parametrize(("adapter", "library"), [(gptq, "gptqmodel"), (bnb, "bitsandbytes")])
def test_without_its_library_an_adapter_says_what_to_run(monkeypatch, adapter, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UnavailableError, match="make quantize-env, then") as caught:
        adapter.check_tools()
    assert f"{library} cannot be imported here" in str(caught.value)


def test_formats_are_described_as_auto_awq_and_auto_gptq_did(monkeypatch):
    monkeypatch.setattr(gptq, "version", lambda name: "7.6.0")
    awq = gptq.describe_format(QuantizeRecipe("m", "awq"))
    assert (awq["quant_method"], awq["version"], awq["zero_point"]) == ("awq", "gemm", True)
    described = gptq.describe_format(QuantizeRecipe("m", "gptq", bits=8, group_size=64, sym=False))
    assert described["quant_method"] == "gptq" and described["checkpoint_format"] == "gptq"
    assert (described["bits"], described["group_size"], described["sym"]) == (8, 64, False)
    assert described["desc_act"] is False


def test_float16_is_kept_on_a_gpu_alone(llama):
    from dataclasses import replace

    import torch

    from trireme.quantize.checkpoint import read_causal_lm

    model = replace(read_causal_lm(llama), dtype="F16")
    assert gptq.compute_dtype(model, "cpu") is torch.bfloat16
    assert gptq.compute_dtype(model, "cuda") is torch.float16
