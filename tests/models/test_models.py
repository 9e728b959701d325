"""Every checkpoint of cases.py, built for each engine that takes it, answers as its library does.

WRITE_DOCS=1 in the environment writes the tables of docs/models.md anew.
"""

import os
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest

from models import libraries, token_sources
from models.cases import CASES
from models.forms import edit
from models.pages import PAGE, put_table
from models.served import answer
from tiny_tokenizers import write_tokenizer
from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.families import FAMILIES, STATIC
from trireme.export.pair_prompt import write_chat_template
from trireme.export.pipeline import build_model

# Engine and precision, and the least agreement with the library in float32.
ENGINES = (
    ("onnx", "fp32", 0.9999),
    ("openvino", "fp32", 0.9999),
    ("torch", "fp32", 0.9999),
    ("vnni", "int8", 0.95),
)
LIBRARIES = {
    "text_encoder": (libraries.embed, "SentenceTransformer.encode_query, encode_document"),
    "cross_encoder": (libraries.score, "CrossEncoder.predict"),
    "classifier": (libraries.label, "the text-classification pipeline"),
    "late_interaction": (libraries.score_late, "MultiVectorEncoder.similarity"),
}
# Of a case's form, where it has one.
FORMS = {
    "flag": (libraries.flag, "FlagEmbedding's definition, in torch"),
    "splade": (libraries.weigh, "SparseEncoder.encode_query, encode_document"),
    "multi": (libraries.embed_tokens, "MultiVectorEncoder.encode_query, encode_document"),
}
FORMS |= {"opensearch": FORMS["splade"], "pylate": FORMS["multi"], "stanford": FORMS["multi"]}
# Sizes that engine vnni runs too.
WIDE = (64, 96)
# Random weights keep less of themselves in 8 bits than trained ones.
LOOSE = {
    "text_encoder": {"min_cosine": 0.9, "mean_cosine": 0.95},
    "cross_encoder": {"min_rank_correlation": 0.5, "max_score_difference": 0.6},
    "classifier": {"min_rank_correlation": 0.5, "max_score_difference": 0.6},
}
pytestmark = pytest.mark.filterwarnings("ignore:this processor has no AVX-512 VNNI")


@pytest.fixture(scope="module")
def measured():
    """What the tests of this module found: {case: {engine: agreement}}."""
    return {}


@pytest.fixture
def source(request, make_checkpoint, tmp_path):
    """The case's folder, as the libraries write it."""
    return build_source(request.param, make_checkpoint, tmp_path)


def build_source(case, make_checkpoint, tmp_path):
    if case.family == STATIC.model_type:
        return save_table(case, tmp_path / "saved")
    if case.form and case.form != "flag":
        return token_sources.build(case.form, case.family, make_checkpoint, tmp_path)
    keys = FAMILIES[case.family].sizes
    sizes = {keys.hidden[0]: WIDE[0], keys.inner[0]: WIDE[1]}
    head = "ForCausalLM" if case.template else ""
    folder = make_checkpoint(
        tmp_path / "plain", case.family, case.labels or None, head=head, **{**sizes, **case.config}
    )
    if case.is_chat:
        (folder / "chat_template.jinja").write_text(write_chat_template(case.template))
    edit(folder / "tokenizer_config.json", padding_side=case.padding_side)
    if case.answers:
        return save_answers(folder, tmp_path / "saved", case.answers)
    if not case.pooling:
        return folder
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    sizes = (WIDE[0], *case.dense)
    modules = [Transformer(str(folder)), Pooling(WIDE[0], case.pooling)]
    modules += [Dense(before, after) for before, after in pairwise(sizes)]
    modules += [Normalize()] if case.normalize else []
    SentenceTransformer(modules=modules, prompts=dict(case.prompts)).save_pretrained(str(tmp_path / "saved"))
    if case.form:
        token_sources.save_heads(tmp_path / "saved")
    if case.architecture:
        edit(tmp_path / "saved" / "config.json", architectures=[case.architecture])
    return tmp_path / "saved"


def save_table(case, target):
    from safetensors.numpy import save_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    from tokenizers import Tokenizer

    target.mkdir()
    size = write_tokenizer(target, "llama")
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    rng = np.random.default_rng(5)
    table = rng.normal(size=(size, WIDE[0])).astype(np.float32)
    modules = [StaticEmbedding(tokenizer, table), *([Normalize()] if case.normalize else [])]
    SentenceTransformer(modules=modules).save_pretrained(str(target))
    if case.is_model2vec:
        mapping = rng.integers(0, 20, size)
        tensors = {"embeddings": table[:20], "mapping": mapping, "weights": rng.random(size)}
        place = next(target.glob("**/model.safetensors"))
        save_file(tensors, place)
    return target


def save_answers(folder, target, answers):
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import LogitScore
    from sentence_transformers.sentence_transformer.modules import Transformer

    model = Transformer(str(folder), transformer_task="text-generation")
    no, yes = model.tokenizer.convert_tokens_to_ids(list(answers))
    CrossEncoder(modules=[model, LogitScore(yes, no)], device="cpu").save_pretrained(str(target))
    return target


def library_of(case):
    """The function of a case's library, and its name."""
    return FORMS[case.form] if case.form and case.kind == "text_encoder" else LIBRARIES[case.kind]


def engines_of(case):
    """Those that have a form of the case's family and head."""
    family = FAMILIES.get(case.family, STATIC)
    has_packed = (
        case.is_packed
        and family.layers is not None
        and (case.kind == "text_encoder" or family.head is not None)
    )
    return [row for row in ENGINES if has_packed or row[0] not in ("torch", "vnni")]


def agreement(kind, ours, theirs):
    """The smallest cosine of two vectors; of scores 1 less the largest difference over their spread."""
    assert ours.shape == theirs.reshape(ours.shape).shape
    theirs = theirs.reshape(ours.shape)
    if kind == "text_encoder":
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        return float(((ours * theirs).sum(1) / lengths).min())
    return 1 - float(np.abs(ours - theirs).max() / (theirs.max() - theirs.min()))


@pytest.mark.parametrize(
    ("case", "source"), [(case, case) for case in CASES], ids=[c.name for c in CASES], indirect=["source"]
)
def test_a_checkpoint_is_served_as_its_library_runs_it(case, source, measured, tmp_path):
    call, _ = library_of(case)
    if case.template and not case.is_chat:
        # The library has no other way to be told.
        expected = call(shutil.copytree(source, tmp_path / "told"), write_chat_template(case.template))
    else:
        expected = call(source)
    # Texts must differ in what comes out, or the comparison says nothing.
    assert np.ptp(expected, axis=-2 if case.kind == "text_encoder" else None).max() > 1e-3
    found = {}
    for engine, precision, least in engines_of(case):
        loose = LOOSE[case.kind] if precision == "int8" else {}
        if case.template and not case.is_chat:
            loose = {**loose, "template": case.template}
        if case.kind == "text_encoder":
            loose = {**loose, "outputs": case.outputs}
        recipe = Recipe("tiny", case.kind, source=str(source), engine=engine, precision=precision, **loose)
        manifest, _ = build_model(recipe, BuildOptions(tmp_path / engine, tmp_path / "cache"))
        assert (manifest.engine, manifest.kind) == (engine, case.kind)
        found[engine] = agreement(case.kind, answer(tmp_path / engine / "tiny" / "1"), expected)
        assert found[engine] >= bound(case, precision, least), engine
    measured[case.name] = found


def test_every_family_has_a_checkpoint_that_is_compared():
    assert {case.family for case in CASES} == {*FAMILIES, STATIC.model_type}
    assert len({case.name for case in CASES}) == len(CASES)


def bound(case, precision, least):
    """What the agreement must be."""
    return least if case.kind == "text_encoder" or precision == "fp32" else 0.6


def say(value, precision, least):
    """A figure, or the bound that it was held against where no run has written it yet."""
    digits = 4 if precision == "fp32" else 2
    return f"≥ {least:.{digits}f}" if value is None else f"{value:.{digits}f}"


def row_of(case, found):
    hubs = ", ".join(f"`{hub}`" for hub in case.hubs)
    engines = ", ".join(
        f"{engine} {said}" if precision == "fp32" else f"{engine} ({precision}) {said}"
        for engine, precision, least in engines_of(case)
        if (said := say(found.get(engine), precision, bound(case, precision, least)))
    )
    return f"| {hubs} | {case.family} | {case.kind} | {case.needs} | {engines} | {library_of(case)[1]} |"


def test_the_page_has_a_row_of_every_checkpoint_as_measured(measured):
    """Rows of checkpoints that this run left out stay as they are."""
    text = PAGE.read_text(encoding="utf-8")
    written = {line.partition(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    lines = [
        "| checkpoint | family | kind | needs | engine: smallest agreement | compared with |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        line = row_of(case, measured.get(case.name, {}))
        lines.append(line if case.name in measured else written.get(line.partition(" | ")[0], line))
    wanted = put_table(text, "served", lines)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
        return
    # Figures differ a little from processor to processor.
    figure = re.compile(r"(≥ )?[01]\.\d+")
    assert figure.sub("", text) == figure.sub("", wanted), "run it with WRITE_DOCS=1"
