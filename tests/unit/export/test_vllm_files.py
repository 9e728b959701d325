import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.manifest import hash_file, read_manifest, verify_files
from trireme.artifacts.parity_texts import PAIRS, TEXTS
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.families import FAMILIES, STATIC
from trireme.checkpoints.gpu_families import NO_FP16_ON_GPU, POOLED_ON_GPU, SCORED_ON_GPU
from trireme.encode.pooling_files import read_pooling_files
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import UnsupportedError
from trireme.export import pipeline
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import load_graph
from trireme.export.pair_prompt import write_chat_template
from trireme.export.pipeline import build_model
from trireme.export.sentence_files import DenseLayer
from trireme.export.tokenizer_file import write_tokenizer
from trireme.export.vllm_files import check_vllm, write_vllm

DOCS = Path(__file__).parents[3] / "docs"
LEAST = {"cosine_min": 0.999, "cosine_mean": 0.9995}


def recipe(source, **keys):
    return Recipe("tiny", "text_encoder", source=str(source), engine="vllm", target="gpu", **keys)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def source(make_checkpoint, tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("source"), "xlm-roberta")


@pytest.fixture
def options(tmp_path):
    return BuildOptions(tmp_path / "models", tmp_path / "cache", tmp_path)


def write(folder, target, precision="bf16"):
    """The files of a checkpoint, and what was read of it."""
    target.mkdir()
    checkpoint = read_checkpoint(folder)
    write_tokenizer(checkpoint, target / "tokenizer.json")
    write_vllm(load_graph(checkpoint), checkpoint, precision, target, LEAST)
    return checkpoint


def test_a_build_places_the_checkpoints_own_weights_with_what_vllm_must_be_told(source, options):
    manifest, was_built = build_model(
        recipe(source, precision="bf16", pooling="cls", normalize=True, query_prompt="query: "), options
    )
    version = options.repository / "tiny" / "1"
    assert was_built and read_manifest(version) == manifest
    verify_files(version, manifest)
    assert sorted(manifest.files) == [
        "config.json",
        "model.safetensors",
        "pooling.json",
        "probe.tensors",
        "tokenizer.json",
    ]
    assert manifest.files["model.safetensors"] == hash_file(source / "model.safetensors")
    assert (manifest.engine, manifest.precision, manifest.pooling) == ("vllm", "bf16", "cls")
    assert (manifest.normalize, manifest.query_prompt, manifest.figures) == (True, "query: ", {})
    config = json.loads((version / "config.json").read_text())
    assert config["architectures"] == ["XLMRobertaModel"]
    # vLLM asks for it, and transformers 5 writes none.
    assert config["position_embedding_type"] == "absolute"
    said = read_pooling_files(version).config
    assert (said.pooling, said.precision, said.max_length) == ("cls", "bf16", manifest.max_length)
    assert (said.cosine_min, said.cosine_mean) == (0.999, 0.9995)
    again, was_built = build_model(
        recipe(source, precision="bf16", pooling="cls", normalize=True, query_prompt="query: "), options
    )
    assert again == manifest and not was_built


def test_thresholds_of_the_recipe_are_those_of_the_start(source, options):
    build_model(recipe(source, precision="fp16", min_cosine=0.9, mean_cosine=0.95), options)
    said = read_pooling_files(options.repository / "tiny" / "1").config
    assert (said.precision, said.cosine_min, said.cosine_mean) == ("fp16", 0.9, 0.95)


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_a_start_is_compared_with_the_vectors_that_the_library_makes(
    family, make_checkpoint, add_sentence_files, tmp_path
):
    from sentence_transformers import SentenceTransformer

    mode = "lasttoken" if family == "qwen3" else "mean"
    folder = make_checkpoint(tmp_path / "source", family)
    add_sentence_files(folder, {"pooling_mode": mode, "embedding_dimension": 32}, ("Transformer", "Pooling"))
    checkpoint = write(folder, tmp_path / "made")
    files = read_pooling_files(tmp_path / "made")
    tokenizer = Tokenizer.load(tmp_path / "made" / "tokenizer.json", checkpoint.max_length)
    assert files.probe.ids.tolist() == [
        token for row in tokenizer.encode_texts(list(TEXTS)) for token in row.ids
    ]
    library = SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS))
    assert (unit(files.outputs) * unit(library)).sum(1).min() > 0.99999
    assert files.compare(library) == pytest.approx({"cosine_min": 1.0, "cosine_mean": 1.0}, abs=1e-4)


def test_layers_behind_pooling_lie_where_vllm_looks_for_them(
    make_checkpoint, add_sentence_files, options, tmp_path
):
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_checkpoint(tmp_path / "source", "gemma3_text", use_bidirectional_attention=True)
    modules = ("Transformer", "Pooling", "Dense", "Dense")
    add_sentence_files(folder, {"pooling_mode_mean_tokens": True, "embedding_dimension": 32}, modules)
    listed = json.loads((folder / "modules.json").read_text())
    for (inner, outer, activation), module in zip(
        ((32, 48, "Tanh"), (48, 24, "Identity")), listed[2:], strict=True
    ):
        module["path"] = f"{module['idx']}_Dense"
        place = folder / module["path"]
        place.mkdir()
        said = {"in_features": inner, "out_features": outer, "bias": activation == "Tanh"}
        said["activation_function"] = f"torch.nn.modules.activation.{activation}"
        said["activation_function"] = said["activation_function"].replace(
            "activation.Identity", "linear.Identity"
        )
        (place / "config.json").write_text(json.dumps(said))
        layer = {"linear.weight": torch.randn(outer, inner)}
        if said["bias"]:
            layer["linear.bias"] = torch.randn(outer)
        save_file(layer, place / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(listed))
    manifest, _ = build_model(recipe(folder, precision="bf16"), options)
    version = options.repository / "tiny" / "1"
    verify_files(version, manifest)
    assert read_manifest(version) == manifest
    layers = [f"{n}_Dense/{name}" for n in range(2) for name in ("config.json", "model.safetensors")]
    assert sorted(name for name in manifest.files if "/" in name) == layers
    assert json.loads((version / "config.json").read_text())["architectures"] == ["Gemma3TextModel"]
    # Whoever serves it may be somebody else than who built it.
    assert all(stat.S_IMODE((version / name).stat().st_mode) & 0o044 == 0o044 for name in layers)
    # vLLM takes every file of that name for weights of the model.
    assert [path.name for path in version.glob("*.safetensors")] == ["model.safetensors"]
    listed = json.loads((version / "modules.json").read_text())
    assert [(one["type"], one["path"]) for one in listed] == [
        ("sentence_transformers.models.Dense", "0_Dense"),
        ("sentence_transformers.models.Dense", "1_Dense"),
    ]
    files = read_pooling_files(version)
    checkpoint = read_checkpoint(folder)
    graph = load_graph(replace(checkpoint, dense=()))
    with torch.inference_mode():
        ids = torch.tensor([files.probe.ids[: files.probe.lengths[0]].tolist()])
        vectors = graph.module(ids, torch.ones_like(ids))
        for number, function in enumerate((torch.tanh, lambda rows: rows)):
            tensors = load_file(version / f"{number}_Dense" / "model.safetensors")
            said = json.loads((version / f"{number}_Dense" / "config.json").read_text())
            assert said["bias"] == ("linear.bias" in tensors)
            assert said["activation_function"] == f"torch.nn.modules.{('Tanh', 'Identity')[number]}"
            vectors = function(
                torch.nn.functional.linear(vectors, tensors["linear.weight"], tensors.get("linear.bias"))
            )
    assert np.allclose(files.finish(vectors.numpy()), files.outputs[:1], atol=1e-4)


TEMPLATE = "<{query}> is answered by <{passage}> :"


def scorer_recipe(source, kind, **keys):
    return Recipe("tiny", kind, source=str(source), engine="vllm", target="gpu", precision="bf16", **keys)


def library_scores(folder, rows, read):
    """What transformers makes of each row alone: `read` of its logits."""
    import torch
    import transformers

    config = json.loads((folder / "config.json").read_text())
    model = getattr(transformers, config["architectures"][0]).from_pretrained(folder)
    with torch.inference_mode():
        return np.array([read(model.eval()(torch.tensor([row])).logits[0]) for row in rows])


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_answers_of_a_language_model_are_two_rows_of_its_head(family, make_checkpoint, options, tmp_path):
    more = {"final_logit_softcapping": 0.5} if family == "gemma2" else {}
    folder = make_checkpoint(tmp_path / "model", family, head="ForCausalLM", **more)
    (folder / "chat_template.jinja").write_text(write_chat_template(TEMPLATE))
    folder = save_answers(folder, tmp_path / "source", yes=9, no=4)
    manifest, _ = build_model(scorer_recipe(folder, "cross_encoder"), options)
    version = options.repository / "tiny" / "1"
    verify_files(version, manifest)
    assert manifest.template == TEMPLATE
    stated = json.loads((version / "config.json").read_text())
    assert stated["architectures"] == [f"{FAMILIES[family].class_name}ForCausalLM"]
    files = read_pooling_files(version)
    said = files.config
    assert (said.task, said.head, said.pooling) == ("embed", "score", "lasttoken")
    assert (said.softcap, said.padding) == (more.get("final_logit_softcapping", 0.0), None)
    assert (said.rank_correlation, said.score_difference) == (0.97, 0.05)
    assert files.groups == tuple(len(passages) for _, passages in PAIRS)
    rows = rows_of(files.probe)
    assert np.allclose(
        files.outputs, library_scores(folder, rows, lambda logits: logits[-1, 9] - logits[-1, 4]), atol=1e-4
    )
    # What is done here of vLLM's states.
    graph = load_graph(replace(read_checkpoint(folder, "cross_encoder"), answers=(4, 9)))
    assert np.allclose(files.finish(last_states(graph.module.encoder, rows)), files.outputs, atol=1e-4)


def save_answers(folder, target, yes, no):
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import LogitScore
    from sentence_transformers.sentence_transformer.modules import Transformer

    model = Transformer(str(folder), transformer_task="text-generation")
    CrossEncoder(modules=[model, LogitScore(yes, no)], device="cpu").save_pretrained(str(target))
    return target


def rows_of(probe):
    return [row.tolist() for row in np.split(probe.ids, np.cumsum(probe.lengths)[:-1])]


def last_states(encoder, rows):
    import torch

    with torch.inference_mode():
        found = []
        for row in rows:
            ids = torch.tensor([row])
            found.append(encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, -1])
        return torch.stack(found).numpy()


@pytest.mark.parametrize(
    ("family", "labels", "kind"),
    [
        ("qwen3", ["relevant"], "cross_encoder"),
        ("llama", ["no", "yes"], "cross_encoder"),
        ("qwen2", ["safe", "unsafe", "odd"], "classifier"),
        ("mistral", ["safe", "unsafe"], "classifier"),
        ("gemma3_text", ["safe", "unsafe", "odd"], "classifier"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_a_head_of_a_checkpoint_is_vllms_and_what_it_is_compared_by_the_librarys(  # noqa: PLR0917
    family, labels, kind, make_checkpoint, options, tmp_path
):
    folder = make_checkpoint(tmp_path / "source", family, labels=labels)
    config = folder / "config.json"
    # By these vLLM would take another head, round it, or look for a function that it does not have.
    other = {
        "classifier_from_token": ["no", "yes"],
        "head_dtype": "model",
        "sentence_transformers": {"activation_fn": "torch.nn.Sigmoid"},
    }
    config.write_text(json.dumps(json.loads(config.read_text()) | other))
    manifest, _ = build_model(scorer_recipe(folder, kind), options)
    version = options.repository / "tiny" / "1"
    verify_files(version, manifest)
    stated = json.loads((version / "config.json").read_text())
    assert stated["architectures"] == [f"{SCORED_ON_GPU[family]}ForSequenceClassification"]
    assert not set(other) & set(stated)
    files = read_pooling_files(version)
    said = files.config
    assert (said.task, files.answers) == ("classify", None)
    assert said.head == ("score" if kind == "cross_encoder" else "labels")
    assert (said.pooling, said.padding) == ("lasttoken", stated["pad_token_id"])

    def read(logits):
        if kind == "classifier":
            return logits.numpy()
        return (logits[0] if len(labels) == 1 else logits[1] - logits[0]).item()

    assert np.allclose(files.outputs, library_scores(folder, rows_of(files.probe), read), atol=1e-4)


def test_shards_are_placed_with_their_index_and_listed(make_checkpoint, options, tmp_path):
    from transformers import AutoModel

    folder = make_checkpoint(tmp_path / "source", "bert")
    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(path.name for path in folder.glob("*.safetensors*"))
    assert len(shards) > 2
    manifest, _ = build_model(recipe(folder, precision="bf16"), options)
    assert [name for name in sorted(manifest.files) if "safetensors" in name] == shards
    verify_files(options.repository / "tiny" / "1", manifest)


def test_a_variant_of_the_weights_is_placed_under_the_name_that_vllm_looks_for(make_checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "bert")
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    write(folder, tmp_path / "made")
    placed = hash_file(tmp_path / "made" / "model.safetensors")
    assert placed == hash_file(folder / "model.fp16.safetensors")


def test_every_family_of_vllms_is_one_of_ours():
    assert set(POOLED_ON_GPU) | set(SCORED_ON_GPU) <= set(FAMILIES)
    assert set(NO_FP16_ON_GPU) <= set(POOLED_ON_GPU) & set(SCORED_ON_GPU)
    # Each language model of ours makes scores there.
    assert {name for name, family in FAMILIES.items() if family.is_causal} == set(SCORED_ON_GPU)


GELU = DenseLayer(None, 32, 32, True, "GELU")


@pytest.mark.parametrize(
    ("change", "precision", "message"),
    [
        ({"kind": "cross_encoder"}, "bf16", "of xlm-roberta run faster on engine torch; use that"),
        ({"kind": "classifier"}, "bf16", "of xlm-roberta run faster on engine torch; use that"),
        ({"kind": "late_interaction"}, "bf16", "neither vectors nor scores of texts; use engine onnx"),
        (
            {"kind": "cross_encoder", "family": FAMILIES["deberta-v2"]},
            "bf16",
            "no model of its own that scores texts for model_type 'deberta-v2'",
        ),
        (
            {"kind": "classifier", "family": FAMILIES["modernbert"]},
            "bf16",
            "no model of its own that scores texts for model_type 'modernbert'",
        ),
        ({"kind": "cross_encoder", "family": FAMILIES["gemma2"]}, "fp16", "use precision bf16"),
        ({"outputs": ("dense", "sparse")}, "bf16", "name dense alone in outputs"),
        ({"family": STATIC}, "bf16", "no model of its own for model_type 'static'"),
        ({"family": FAMILIES["deberta-v2"]}, "bf16", "no model of its own for model_type 'deberta-v2'"),
        ({"family": FAMILIES["gemma3_text"]}, "fp16", "use precision bf16"),
        ({"pooling": "max"}, "bf16", "no pooling 'max', only mean, cls, lasttoken; use engine onnx"),
        ({"dense": (GELU,)}, "bf16", "a Dense with the activation 'GELU'"),
        (
            {"dense": (replace(GELU, activation="Tanh", is_residual=True),)},
            "bf16",
            "a Dense with use_residual",
        ),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_vllm_does_not_serve_is_refused_by_a_sentence(change, precision, message, source):
    checkpoint = replace(read_checkpoint(source), **change)
    with pytest.raises(UnsupportedError, match=f"engine vllm does not serve .*{message}"):
        check_vllm(checkpoint, precision)


@pytest.mark.parametrize(
    ("family", "labels", "kind", "more", "message"),
    [
        (
            "gemma3_text",
            ["a"],
            "cross_encoder",
            {"use_bidirectional_attention": True},
            "see those behind them",
        ),
        ("qwen2", ["a"], "cross_encoder", {"is_causal": False}, "see those behind them"),
        ("gemma2", None, "text_encoder", {"is_causal": False}, "gemma2 lets no token see those behind it"),
        ("gemma", ["a", "b", "c"], "classifier", {"tie_word_embeddings": False}, "gemma needs tie_word"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_vllms_class_of_a_family_would_do_otherwise_is_refused_at_the_build(  # noqa: PLR0917
    family, labels, kind, more, message, make_checkpoint, tmp_path
):
    labels = {} if labels is None else {"labels": labels}
    folder = make_checkpoint(tmp_path / "source", family, **labels, **more)
    stated = json.loads((folder / "config.json").read_text()) | more
    (folder / "config.json").write_text(json.dumps(stated))
    with pytest.raises(UnsupportedError, match=f"engine vllm does not serve .*{message}.*; use engine onnx"):
        check_vllm(read_checkpoint(folder, kind), "bf16")


def test_a_head_beside_an_encoder_without_its_prefix_is_refused(make_checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_checkpoint(tmp_path / "source", "qwen2", labels=["a", "b", "c"])
    tensors = load_file(folder / "model.safetensors")
    named = {name.removeprefix("model."): value.clone() for name, value in tensors.items()}
    (folder / "model.safetensors").unlink()
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UnsupportedError, match=r"do not begin with model\., as vLLM needs .*; use engine onnx"
    ):
        check_vllm(read_checkpoint(folder, "classifier"), "bf16")


def test_other_bounds_make_the_same_embedder_and_another_form_of_the_files_another_build(
    source, options, monkeypatch
):
    first, _ = build_model(recipe(source, precision="bf16"), options)
    other, was_built = build_model(recipe(source, precision="bf16", min_cosine=0.9, mean_cosine=0.9), options)
    assert was_built and (other.embedder, other.version) == (first.embedder, first.version)
    assert read_pooling_files(options.repository / "tiny" / "1").config.cosine_min == 0.9
    monkeypatch.setattr(pipeline, "POOLING_FORMAT_VERSION", 0)
    assert build_model(recipe(source, precision="bf16", min_cosine=0.9, mean_cosine=0.9), options)[1]


def test_nothing_is_loaded_of_a_model_that_is_refused(make_checkpoint, options, tmp_path):
    folder = make_checkpoint(tmp_path / "source", "mpnet")
    with pytest.raises(UnsupportedError, match="model_type 'mpnet'; use engine onnx"):
        build_model(recipe(folder, precision="bf16"), options)


def test_an_index_that_names_a_file_elsewhere_is_refused(source, tmp_path):
    checkpoint = read_checkpoint(source)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    index = {"weight_map": {"embeddings.word_embeddings.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text((source / "config.json").read_text())
    moved = replace(checkpoint, transformer_dir=folder)
    with pytest.raises(UnsupportedError, match=r"names '\.\./model\.safetensors', which is not in"):
        write_vllm(load_graph(checkpoint), moved, "bf16", tmp_path, LEAST)


def test_quality_is_measured_with_an_engine_that_runs_here(source, options, tmp_path):
    with pytest.raises(UnsupportedError, match="engine vllm runs on a GPU alone"):
        build_model(recipe(source, precision="bf16"), replace(options, quality=tmp_path))


@pytest.mark.parametrize(
    ("page", "start", "end", "families"),
    [
        ("models.md", "`vllm` serves embedding models of", " too. ", POOLED_ON_GPU),
        ("models.md", "Rerankers and classifiers of", " run on it", SCORED_ON_GPU),
        ("gpu-encoders.md", "- `vllm` for", ", in vectors", POOLED_ON_GPU),
        ("gpu-encoders.md", "Also for rerankers and classifiers of", ": those", SCORED_ON_GPU),
    ],
    ids=["models, vectors", "models, scores", "gpu, vectors", "gpu, scores"],
)
def test_the_pages_name_the_families_that_vllm_serves(page, start, end, families):
    text = " ".join((DOCS / page).read_text(encoding="utf-8").split())
    said = text.split(start, 1)[1].split(end)[0]
    assert {name for name in FAMILIES if re.search(rf"(?<![\w-]){name}(?![\w-])", said)} == set(families)
