import json
import os

import pytest

from trireme.artifacts.manifest import hash_file
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm.checkpoint_files import check_for_gpu, link_checkpoint, name_gpu_precision


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_files_are_placed_as_they_are_and_pickles_are_not(make_packed, tmp_path):
    folder, _ = make_packed(tmp_path / "source", "gptq")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    for name in ("pytorch_model.bin", "consolidated.safetensors", "notes.md"):
        (folder / name).write_bytes(b"x")
    (folder / "sub").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    link_checkpoint(folder, target)
    placed = {path.name for path in target.iterdir()}
    assert placed >= {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"}
    assert not placed & {"pytorch_model.bin", "consolidated.safetensors", "notes.md", "sub"}
    for path in target.iterdir():
        assert hash_file(path) == hash_file(folder / path.name)
    assert (target / "model.safetensors").stat().st_ino == (folder / "model.safetensors").stat().st_ino


def test_another_disk_gets_copies_and_a_hub_cache_its_files(make_llm, tmp_path, monkeypatch):
    folder, _ = make_llm(tmp_path / "blobs")
    cache, target = tmp_path / "cache", tmp_path / "target"
    cache.mkdir()
    target.mkdir()
    for path in folder.iterdir():
        (cache / path.name).symlink_to(path)

    def refuse(origin, link):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    link_checkpoint(cache, target)
    assert not (target / "model.safetensors").is_symlink()
    assert hash_file(target / "model.safetensors") == hash_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        (None, "fp16"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq-int4 g128"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq-int8"),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "bnb-nf4",
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed-tensors"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
            },
            "compressed-tensors int4 g128",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 8, "type": "float", "group_size": None}}
                },
            },
            "compressed-tensors fp8",
        ),
    ],
)
def test_the_precision_is_read_from_the_checkpoint(stated, name, make_llm, tmp_path):
    folder, _ = make_llm(tmp_path)
    config = {**config_of(folder), "quantization_config": stated}
    check_for_gpu(folder, config)
    assert name_gpu_precision(folder, config) == name


def test_other_quantizations_and_broken_weights_are_refused(make_llm, tmp_path):
    folder, _ = make_llm(tmp_path)
    with pytest.raises(UnsupportedError, match="quant_method 'gguf'"):
        check_for_gpu(folder, {**config_of(folder), "quantization_config": {"quant_method": "gguf"}})
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UnsupportedError, match="not a whole safetensors file"):
        check_for_gpu(folder, config_of(folder))


def test_a_tensor_that_the_index_names_and_no_file_holds_is_named(make_llm, tmp_path):
    folder, _ = make_llm(tmp_path)
    names = dict.fromkeys(TensorFiles(folder).entries, "model.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    check_for_gpu(folder, config_of(folder))
    index.write_text(json.dumps({"weight_map": {**names, "model.lost.weight": "model.safetensors"}}))
    with pytest.raises(UnsupportedError, match=r"no tensor 'model\.lost\.weight'"):
        check_for_gpu(folder, config_of(folder))


@pytest.mark.parametrize("quantization", [None, {"quant_method": "fp8"}])
def test_experts_of_gpt_oss_in_floats_are_refused_before_they_are_placed(quantization, make_llm, tmp_path):
    more = {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2}
    folder, _ = make_llm(tmp_path, "gpt_oss", "bfloat16", **more)
    config = {**config_of(folder), "quantization_config": quantization}
    with pytest.raises(
        UnsupportedError, match=r"experts\.down_proj' is not in mxfp4.*take a checkpoint in mxfp4"
    ):
        check_for_gpu(folder, config)
    check_for_gpu(folder, {**config, "quantization_config": {"quant_method": "mxfp4"}})


@pytest.mark.parametrize(("family", "is_run"), [("gemma2", False), ("gemma", False), ("gemma3_text", True)])
def test_a_table_of_its_own_behind_gemmas_answers_is_refused_where_vllm_has_none(
    family, is_run, make_llm, tmp_path
):
    folder, _ = make_llm(tmp_path)
    config = {**config_of(folder), "model_type": family}
    check_for_gpu(folder, {**config, "tie_word_embeddings": True})
    if is_run:
        check_for_gpu(folder, config)
        return
    with pytest.raises(UnsupportedError, match=f"vLLM 0.24 runs {family} with tied embeddings alone"):
        check_for_gpu(folder, config)
