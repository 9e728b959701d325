import json

import pytest

from trireme.quantize.files import finish_checkpoint


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "rope_theta": 5, "torch_dtype": "float32"}')
    (folder / "tokenizer.json").write_text("the source's")
    (folder / "chat_template.jinja").write_text("template")
    (folder / "model.safetensors").write_text("float weights")
    return folder


@pytest.fixture
def written(tmp_path):
    """What a quantizer leaves: its weights, and files of its own."""
    folder = tmp_path / "written"
    (folder / "offload").mkdir(parents=True)
    for name in (
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "quant_log.csv",
        "quantize_config.json",
    ):
        (folder / name).write_text("the quantizer's")
    (folder / "generation_config.json").write_text("{}")
    return folder


def test_the_weights_are_the_quantizers_and_the_rest_the_sources(source, written):
    finish_checkpoint(source, written, {"quant_method": "awq"}, "bfloat16")
    assert sorted(path.name for path in written.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (written / "model.safetensors").read_text() == "the quantizer's"
    assert (written / "tokenizer.json").read_text() == "the source's"
    assert json.loads((written / "config.json").read_text()) == {
        "model_type": "llama",
        "rope_theta": 5,
        "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "awq"},
    }


def test_an_unquantized_checkpoint_has_no_quantization_config(source, written):
    finish_checkpoint(source, written, None, "bfloat16")
    assert "quantization_config" not in json.loads((written / "config.json").read_text())
