import json

from benchmarks.generation.clients import Run
from benchmarks.quantization import run as quantization
from benchmarks.quantization.page import name_method
from benchmarks.quantization.run import METHODS, choose_rows, folder_of, main, measure_rate
from trireme.quantize.gate import DEFAULTS
from trireme.quantize.recipe import make_recipe


def test_every_row_has_a_method_with_thresholds_and_a_folder_of_its_own(tmp_path):
    assert {(method, bits) for method, bits, _ in METHODS.values()} == set(DEFAULTS)
    assert len({folder_of(tmp_path, name) for name in METHODS}) == len(METHODS)


def test_a_row_is_called_what_its_checkpoint_is():
    for name, (method, bits, flags) in METHODS.items():
        given = dict(
            zip((flag[2:].replace("-", "_") for flag in flags[::2]), map(int, flags[1::2]), strict=True)
        )
        recipe = make_recipe({"source": "x", "method": method, **given}, None)
        assert (name_method((method, bits, recipe.group)), recipe.width) == (name, bits)


def test_rows_have_groups_that_divide_the_model():
    wide = choose_rows([(4096, 14_336), (14_336, 4096)])
    assert [name for name in wide if "AWQ" in name] == ["AWQ int4, g128", "AWQ int4, g32"]
    assert [name for name in wide if "int8, g" in name] == ["GPTQ int8, g128"]
    small = choose_rows([(576, 1536), (1536, 576)])
    assert [name for name in small if "GPTQ" in name] == [
        "GPTQ int4, g64",
        "GPTQ int4, g32",
        "GPTQ int8, g64",
    ]
    assert choose_rows([(100, 100)]) == ["none (bf16)", "bitsandbytes NF4", "bitsandbytes int8"]
    assert choose_rows([(576, 1536)], only=["awq"]) == ["AWQ int4, g64", "AWQ int4, g32"]


class Rates:
    """An engine that remembers its prompts and makes two tokens a second of each."""

    def run(self, prompts, max_tokens):
        self.prompts = [tuple(prompt) for prompt in prompts]
        return Run(len(prompts) * max_tokens, max_tokens / 2.0, 0.1)


def test_a_rate_counts_the_tokens_of_all_streams():
    engine = Rates()
    assert measure_rate(engine, 4, turn=1) == 8.0
    assert len(set(engine.prompts)) == 4
    assert {len(prompt) for prompt in engine.prompts} == {quantization.PROMPT_TOKENS}


def write_model(folder):
    """One projection and what must stand beside it."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    sizes = ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings")
    config = {"architectures": ["LlamaForCausalLM"], **dict.fromkeys(sizes, 1)}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"model.layers.0.mlp.up_proj.weight": torch.zeros(64, 64)}, folder / "model.safetensors")
    return folder


def test_without_texts_or_an_environment_the_script_ends_with_one_sentence(tmp_path, capsys):
    assert main([]) == 1
    assert "give --calibration and --eval" in capsys.readouterr().err
    words = ["--calibration", "a", "--eval", "b", "--only", "none", "--work", str(tmp_path)]
    words += ["--model", str(write_model(tmp_path / "model"))]
    assert main([*words, "--quantizer", str(tmp_path / "python")]) == 1
    assert "make quantize-env" in capsys.readouterr().err
