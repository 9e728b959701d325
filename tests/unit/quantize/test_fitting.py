import sys

import pytest

from trireme.errors import SettingError, UnavailableError, UnsupportedError
from trireme.quantize import fitting
from trireme.quantize.cards import Load
from trireme.quantize.estimate import Rates
from trireme.quantize.fitting import describe_fit


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    """A machine of these speeds, so that no test measures one."""
    monkeypatch.setattr(fitting, "measure_rates", lambda model, device: Rates(1e12, 1e11))


def test_a_checkpoint_has_every_method_and_precision(llama, tmp_path):
    text = describe_fit({"source": str(llama)}, None, tmp_path, Load())
    cards, runs = text.split("\n\n")
    assert "AWQ int4, g64" in cards and "bf16" in cards and llama.name in cards
    lines = [line.split() for line in runs.splitlines()[2:]]
    assert [line[1] for line in lines] == ["awq", "gptq", "bnb-nf4", "bnb-int8", "none"]


def test_without_a_checkpoint_common_sizes_are_shown_for_one_method(tmp_path):
    text = describe_fit({"method": "gptq", "group_size": 32}, None, tmp_path, Load())
    cards, runs = text.split("\n\n")
    lines = runs.splitlines()[2:]
    assert len(lines) == 7 and all(" gptq " in line for line in lines)
    assert "GPTQ int4, g32" in cards and "70B" in cards


def test_a_recipe_file_names_the_checkpoint(llama, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(f'source = "{llama}"\nmethod = "gptq"\nbits = 8\n')
    assert llama.name in describe_fit({}, path, tmp_path, Load())
    path.write_text('method = "gptq"\n')
    with pytest.raises(SettingError, match="give SOURCE"):
        describe_fit({}, path, tmp_path, Load())


def test_without_torch_sizes_are_shown_and_times_are_not(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    text = describe_fit({}, None, tmp_path, Load())
    assert "times need torch" in text
    assert all(line.endswith(" -") for line in text.split("\n\n")[1].splitlines()[2:])


def test_what_cannot_be_estimated_is_said(monkeypatch, tmp_path):
    import torch

    with pytest.raises(UnsupportedError, match=r"config\.json is missing"):
        describe_fit({"source": str(tmp_path)}, None, tmp_path, Load())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match="torch sees no GPU; use --device cpu"):
        describe_fit({"device": "cuda"}, None, tmp_path, Load())
