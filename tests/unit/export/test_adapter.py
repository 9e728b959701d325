"""LoRA adapters as PEFT writes them, against the same update added by hooks of torch."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.families import FAMILIES
from trireme.errors import UnsupportedError
from trireme.export.adapter import merged_source
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import load_graph
from trireme.export.new_recipe import make_recipe
from trireme.export.pipeline import build_model

IDS = torch.tensor([[2, 5, 9, 13, 3]])
RANK, ALPHA = 4, 8
LORA = {
    "peft_type": "LORA",
    "r": RANK,
    "lora_alpha": ALPHA,
    "target_modules": ["query", "value"],
    "bias": "none",
}


@pytest.fixture
def base(make_checkpoint, tmp_path):
    return make_checkpoint(tmp_path / "base", "bert")


def write_adapter(folder, base, prefix="", more=None, **config):
    """Random low-rank pairs for query and value of both layers; returns them by module."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(11)
    pairs = {}
    for layer in range(2):
        for part in ("query", "value"):
            pairs[f"{prefix}encoder.layer.{layer}.attention.self.{part}"] = (
                torch.randn(RANK, 32) * 0.3,
                torch.randn(32, RANK) * 0.3,
            )
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
    save_file({**tensors, **(more or {})}, folder / "adapter_model.safetensors")
    document = {**LORA, "base_model_name_or_path": str(base), **config}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    return pairs


def run_merged(folder, tmp_path):
    with merged_source(folder, tmp_path / "cache") as merged, torch.inference_mode():
        graph = load_graph(read_checkpoint(merged))
        return graph, graph.module(*[IDS, torch.ones_like(IDS), torch.zeros_like(IDS)])


def run_hooked(base, pairs, scales, tmp_path):
    """The base's vectors with each pair's output added while it runs."""
    graph = load_graph(read_checkpoint(base))
    modules = dict(graph.module.encoder.named_modules())
    for name, (down, up) in pairs.items():
        scale = scales(name)
        modules[name].register_forward_hook(
            lambda module, given, out, down=down, up=up, scale=scale: out + scale * (given[0] @ down.T @ up.T)
        )
    with torch.inference_mode():
        return graph.module(*[IDS, torch.ones_like(IDS), torch.zeros_like(IDS)])


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({}, lambda name: ALPHA / RANK),
        ({"use_rslora": True}, lambda name: ALPHA / math.sqrt(RANK)),
        (
            {"alpha_pattern": {"layer.1.attention.self.value": 2}},
            lambda name: (2 if "1.attention.self.v" in name else 8) / RANK,
        ),
    ],
)
def test_an_adapter_is_added_to_its_base(config, scales, base, tmp_path):
    pairs = write_adapter(tmp_path / "adapter", base, **config)
    _, vectors = run_merged(tmp_path / "adapter", tmp_path)
    torch.testing.assert_close(vectors, run_hooked(base, pairs, scales, tmp_path), rtol=1e-4, atol=1e-5)
    assert (vectors - run_hooked(base, {}, scales, tmp_path)).abs().max() > 0.01
    assert list((tmp_path / "cache").iterdir()) == [], "the merged folder is removed"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_of_every_family_has_a_place_in_its_base(family, make_checkpoint, tmp_path):
    before = load_file(make_checkpoint(tmp_path / "base", family) / "model.safetensors")
    name = next(key for key in before if key.endswith(".weight") and ".0." in key and before[key].dim() == 2)
    rows, columns = before[name].shape
    down, up = torch.randn(RANK, columns), torch.randn(rows, RANK)
    module = f"base_model.model.{name.removesuffix('.weight')}"
    (tmp_path / "adapter").mkdir()
    tensors = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    save_file(tensors, tmp_path / "adapter" / "adapter_model.safetensors")
    document = {**LORA, "base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(document))
    with merged_source(tmp_path / "adapter", tmp_path / "cache") as merged:
        found = load_file(merged / "model.safetensors")[f"{FAMILIES[family].prefix}.{name}"]
        assert load_graph(read_checkpoint(merged)).dimensions == 32
    torch.testing.assert_close(found, before[name] + ALPHA / RANK * (up @ down))


def test_a_base_beside_its_adapter_or_named_from_there_is_found(base, tmp_path):
    pairs = write_adapter(tmp_path / "adapter", "../base")
    _, relative = run_merged(tmp_path / "adapter", tmp_path)
    write_adapter(base, "organisation/base")
    _, beside = run_merged(base, tmp_path)
    torch.testing.assert_close(relative, beside)
    assert len(pairs) == 4


def test_a_base_that_is_not_there_is_named(base, tmp_path):
    write_adapter(tmp_path / "adapter", "organisation/base")
    with pytest.raises(UnsupportedError, match=r'base_model_name_or_path = "organisation/base": .*download'):
        run_merged(tmp_path / "adapter", tmp_path)


def test_a_classifiers_adapter_brings_its_head(base, tmp_path):
    torch.manual_seed(5)
    head = {
        "base_model.model.classifier.weight": torch.randn(3, 32),
        "base_model.model.classifier.bias": torch.randn(3),
    }
    write_adapter(
        tmp_path / "adapter", base, "bert.", head, task_type="SEQ_CLS", modules_to_save=["classifier"]
    )
    graph, logits = run_merged(tmp_path / "adapter", tmp_path)
    assert logits.shape == (1, 3)
    weight = dict(graph.module.named_parameters())["classifier.classifier.weight"]
    torch.testing.assert_close(weight, head["base_model.model.classifier.weight"])


def test_an_adapter_of_the_table_of_words_is_added(base, tmp_path):
    down, up = torch.randn(RANK, 82), torch.randn(32, RANK)
    name = "base_model.model.embeddings.word_embeddings.lora_embedding_"
    write_adapter(tmp_path / "adapter", base, more={f"{name}A": down, f"{name}B": up})
    with merged_source(tmp_path / "adapter", tmp_path / "cache") as merged:
        found = load_file(merged / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    before = load_file(base / "model.safetensors")["embeddings.word_embeddings.weight"]
    torch.testing.assert_close(found, before + 2 * (up @ down).T)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"peft_type": "PREFIX_TUNING"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights"),
    ],
)
def test_another_adapter_is_refused_by_its_key(config, key, base, tmp_path):
    write_adapter(tmp_path / "adapter", base, **config)
    with pytest.raises(UnsupportedError, match=rf"adapter_config\.json: {key} = .*merge_and_unload"):
        run_merged(tmp_path / "adapter", tmp_path)


def test_a_part_that_the_base_lacks_is_named(base, tmp_path):
    write_adapter(tmp_path / "adapter", base, "decoder.")
    with pytest.raises(UnsupportedError, match=r"decoder.*has no place in the base"):
        run_merged(tmp_path / "adapter", tmp_path)


def test_a_model_of_sentence_transformers_is_built_from_an_adapter(base, tmp_path, add_sentence_files):
    adapter = tmp_path / "adapter"
    write_adapter(adapter, base)
    add_sentence_files(adapter, {"pooling_mode": "cls"}, query="query: ")
    options = BuildOptions(repository=tmp_path / "models", cache=tmp_path / "cache", project=tmp_path)
    recipe = make_recipe("tiny", {"source": str(adapter)}, tmp_path / "cache")
    manifest, _ = build_model(recipe, options)
    assert (manifest.pooling, manifest.query_prompt, manifest.max_length) == ("cls", "query: ", 48)
    assert build_model(recipe, options) == (manifest, False)
    # Another base is another build.
    weights = load_file(base / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert build_model(Recipe("tiny", "text_encoder", source=str(adapter)), options)[1]


def test_a_folder_without_an_adapter_is_used_as_it_is(base, tmp_path):
    with merged_source(base, tmp_path / "cache") as merged:
        assert merged == base
    assert not (tmp_path / "cache").exists()
