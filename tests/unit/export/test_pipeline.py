import json
from dataclasses import replace

import pytest

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.manifest import read_manifest, verify_files
from trireme.artifacts.recipe import Recipe
from trireme.encode.engines.table import open_session
from trireme.encode.packed import cpu_kernels as vnni_kernels
from trireme.encode.session import SessionOptions
from trireme.errors import GateError, NotFoundError, SettingError, UnsupportedError
from trireme.export import pipeline
from trireme.export.pipeline import build_model

LOOSE = {"min_cosine": 0.5, "mean_cosine": 0.9}
CALIBRATION = "\n\n".join(f"paragraph {n}: oars, sails and keels of ship number {n * n}." for n in range(12))


@pytest.fixture(scope="module")
def source(make_checkpoint, tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("source"), "bert")


@pytest.fixture
def options(tmp_path):
    (tmp_path / "defaults").mkdir()
    (tmp_path / "defaults" / "calibration.txt").write_text(CALIBRATION)
    return BuildOptions(repository=tmp_path / "models", cache=tmp_path / "cache", project=tmp_path)


def recipe(source, **keys):
    return Recipe("tiny", "text_encoder", source=str(source), **keys)


FILES = {
    "openvino": ["manifest.json", "openvino_model.bin", "openvino_model.xml", "tokenizer.json"],
    "onnx": ["manifest.json", "model.onnx", "tokenizer.json"],
    "vnni": ["manifest.json", "model.safetensors", "packed.json", "tokenizer.json"],
}
WIDE = {"hidden_size": 64, "intermediate_size": 96}


@pytest.mark.parametrize(
    ("precision", "engine", "least"),
    [
        ("fp32", "", 0.99999),
        ("fp16", "", 0.999),
        ("int8", "onnx", 0.9),
        ("int8", "", 0.9),
        ("fp32", "openvino", 0.99999),
        ("fp16", "openvino", 0.999),
    ],
)
def test_a_build_places_whole_files_near_the_original(precision, engine, least, source, options):
    loose = LOOSE if precision == "int8" else {}
    manifest, was_built = build_model(recipe(source, precision=precision, engine=engine, **loose), options)
    version = options.repository / "tiny" / "1"
    assert was_built and read_manifest(version) == manifest
    verify_files(version, manifest)
    assert manifest.figures["cosine_min"] >= least
    assert (manifest.dimensions, manifest.max_length, manifest.pooling) == (32, 64, "mean")
    assert set(manifest.tools) >= {"torch", "onnxruntime"}
    assert manifest.engine == engine or not engine
    assert sorted(path.name for path in version.iterdir()) == FILES[manifest.engine]
    assert "text_encoder" in (options.repository / "tiny" / "config.pbtxt").read_text()


@pytest.fixture
def wide(make_checkpoint, tmp_path):
    """A checkpoint whose sizes engine vnni can run."""
    return make_checkpoint(tmp_path / "wide", "bert", **WIDE)


@pytest.mark.parametrize(("is_fast", "engine"), [(True, "vnni"), (False, "openvino")])
def test_int8_goes_to_the_kernels_where_processor_and_compiler_allow(
    is_fast, engine, wide, options, monkeypatch
):
    if not vnni_kernels.is_fast():
        pytest.skip("no AVX-512 VNNI here, or no compiler")
    monkeypatch.setattr(vnni_kernels, "is_fast", lambda *folder: is_fast)
    manifest, _ = build_model(recipe(wide, precision="int8", **LOOSE), options)
    version = options.repository / "tiny" / "1"
    assert manifest.engine == engine
    assert sorted(path.name for path in version.iterdir()) == FILES[engine]
    assert build_model(recipe(wide, precision="int8", **LOOSE), options) == (manifest, False)
    # On another machine the same recipe is another build.
    monkeypatch.setattr(vnni_kernels, "is_fast", lambda *folder: not is_fast)
    other, was_built = build_model(recipe(wide, precision="int8", **LOOSE), options)
    assert was_built and other.engine != engine


def test_an_engine_that_is_named_and_does_not_fit_is_refused(source, options):
    with pytest.raises(UnsupportedError, match="size of a head 16 is no multiple of 32; use engine openvino"):
        build_model(recipe(source, precision="int8", engine="vnni", **LOOSE), options)
    assert not (options.repository / "tiny").exists()


@pytest.fixture
def unpacked(make_checkpoint, tmp_path):
    """(folder, family) of a checkpoint whose family has no packed form, of sizes that engine vnni can run."""
    return make_checkpoint(tmp_path / "unpacked", "modernbert", **WIDE), "modernbert"


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_family_without_a_packed_form_is_built_for_the_other_engines(engine, unpacked, options):
    manifest, _ = build_model(recipe(unpacked[0], engine=engine), options)
    assert manifest.engine == engine and manifest.figures["cosine_min"] >= 0.99999


def test_int8_of_a_family_without_a_packed_form_goes_to_openvino(unpacked, options):
    manifest, _ = build_model(recipe(unpacked[0], precision="int8", **LOOSE), options)
    assert manifest.engine == "openvino"


@pytest.mark.parametrize(("engine", "precision"), [("torch", "fp32"), ("vnni", "int8")])
def test_a_packed_engine_refuses_a_family_without_a_packed_form(engine, precision, unpacked, options):
    folder, family = unpacked
    with pytest.raises(UnsupportedError, match=f"it has a model_type '{family}'; use engine"):
        build_model(recipe(folder, precision=precision, engine=engine), options)


def test_int8_passes_or_fails_the_gate_by_its_threshold(source, options):
    with pytest.raises(GateError, match="cosine_min=0") as caught:
        build_model(recipe(source, precision="int8", min_cosine=1.0), options)
    assert "cosine_mean=" in str(caught.value)
    assert not (options.repository / "tiny").exists()
    full, _ = build_model(recipe(source, **LOOSE), options)
    small, _ = build_model(recipe(source, precision="int8", **LOOSE), options)
    assert small.figures["cosine_min"] < 1.0
    assert small.embedder.digest != full.embedder.digest


def test_a_failed_gate_leaves_the_version_of_before(source, options):
    before, _ = build_model(recipe(source), options)
    with pytest.raises(GateError):
        build_model(recipe(source, precision="int8", min_cosine=1.0), options)
    version = options.repository / "tiny" / "1"
    assert read_manifest(version) == before
    verify_files(version, before)
    assert [path.name for path in version.parent.glob(".tmp*")] == []


def test_the_same_inputs_are_built_once(source, options):
    first, _ = build_model(recipe(source), options)
    assert build_model(recipe(source, threads=3), options) == (first, False)
    assert 'string_value: "3"' in (options.repository / "tiny" / "config.pbtxt").read_text()
    assert build_model(recipe(source, pooling="cls"), options)[1]
    assert build_model(recipe(source, pooling="cls"), replace(options, force=True))[1]


def test_a_corrupt_placed_file_is_built_again(source, options):
    first, _ = build_model(recipe(source), options)
    model = options.repository / "tiny" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    again, was_built = build_model(recipe(source), options)
    assert was_built
    verify_files(model.parent, again)
    assert again.files == first.files, "the same inputs give the same bytes"


def test_quality_before_and_after_is_recorded(source, options, tmp_path):
    data = tmp_path / "letters"
    (data / "qrels").mkdir(parents=True)
    texts = {f"p{i}": word * (i + 1) for i, word in enumerate(("oar ", "sail ", "keel ", "mast "))}
    records = [{"_id": key, "title": "", "text": text} for key, text in texts.items()]
    (data / "corpus.jsonl").write_text("\n".join(map(json.dumps, records)))
    asked = [{"_id": f"q{i}", "text": texts[f"p{i}"]} for i in range(4)]
    (data / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    rows = "".join(f"q{i}\tp{i}\t1\n" for i in range(4))
    (data / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    built = recipe(source)
    build_model(built, options)
    manifest, was_built = build_model(built, replace(options, quality=data, quality_queries=3))
    assert was_built, "a quality run that is asked for and missing is made"
    # Every query is a passage word for word; two of the four are asked.
    assert manifest.quality == {"letters": {"queries": 2.0, "before": 1.0, "after": 1.0}}
    assert not build_model(built, replace(options, quality=data))[1]


def test_a_reranker_and_a_classifier_pass_their_own_gate(make_checkpoint, options, tmp_path):
    pairs = make_checkpoint(tmp_path / "pairs", "roberta", labels=["relevance"])
    manifest, _ = build_model(Recipe("pairs", "cross_encoder", source=str(pairs)), options)
    assert manifest.figures["rank_correlation"] > 0.99 and manifest.dimensions == 1
    mood = make_checkpoint(tmp_path / "mood", "distilbert", labels=["low", "high", "flat"])
    manifest, _ = build_model(Recipe("mood", "classifier", source=str(mood)), options)
    assert (manifest.labels, manifest.activation) == (("low", "high", "flat"), "softmax")
    assert manifest.figures["score_difference"] < 0.001


def test_a_pickle_leaves_the_repository_untouched(source, options, tmp_path):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((source / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedError, match=r"pytorch_model\.bin is a pickle"):
        build_model(recipe(pickled), options)
    assert not options.repository.exists()


def test_an_unknown_engine_and_a_missing_calibration_text_are_named(source, options):
    with pytest.raises(SettingError, match="engine must be one of onnx, openvino"):
        build_model(recipe(source, engine="abacus"), options)
    with pytest.raises(NotFoundError, match=r"none\.txt does not exist"):
        build_model(recipe(source, precision="int8", calibration="none.txt"), options)


def test_another_calibration_text_is_another_build(source, options, tmp_path):
    int8 = recipe(source, precision="int8", **LOOSE)
    first, _ = build_model(int8, options)
    assert build_model(int8, options) == (first, False)
    (tmp_path / "defaults" / "calibration.txt").write_text(CALIBRATION + "\n\nThe last paragraph is new.")
    assert build_model(int8, options)[1]


def test_static_int8_gives_a_row_the_same_vector_alone_and_in_a_batch(source, options):
    manifest, _ = build_model(recipe(source, precision="int8", **LOOSE), options)
    assert manifest.figures["batch_cosine_min"] > 0.9999


def test_a_missing_adapter_is_named(source, options):
    with pytest.raises(NotFoundError, match="defaults/none"):
        build_model(Recipe("r", "cross_encoder", source=str(source), adapter="defaults/none"), options)


@pytest.mark.parametrize(("engine", "precision"), [("onnx", "fp32"), ("openvino", "fp32"), ("torch", "fp32")])
def test_a_reranker_whose_tokenizer_gives_no_segments_is_built(
    engine, precision, make_checkpoint, options, tmp_path
):
    pairs = make_checkpoint(tmp_path / "pairs", "bert", labels=["relevance"])
    config = json.loads((pairs / "tokenizer_config.json").read_text())
    config["model_input_names"] = ["input_ids", "attention_mask"]
    (pairs / "tokenizer_config.json").write_text(json.dumps(config))
    built = Recipe("pairs", "cross_encoder", source=str(pairs), engine=engine, precision=precision)
    manifest, _ = build_model(built, options)
    assert manifest.figures["score_difference"] < 0.001
    version = options.repository / "pairs" / "1"
    assert "token_type_ids" not in open_session(engine, version, SessionOptions(max_length=64)).input_names


def test_a_model_that_is_read_otherwise_by_its_library_is_not_placed(source, options, monkeypatch):
    read = pipeline.read_checkpoint
    monkeypatch.setattr(
        pipeline, "read_checkpoint", lambda *given: replace(read(*given), query_prompt="ask ")
    )
    with pytest.raises(GateError, match="SentenceTransformer makes other numbers"):
        build_model(recipe(source), options)
    assert not (options.repository / "tiny").exists()


@pytest.mark.parametrize(("keys", "has_key"), [({}, False), ({"template": "{query} {passage}"}, True)])
def test_a_recipe_without_a_template_has_the_digest_of_before_there_were_any(keys, has_key):
    inputs = pipeline.collect_inputs(Recipe("m", "cross_encoder", source="x", **keys), [])
    assert ("template" in inputs.recipe) == has_key
