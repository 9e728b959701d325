import json
from dataclasses import replace

import pytest

from trireme.artifacts.manifest import (
    Manifest,
    check_searchable,
    hash_file,
    read_manifest,
    verify_files,
    write_manifest,
)
from trireme.artifacts.tuning import Tried, Tuning
from trireme.errors import ArtifactError, SettingError


@pytest.fixture
def version(tmp_path):
    folder = tmp_path / "tiny" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "tokenizer.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def manifest(version):
    names = ("model.onnx", "tokenizer.json")
    return Manifest(
        model="tiny",
        kind="text_encoder",
        source="some/model",
        revision="r",
        precision="int8",
        dimensions=32,
        max_length=64,
        files={name: hash_file(version / name) for name in names},
        sizes={"model.onnx": 5, "tokenizer.json": 2},
        pooling="mean",
        labels=("a", "b"),
        figures={"cosine_min": 0.98},
        quality={"letters": {"before": 0.5, "after": 0.4}},
        tools={"torch": "2"},
    )


def test_a_manifest_reads_back_as_it_was(version, manifest):
    write_manifest(version, manifest)
    assert read_manifest(version) == manifest
    verify_files(version, manifest)
    assert manifest.total_bytes == 7


@pytest.mark.parametrize("adapters", [{"../law": 4}, {"": 4}, {"law": 0}, {"law": "4"}], ids=str)
def test_adapters_that_no_build_makes_are_refused(version, manifest, adapters):
    write_manifest(version, replace(manifest, adapters=adapters))
    with pytest.raises(ArtifactError, match="has the adapter"):
        read_manifest(version)


def test_an_encoder_of_one_vector_says_nothing_of_its_outputs_and_of_several_names_them(version, manifest):
    write_manifest(version, manifest)
    assert '"outputs"' not in (version / "manifest.json").read_text()
    several = replace(manifest, outputs=("dense", "multi"))
    write_manifest(version, several)
    assert read_manifest(version) == several


@pytest.mark.parametrize(
    ("similarity", "normalize", "said"),
    [
        ("", False, ""),
        ("dot", True, ""),
        ("euclidean", True, ""),
        ("dot", False, "by the dot product, .*: build it with --normalize"),
        ("euclidean", False, "by euclidean distance, .*: build it with --normalize"),
        ("manhattan", True, "by manhattan distance, .*: take another model"),
    ],
)
def test_only_vectors_that_the_cosine_ranks_as_they_are_meant_are_searched(
    version, manifest, similarity, normalize, said
):
    meant = replace(manifest, similarity=similarity, normalize=normalize)
    write_manifest(version, meant)
    assert read_manifest(version) == meant
    # Who compares them does not change them.
    assert (meant.version, meant.embedder) == (replace(meant, similarity="").version, meant.embedder)
    if not said:
        check_searchable(meant)
        return
    with pytest.raises(SettingError, match=said):
        check_searchable(meant)


def test_a_corrupt_file_is_named(version, manifest):
    (version / "model.onnx").write_bytes(b"grapH")
    with pytest.raises(ArtifactError, match=r"1/model\.onnx is not the file in the manifest"):
        verify_files(version, manifest)


def test_a_missing_file_is_named_with_the_command_that_rebuilds_it(version, manifest):
    (version / "tokenizer.json").unlink()
    with pytest.raises(
        ArtifactError, match=r"tokenizer\.json is missing.*export_encoder\.py --recipe .*tiny/recipe"
    ):
        verify_files(version, manifest)


def test_a_missing_manifest_is_named_with_the_command_that_builds_it(version):
    with pytest.raises(
        ArtifactError, match=r"manifest\.json is missing; build the model with: python build/"
    ):
        read_manifest(version)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 1"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"dimensions": "32"}, "'dimensions' that is not a int"),
        (
            {"files": {"../model.onnx": "0", "model.onnx": "0", "tokenizer.json": "0"}},
            "outside its own folder",
        ),
        ({"files": {"model.onnx": "0"}}, "does not list tokenizer.json"),
        ({"kind": None}, "'kind'"),
    ],
)
def test_a_broken_manifest_says_what_is_wrong(change, message, version, manifest):
    write_manifest(version, manifest)
    path = version / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=message):
        read_manifest(version)


def test_a_manifest_that_is_not_json_is_named(version):
    (version / "manifest.json").write_bytes(b"\xff{")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        read_manifest(version)


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "cls"},
        {"normalize": True},
        {"query_prompt": "q: "},
        {"passage_prompt": "p: "},
        {"max_length": 32},
        {"dimensions": 16},
        {"outputs": ("dense", "sparse")},
        {"files": {"model.onnx": "0", "tokenizer.json": "0"}},
    ],
)
def test_the_embedder_changes_with_what_changes_vectors(change, manifest):
    assert replace(manifest, **change).embedder.digest != manifest.embedder.digest


def test_what_a_model_is_only_compared_by_changes_neither_its_vectors_nor_its_version(manifest):
    built, elsewhere = (
        replace(manifest, engine="vllm", files={**manifest.files, "probe.tensors": digest}) for digest in "01"
    )
    assert (built.embedder, built.version) == (elsewhere.embedder, elsewhere.version)
    answers = replace(built, files={**built.files, "answers.tensors": "0"})
    assert answers.version != built.version


@pytest.mark.parametrize(
    "name",
    [
        "2_Dense/x.bin",
        "../2_Dense/config.json",
        "2_Dense/../config.json",
        "2_Dense/a/config.json",
        "x/config.json",
    ],
)
def test_a_file_in_another_folder_than_a_builds_is_refused(name, version, manifest):
    write_manifest(version, replace(manifest, files={**manifest.files, name: "0"}))
    with pytest.raises(ArtifactError, match="names a file outside its own folder"):
        read_manifest(version)


@pytest.mark.parametrize("change", [{"model": "other"}, {"tools": {}}, {"figures": {}}, {"revision": "x"}])
def test_the_embedder_stays_with_what_does_not(change, manifest):
    assert replace(manifest, **change).embedder == manifest.embedder


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"model.onnx": "0", "tokenizer.json": "0"}},
        {"kind": "generator"},
        {"query_prompt": "q: "},
        {"max_length": 32},
        {"labels": ("a", "c")},
        {"engine": "openvino"},
        {"needs_prior": True},
        {"outputs": ("dense", "sparse")},
    ],
)
def test_the_version_changes_with_what_changes_answers(change, manifest):
    assert replace(manifest, **change).version != manifest.version


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"source": "elsewhere"},
        {"revision": "x"},
        {"tools": {"torch": "9"}},
        {"figures": {"kl": 1.0}},
        {"quality": {"scifact": {"before": 0.5, "after": 0.5}}},
        {"inputs_digest": "later"},
    ],
)
def test_the_same_files_are_the_same_version_whenever_they_were_built(change, manifest):
    assert replace(manifest, **change).version == manifest.version


GRAPH_FILES = ("openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (GRAPH_FILES, ""),
        (("model-00001.safetensors", "config.json", "tokenizer.json"), ""),
        (("config.json", "tokenizer.json"), "openvino_model.bin"),
        (GRAPH_FILES[:3], "tokenizer.json"),
        (("model.safetensors", "tokenizer.json"), "config.json"),
    ],
)
def test_a_generator_is_a_graph_or_a_checkpoint(names, missing, version, manifest):
    files = dict.fromkeys(names, "0" * 64)
    write_manifest(version, replace(manifest, kind="generator", files=files, sizes=dict.fromkeys(names, 1)))
    if not missing:
        assert read_manifest(version).files == files
        return
    with pytest.raises(ArtifactError, match=f"does not list {missing}"):
        read_manifest(version)


def test_a_generator_is_rebuilt_with_its_own_script(version):
    (version.parent / "recipe.toml").write_text('kind = "generator"\nsource = "some/model"\n')
    with pytest.raises(ArtifactError, match=r"export_llm\.py --recipe .*tiny/recipe\.toml"):
        read_manifest(version)
    (version.parent / "recipe.toml").write_text("kind = ")
    with pytest.raises(ArtifactError, match=r"export_encoder\.py --recipe"):
        read_manifest(version)


TRIED = Tried({"tiny.threads": 2}, 8, 3, 120.5, 20.0, 31.5, 40.0, "within the limit")
TUNING = Tuning(
    target="search",
    slo_p95_ms=50.0,
    date="2026-01-01 00:00 UTC",
    workload="docs, seed 1",
    workload_sha256="0" * 64,
    machine="a CPU, 2 cores",
    versions={"numpy": "1"},
    before={"threads": 0},
    after={"threads": 2},
    concurrency=8,
    requests_per_s=120.5,
    p95_ms=31.5,
    gain=0.2,
    noise=0.03,
    tried=(TRIED,),
)


def test_how_a_model_was_tuned_reads_back_as_it_was(version, manifest):
    tuned = replace(manifest, tuning=TUNING)
    write_manifest(version, tuned)
    assert read_manifest(version) == tuned
    assert tuned.embedder == manifest.embedder


def test_a_model_that_was_not_tuned_says_nothing_of_it(version, manifest):
    write_manifest(version, manifest)
    assert "tuning" not in json.loads((version / "manifest.json").read_text())
    assert read_manifest(version).tuning is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slo_p95_ms": "50"}, "'tuning.slo_p95_ms' that is not of type float"),
        ({"concurrency": 1.5}, "'tuning.concurrency' that is not of type int"),
        ({"target": 1}, "'tuning.target' that is not of type str"),
        ({"surprise": 1}, "unknown key 'tuning.surprise'"),
        ({"after": {"threads": "2"}}, "'tuning.after' that is not a table of int"),
        ({"tried": 7}, "tuning.tried that is not a list"),
        ({"tried": [{"setting": {}}]}, "lacks the key 'tuning.concurrency'"),
    ],
)
def test_broken_evidence_says_what_is_wrong(change, message, version, manifest):
    write_manifest(version, replace(manifest, tuning=TUNING))
    path = version / "manifest.json"
    document = json.loads(path.read_text())
    document["tuning"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=message):
        read_manifest(version)


def test_evidence_must_be_an_object(version, manifest):
    write_manifest(version, manifest)
    path = version / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tuning": None}))
    with pytest.raises(ArtifactError, match="tuning that is not an object"):
        read_manifest(version)
