"""Adapters that a request may choose: what is refused at the build, what is placed, what the graph computes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.manifest import hash_file, read_manifest, verify_files
from trireme.artifacts.recipe import Recipe, read_recipe, write_recipe
from trireme.errors import ArtifactError, GateError, NotFoundError, SettingError, UnsupportedError
from trireme.export_llm import adapters as adapters_module
from trireme.export_llm.pipeline import build_llm

QUERIES, DOWN = "self_attn.q_proj", "mlp.down_proj"
SHAPES = {QUERIES: (64, 64), DOWN: (64, 128), "self_attn.k_proj": (32, 64)}
LOOSE = {"min_top1_agreement": 0.5}


@pytest.fixture(scope="module")
def source(make_llm, tmp_path_factory):
    return make_llm(tmp_path_factory.mktemp("source"))[0]


@pytest.fixture
def options(tmp_path):
    return BuildOptions(repository=tmp_path / "models", cache=tmp_path / "cache", project=tmp_path)


def write(folder, names=(QUERIES, DOWN), rank=4, seed=1, *, suffix="", dtype=np.float32, **config):
    """A random LoRA of those layers in both blocks."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name in names:
        layers = [name] if name.startswith("lm_head") else [f"model.layers.{n}.{name}" for n in range(2)]
        rows, columns = SHAPES.get(name, (96, 64))
        for layer in layers:
            start = f"base_model.model.{layer}"
            down, up = random.normal(0, 0.2, (rank, columns)), random.normal(0, 0.2, (rows, rank))
            tensors[f"{start}.lora_A{suffix}.weight"] = down.astype(dtype)
            tensors[f"{start}.lora_B{suffix}.weight"] = up.astype(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    given = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(given))


def recipe(source, *names, target="cpu", **keys):
    named = tuple(f"{name}=loras/{name}" for name in names)
    return Recipe("tiny", "generator", source=str(source), target=target, adapters=named, **{**LOOSE, **keys})


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_adapters_are_placed_below_the_version_and_their_hashes_are_looked_at(
    source, options, tmp_path, target
):
    write(tmp_path / "loras" / "law")
    write(tmp_path / "loras" / "art", ("self_attn.k_proj",), rank=6, seed=2)
    (tmp_path / "loras" / "art" / "README.md").write_text("How it was trained.")
    manifest, _ = build_llm(recipe(source, "law", "art", target=target), options)
    version = options.repository / "tiny" / "1"
    assert read_manifest(version) == manifest
    assert manifest.adapters == {"law": 4, "art": 6} and [*manifest.adapters] == ["law", "art"]
    placed = [name for name in manifest.files if name.startswith("adapters/")]
    assert placed == [
        f"adapters/{name}/{file}"
        for name in ("art", "law")
        for file in ("adapter_config.json", "adapter_model.safetensors")
    ]
    assert 'key: "adapters"' in (options.repository / "tiny" / "config.pbtxt").read_text()
    verify_files(version, manifest)
    (version / placed[1]).write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"adapters/art/adapter_model\.safetensors is not the file"):
        verify_files(version, manifest)


def test_names_order_and_files_of_adapters_are_inputs_of_a_build_and_folders_are_not(
    source, options, tmp_path
):
    write(tmp_path / "loras" / "law")
    write(tmp_path / "loras" / "art", seed=2)
    first, _ = build_llm(recipe(source, "law", target="gpu"), options)
    (tmp_path / "loras" / "law").rename(tmp_path / "loras" / "moved")
    moved = replace(recipe(source, target="gpu"), adapters=("law=loras/moved",))
    assert build_llm(moved, options) == (first, False)
    other, was_built = build_llm(replace(moved, adapters=("rules=loras/moved",)), options)
    assert was_built and other.version != first.version
    plain, was_built = build_llm(recipe(source, target="gpu"), options)
    assert was_built and not plain.adapters
    assert "adapters" not in (options.repository / "tiny" / "config.pbtxt").read_text()
    assert "adapters" not in (options.repository / "tiny" / "1" / "manifest.json").read_text()


@pytest.mark.parametrize("form", ["floats", "int8", "awq"])
def test_a_graph_computes_the_model_and_each_adapter_in_the_gate(
    make_packed, source, options, tmp_path, form
):
    """The figures are over all: an adapter that was left out, or another's, is far beyond the threshold."""
    write(tmp_path / "loras" / "law", seed=3)
    write(tmp_path / "loras" / "art", (QUERIES, "self_attn.k_proj"), rank=2, seed=4, use_rslora=True)
    folder = make_packed(tmp_path / "packed", "awq")[0] if form == "awq" else source
    keys = {"precision": "int8"} if form == "int8" else {}
    manifest, _ = build_llm(recipe(folder, "law", "art", **keys), options)
    assert manifest.figures["logit_error"] < (0.15 if form == "int8" else 0.05)


def test_a_graph_whose_adapters_are_mixed_up_does_not_pass_the_gate(source, options, tmp_path, monkeypatch):
    from trireme.export_llm import pipeline

    write(tmp_path / "loras" / "law", seed=3)
    write(tmp_path / "loras" / "art", seed=4)
    real = pipeline.mark_prompt
    monkeypatch.setattr(pipeline, "mark_prompt", lambda prompt, n, size: real(prompt, -n % 3, size))
    with pytest.raises(GateError, match="logit_error"):
        build_llm(recipe(source, "law", "art"), options)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"peft_type": "LOHA"}, "only LORA"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank": 600}, "of rank 600; the most is 512"),
        ({"names": ()}, "has no update of any layer; train it or take 'law' out"),
        ({"dtype": np.int8}, "is of type I8; save it in F32, F16 or BF16"),
        ({"names": ("self_attn.qkv",)}, r"no layer 'model\.layers\.0\.self_attn\.qkv'"),
    ],
)
def test_what_is_no_plain_lora_of_the_model_is_refused_by_name(source, options, tmp_path, made, said):
    write(tmp_path / "loras" / "law", **made)
    for target in ("cpu", "gpu"):
        with pytest.raises(UnsupportedError, match=said):
            build_llm(recipe(source, "law", target=target), options)
    assert not (options.repository / "tiny").exists()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (("gpu", {"alpha_pattern": {"q_proj": 3}}), "which vLLM does not read"),
        (("gpu", {"r": None}), "r = null: vLLM needs the rank"),
        (("gpu", {"r": 0}), "r = 0: vLLM needs the rank"),
        (("gpu", {"r": "4"}), 'r = "4": vLLM needs the rank'),
        (("cpu", {"r": None}), ""),
        (("cpu", {"dtype": np.float16}), ""),
        (("gpu", {"suffix": ".default"}), "names the adapter; save it with PEFT"),
        (("cpu", {"alpha_pattern": {"q_proj": 3}}), ""),
        (("cpu", {"names": ("lm_head",)}), "changes 'lm_head', which requests share on a CPU"),
    ],
)
def test_what_one_engine_alone_cannot_do_is_refused_there(source, options, tmp_path, made, said):
    target, config = made
    write(tmp_path / "loras" / "law", **config)
    if said:
        with pytest.raises(UnsupportedError, match=said):
            build_llm(recipe(source, "law", target=target), options)
    else:
        assert build_llm(recipe(source, "law", target=target), options)[0].adapters == {"law": 4}


def test_a_folder_without_an_adapter_is_named(source, options):
    with pytest.raises(NotFoundError, match="law holds no adapter_model"):
        build_llm(recipe(source, "law"), options)


def test_more_adapters_than_a_graph_tells_apart_are_refused_with_the_most(
    source, options, tmp_path, monkeypatch
):
    write(tmp_path / "loras" / "law")
    monkeypatch.setattr(adapters_module, "MOST_IDS", 191)
    with pytest.raises(UnsupportedError, match="names 1; a graph with 96 tokens takes 0"):
        build_llm(recipe(source, "law"), options)


def test_a_model_without_a_graph_of_ours_is_told_what_to_do_instead(make_llm, options, tmp_path):
    from trireme.export_llm.adapters import check_for_graph, open_adapters

    write(tmp_path / "loras" / "law")
    opened = open_adapters(recipe(tmp_path, "law"), tmp_path)
    with pytest.raises(UnsupportedError, match="merge each with the recipe's key adapter"):
        check_for_graph(opened, None)
    check_for_graph({}, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("loras/law",), "NAME=FOLDER"),
        (("=loras/law",), "NAME=FOLDER"),
        (("law=",), "NAME=FOLDER"),
        (("a/b=loras/law",), "NAME=FOLDER"),
        (("law=a", "law=b"), "'law' twice"),
        (tuple(f"a{n}=b" for n in range(65)), "at most 64, got 65"),
    ],
)
def test_what_names_no_adapters_is_refused_in_the_recipe(source, given, said):
    with pytest.raises(SettingError, match=said):
        replace(recipe(source), adapters=given)


def test_a_recipe_file_keeps_its_adapters_and_other_kinds_have_none(source, tmp_path):
    one = replace(recipe(source, "law", "art"), model=tmp_path.name)
    write_recipe(tmp_path / "recipe.toml", one)
    assert read_recipe(tmp_path / "recipe.toml") == one
    assert one.adapter_folders == {"law": "loras/law", "art": "loras/art"}
    with pytest.raises(SettingError, match="no key 'adapters'"):
        Recipe("e", "text_encoder", source="x", adapters=("law=a",))


def test_a_packed_layer_is_known_without_its_shape(make_packed, options, tmp_path):
    write(tmp_path / "loras" / "law")
    folder, _ = make_packed(tmp_path / "packed", "gptq")
    manifest, _ = build_llm(recipe(folder, "law", target="gpu"), options)
    assert manifest.files["adapters/law/adapter_model.safetensors"] == hash_file(
        tmp_path / "loras" / "law" / "adapter_model.safetensors"
    )
