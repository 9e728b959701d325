import json

from safetensors import safe_open

from trireme.quantize.checkpoint import read_causal_lm
from trireme.quantize.unquantized import open_tokenizer, write_half


def test_float32_becomes_bfloat16(llama, tmp_path):
    assert write_half(read_causal_lm(llama), tmp_path) == "bfloat16"
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118 - no dict


def test_ids_come_without_special_tokens_and_a_text_starts_as_the_tokenizer_says(llama, tmp_path):
    encode, prefix = open_tokenizer(llama)
    assert len(encode("oar")) == 3 and prefix == ()
    from tokenizers import Tokenizer, processors

    starting = Tokenizer.from_file(str(llama / "tokenizer.json"))
    starting.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    starting.save(str(tmp_path / "tokenizer.json"))
    config = json.loads((llama / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text((llama / "config.json").read_text())
    encode, prefix = open_tokenizer(tmp_path)
    assert len(encode("oar")) == 3 and prefix == (0,)
