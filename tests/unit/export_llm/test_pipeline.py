import json
from dataclasses import replace

import pytest

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.manifest import hash_file, read_manifest, verify_files
from trireme.artifacts.recipe import Recipe
from trireme.errors import ArtifactError, GateError, InvalidInputError, NotFoundError, UnsupportedError
from trireme.export_llm import pipeline
from trireme.export_llm.pipeline import build_llm
from trireme.generate.chat import ChatTemplate
from trireme.generate.messages import Message
from trireme.generate.tokenizer import LlmTokenizer


@pytest.fixture(scope="module")
def source(make_llm, tmp_path_factory):
    return make_llm(tmp_path_factory.mktemp("source"), "llama", "bfloat16")[0]


@pytest.fixture
def options(tmp_path):
    return BuildOptions(repository=tmp_path / "models", cache=tmp_path / "cache", project=tmp_path)


# Random weights leave many tokens near each other: which comes first is not what these tests are about.
LOOSE = {"min_top1_agreement": 0.5}


def recipe(source, **keys):
    return Recipe("tiny", "generator", source=str(source), **{**LOOSE, **keys})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_cpu_build_places_a_graph_near_its_checkpoint(source, options):
    steps = []
    manifest, was_built = build_llm(recipe(source), options, steps.append)
    version = options.repository / "tiny" / "1"
    assert was_built and read_manifest(version) == manifest
    verify_files(version, manifest)
    assert manifest.figures["logit_error"] < 0.05
    assert (manifest.kind, manifest.precision) == ("generator", "fp16")
    assert (manifest.dimensions, manifest.max_length) == (96, 256)
    assert names(version) == [
        "config.json",
        "generation_config.json",
        "manifest.json",
        "openvino_model.bin",
        "openvino_model.xml",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert steps[0] == "fetch" and "build, layer 2 of 2" in steps and steps[-1] == "place"
    assert 'backend: "generator"' in (options.repository / "tiny" / "config.pbtxt").read_text()


@pytest.mark.parametrize("packing", [("awq", 4, 32), ("gptq", 8, 64)])
def test_a_packed_checkpoint_is_near_its_own_integers_on_the_cpu_and_untouched_on_the_gpu(
    packing, make_packed, options, tmp_path
):
    folder, _ = make_packed(tmp_path / "source", *packing)
    # Activations in int8 weigh more in a model 64 numbers wide; test_graph compares without them.
    manifest, _ = build_llm(recipe(folder, max_model_len=200, max_logit_error=0.15), options)
    assert manifest.precision == f"{packing[0]}-int{packing[1]} g{packing[2]}"
    assert manifest.figures["logit_error"] < 0.15 and manifest.max_length == 200
    on_gpu, _ = build_llm(recipe(folder, target="gpu"), options)
    version = options.repository / "tiny" / "1"
    assert on_gpu.precision == manifest.precision and not on_gpu.figures
    assert set(names(version)) == {
        *names(folder),
        "manifest.json",
    }
    for path in folder.iterdir():
        assert on_gpu.files[path.name] == hash_file(path) == hash_file(version / path.name)


@pytest.mark.parametrize(("precision", "name"), [("int8", "int8"), ("int4", "int4 g32")])
def test_a_float_checkpoint_is_rounded_where_the_recipe_says_so(precision, name, source, options):
    # A random model of 64 numbers loses much by 4 bits; test_rounding has the bounds of each weight.
    limits = {"max_logit_error": 0.9, "min_top1_agreement": 0.1, "max_kl": 9.0}
    plain, _ = build_llm(recipe(source, **limits), options)
    rounded, was_built = build_llm(recipe(source, precision=precision, **limits), options)
    assert was_built and rounded.precision.startswith(name)
    assert rounded.sizes["openvino_model.bin"] < 0.8 * plain.sizes["openvino_model.bin"]
    assert rounded.figures["logit_error"] > plain.figures["logit_error"]


def test_a_quantized_checkpoint_is_not_rounded_again(make_packed, options, tmp_path):
    folder, _ = make_packed(tmp_path / "source", "awq")
    with pytest.raises(UnsupportedError, match=r"quantization_config.*take precision = 'int8' out"):
        build_llm(recipe(folder, precision="int8"), options)


def test_a_float_checkpoint_that_says_null_is_judged_as_one(make_llm, options, tmp_path, monkeypatch):
    folder, _ = make_llm(tmp_path / "source", "llama", "bfloat16")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": None}))
    asked = []

    def note(recipe, *, is_quantized):
        asked.append(is_quantized)
        raise GateError("enough")

    monkeypatch.setattr(pipeline, "read_thresholds", note)
    with pytest.raises(GateError):
        build_llm(recipe(folder), options)
    assert asked == [False]


ADAPTED = {
    "q_proj": (64, 64),
    "k_proj": (32, 64),
    "o_proj": (64, 64),
    "up_proj": (128, 64),
    "down_proj": (64, 128),
}


def write_adapter(folder, rank=4, alpha=8.0, **config):
    """A random LoRA of several layers, under PEFT's names; returns its tensors by module."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(9)
    updates = {}
    for layer in range(2):
        for name, (rows, columns) in ADAPTED.items():
            part = "mlp" if name in ("up_proj", "down_proj") else "self_attn"
            down, up = torch.randn(rank, columns) * 0.2, torch.randn(rows, rank) * 0.2
            updates[f"model.layers.{layer}.{part}.{name}"] = (down, up)
    tensors = {}
    for module, (down, up) in updates.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.{module}.lora_B.weight"] = up
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter.safetensors")
    given = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, **config}
    (folder / "adapter_config.json").write_text(json.dumps(given))
    return updates


def beside(model, updates, scale):
    """The model with each low-rank update computed beside its layer, as PEFT runs an adapter that is not merged."""

    def adapted(down, up):
        return lambda _, inputs, output: output + scale * (inputs[0] @ down.T) @ up.T

    for module, (down, up) in updates.items():
        model.get_submodule(module).register_forward_hook(adapted(down, up))
    return model


def test_a_merged_adapter_computes_what_one_beside_the_model_does(make_llm, torch_logits, options, tmp_path):
    from trireme.checkpoints.lora import LoraAdapter
    from trireme.export_llm.architecture import read_architecture
    from trireme.export_llm.reference import compute_logits
    from trireme.export_llm.weights import Weights

    folder, model = make_llm(tmp_path / "source")
    updates = write_adapter(tmp_path / "adapter")
    ids = [5, 9, 30, 77, 12, 40, 41]
    plain = torch_logits(model, ids)
    expected = torch_logits(beside(model, updates, 8.0 / 4), ids)
    architecture = read_architecture(json.loads((folder / "config.json").read_text()))
    weights = Weights(folder, architecture, None, LoraAdapter(tmp_path / "adapter"))
    merged = compute_logits(weights, [ids])[0]
    assert abs(merged - expected).max() < 1e-3 < 0.1 * abs(plain - expected).max()
    # The graph is measured against those logits, so one without the adapter would not pass.
    manifest, _ = build_llm(recipe(folder, adapter="adapter"), options)
    assert manifest.figures["logit_error"] < 0.05


def test_an_adapter_is_an_input_of_the_build_and_its_card_is_not(make_llm, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    write_adapter(tmp_path / "adapter")
    first, _ = build_llm(recipe(folder, adapter="adapter"), options)
    (tmp_path / "adapter" / "MODEL_CARD.md").write_text("How it was trained.")
    (tmp_path / "adapter" / "metrics.json").write_text("{}")
    assert build_llm(recipe(folder, adapter="adapter"), options) == (first, False)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace("8.0", "7.0"))
    other, was_built = build_llm(recipe(folder, adapter="adapter"), options)
    assert was_built and other.files["openvino_model.bin"] != first.files["openvino_model.bin"]
    assert build_llm(recipe(folder), options)[1]


def test_an_adapter_that_does_not_fit_is_refused_by_name(make_llm, make_packed, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    with pytest.raises(NotFoundError, match=r"adapter folder .* holds no adapter_model"):
        build_llm(recipe(folder, adapter="adapter"), options)
    write_adapter(tmp_path / "adapter", base_sha256="b" * 64)
    named = recipe(folder, adapter="adapter", weights_sha256=hash_file(folder / "model.safetensors"))
    with pytest.raises(UnsupportedError, match="base_sha256"):
        build_llm(named, options)
    wider, _ = make_llm(tmp_path / "wider", intermediate_size=192)
    with pytest.raises(
        UnsupportedError, match=r"'model\.layers\.0\.mlp\.down_proj' is \[64, 4\] times \[4, 128\]"
    ):
        build_llm(recipe(wider, adapter="adapter"), options)
    packed, _ = make_packed(tmp_path / "packed", "awq")
    with pytest.raises(UnsupportedError, match="is quantized: an adapter is merged into float weights"):
        build_llm(recipe(packed, adapter="adapter"), options)
    assert not (options.repository / "tiny").exists()


def test_past_a_threshold_nothing_is_placed(source, options):
    with pytest.raises(GateError, match=r"logit_error .* is above 0\.0.*top1_agreement="):
        build_llm(recipe(source, max_logit_error=0.0), options)
    assert not (options.repository / "tiny").exists()
    before, _ = build_llm(recipe(source), options)
    with pytest.raises(GateError):
        build_llm(recipe(source, max_logit_error=0.0), options)
    version = options.repository / "tiny" / "1"
    assert read_manifest(version) == before
    verify_files(version, before)
    assert [path.name for path in version.parent.glob(".tmp*")] == []


def test_a_graph_that_computes_something_else_does_not_pass(source, options, monkeypatch):
    from trireme.export_llm import graph

    def flat(rope, head_dim):
        return graph_frequencies(rope, head_dim) * 0.9

    graph_frequencies = graph.inverse_frequencies
    monkeypatch.setattr(graph, "inverse_frequencies", flat)
    with pytest.raises(GateError, match="logit_error"):
        build_llm(recipe(source), options)


def test_the_same_inputs_are_built_once(source, options):
    first, _ = build_llm(recipe(source), options)
    assert build_llm(recipe(source, max_num_seqs=3), options) == (first, False)
    assert 'string_value: "3"' in (options.repository / "tiny" / "config.pbtxt").read_text()
    again, was_built = build_llm(recipe(source), replace(options, force=True))
    assert was_built and again.files == first.files, "the same inputs give the same bytes"
    assert build_llm(recipe(source, max_model_len=64), options)[1]
    graph = options.repository / "tiny" / "1" / "openvino_model.bin"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert build_llm(recipe(source, max_model_len=64), options)[1], "a corrupt file is built again"


def test_a_source_is_found_from_the_projects_folder(source, options):
    manifest, _ = build_llm(recipe(source.name), replace(options, project=source.parent))
    assert manifest.source == source.name


def test_figures_of_the_quantizer_are_kept(make_llm, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    figures = {"perplexity_ratio": 1.01, "kl": 0.002, "agreement": 0.97, "tokens": 4096}
    (folder / "quantization.json").write_text(json.dumps({"figures": figures}))
    manifest, _ = build_llm(recipe(folder, target="gpu"), options)
    assert manifest.figures == {
        "quantized_perplexity_ratio": 1.01,
        "quantized_kl": 0.002,
        "quantized_agreement": 0.97,
    }
    (folder / "quantization.json").write_text("{}")
    with pytest.raises(UnsupportedError, match=r"quantization\.json holds no figures"):
        build_llm(recipe(folder, target="gpu"), options)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_what_is_refused_leaves_the_repository_untouched(target, make_llm, edit_config, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")

    def refused(match):
        with pytest.raises(UnsupportedError, match=match):
            build_llm(recipe(folder, target=target), options)
        assert not options.repository.exists()

    with pytest.raises(UnsupportedError, match="above the checkpoint's 256"):
        build_llm(recipe(folder, target=target, max_model_len=512), options)
    edit_config(folder, vocab_size=50)
    refused("tokenizer.json knows 96 tokens, but the model only 50")
    edit_config(folder, vocab_size=96, model_type=None)
    refused("model_type.*None")
    edit_config(folder, model_type="llama")
    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text("{}")
    refused("not a tokenizer with a vocabulary")
    (folder / "tokenizer.json").unlink()
    refused(r"tokenizer\.json is missing")
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(r"pytorch_model\.bin is a pickle")


def test_a_bitsandbytes_checkpoint_is_for_the_gpu(make_llm, edit_config, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    stated = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    edit_config(folder, quantization_config=stated)
    with pytest.raises(UnsupportedError, match="'bitsandbytes' has no form on the CPU"):
        build_llm(recipe(folder), options)
    assert build_llm(recipe(folder, target="gpu"), options)[0].precision == "bnb-nf4"


def test_an_encoders_recipe_is_sent_to_its_own_script(options):
    with pytest.raises(InvalidInputError, match=r"kind 'text_encoder'.*export_encoder\.py"):
        build_llm(Recipe("m", "text_encoder", source="x"), options)


YARN = {
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}


@pytest.mark.parametrize(
    "case",
    [("llama", YARN, "rope_type 'yarn'"), ("mixtral", EXPERTS, "model_type 'mixtral'")],
    ids=["yarn", "experts"],
)
def test_what_the_graph_has_no_form_for_is_placed_for_vllm(case, make_llm, options, tmp_path):
    family, more, said = case
    folder, _ = make_llm(tmp_path / "source", family, "bfloat16", **more)
    with pytest.raises(UnsupportedError, match=f"{said} is not supported.*--target gpu"):
        build_llm(recipe(folder), options)
    manifest, _ = build_llm(recipe(folder, target="gpu"), options)
    assert (manifest.precision, manifest.dimensions, manifest.max_length) == ("bf16", 96, 256)
    version = options.repository / "tiny" / "1"
    verify_files(version, manifest)
    assert hash_file(version / "model.safetensors") == hash_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", ["fp8", "compressed-tensors"])
def test_weights_of_eight_bits_are_placed_for_vllm(method, make_llm, edit_config, options, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    folder, _ = make_llm(tmp_path / "source", "llama", "bfloat16")
    weights = load_file(folder / "model.safetensors")
    small = {
        name: tensor.to(torch.float8_e4m3fn) if "proj" in name else tensor for name, tensor in weights.items()
    }
    save_file(small, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedError, match=r"is F8_E4M3, but config\.json has no quantization_config"):
        build_llm(recipe(folder, target="gpu"), options)
    edit_config(folder, quantization_config={"quant_method": method})
    manifest, _ = build_llm(recipe(folder, target="gpu"), options)
    assert manifest.precision == method
    with pytest.raises(
        UnsupportedError, match=f"quant_method '{method}' has no form on the CPU.*--target gpu"
    ):
        build_llm(recipe(folder), options)


def test_a_mixture_that_lacks_an_expert_or_a_layer_is_refused(make_llm, edit_config, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source", "mixtral", "bfloat16", **EXPERTS)
    edit_config(folder, num_local_experts=5)
    with pytest.raises(UnsupportedError, match="no tensor of expert 4 of 5 in layer 0"):
        build_llm(recipe(folder, target="gpu"), options)
    edit_config(folder, num_local_experts=4, num_hidden_layers=3)
    with pytest.raises(UnsupportedError, match="no tensor of layer 2 of 3"):
        build_llm(recipe(folder, target="gpu"), options)


def test_a_token_beyond_the_embeddings_is_refused_for_the_graph(make_llm, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"] = [{"id": 96, "content": "<pad2>", "special": True, **flags}]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(
        UnsupportedError, match="added token '<pad2>' with id 96, but the model only 96 tokens"
    ):
        build_llm(recipe(folder), options)
    assert build_llm(recipe(folder, target="gpu"), options)[1]


def test_a_token_whose_id_lies_beyond_the_embeddings_is_named(make_llm, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    vocabulary[last] = 96
    tokenizer["added_tokens"] = []
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(UnsupportedError, match="has a token with id 96, but the model only 96 tokens"):
        build_llm(recipe(folder), options)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_named_chat_templates_are_placed_and_found(target, make_llm, options, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    (folder / "additional_chat_templates").mkdir()
    (folder / "chat_template.jinja").write_text("plain")
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools | length }} tools")
    manifest, _ = build_llm(recipe(folder, target=target), options)
    version = options.repository / "tiny" / "1"
    verify_files(version, manifest)
    assert "chat_template.tool_use.jinja" in manifest.files
    template = ChatTemplate.load(version, LlmTokenizer.load(version))
    assert template.render([Message("user", "a")]) == "plain"
    assert template.render([Message("user", "a")], [{"function": {"name": "f"}}]) == "1 tools"


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_what_the_server_could_not_load_is_refused_before_it_is_placed(
    target, make_llm, edit_config, options, tmp_path
):
    folder, _ = make_llm(tmp_path / "source")
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(ArtifactError, match="the chat template is not valid"):
        build_llm(recipe(folder, target=target), options)
    (folder / "chat_template.jinja").unlink()
    (folder / "generation_config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    edit_config(folder, eos_token_id=None)
    with pytest.raises(ArtifactError, match="names no token that ends an answer"):
        build_llm(recipe(folder, target=target), options)
    assert not options.repository.exists()
