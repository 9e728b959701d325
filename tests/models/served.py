"""What a built model answers, through the encoders that the backends load."""

import numpy as np

from models.libraries import QUERIES, TEXTS, flat
from trireme.artifacts.manifest import read_manifest
from trireme.encode.cross_encoder import CrossEncoder, RankerSpec, RankRequest
from trireme.encode.engines.table import open_session
from trireme.encode.late_interaction import LateInteraction, LateSpec
from trireme.encode.pair_template import PairTemplate
from trireme.encode.session import SessionOptions
from trireme.encode.text_encoder import EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer

BATCH_TOKENS = 512
TEXT_BYTES = 100_000


def answer(version):
    """As the functions of libraries: vectors, scores or probabilities by the model's kind."""
    manifest = read_manifest(version)
    if manifest.outputs and manifest.kind == "text_encoder":
        return _make_parts(version, manifest)
    answers = {
        "text_encoder": _embed,
        "cross_encoder": _score,
        "classifier": _label,
        "late_interaction": _score_late,
    }
    return answers[manifest.kind](version, manifest)


def _open(version, manifest):
    tokenizer = Tokenizer.load(version / "tokenizer.json", manifest.max_length)
    return tokenizer, open_session(manifest.engine, version, SessionOptions(max_length=manifest.max_length))


def _embed(version, manifest):
    spec = EncoderSpec(
        manifest.dimensions,
        manifest.normalize,
        manifest.query_prompt,
        manifest.passage_prompt,
        BATCH_TOKENS,
        TEXT_BYTES,
    )
    encoder = TextEncoder(*_open(version, manifest), spec)
    try:
        made = [encoder.embed(TEXTS, kind) for kind in ("query", "passage")]
    finally:
        encoder.queue.close()
    return np.stack([one.vector for part in made for one in part])


def _make_parts(version, manifest):
    """Of each output of the model a row for every text, as query and as passage."""
    spec = EncoderSpec(
        manifest.dimensions,
        manifest.normalize,
        manifest.query_prompt,
        manifest.passage_prompt,
        BATCH_TOKENS,
        TEXT_BYTES,
        outputs=manifest.outputs,
        rules=manifest.token_rules,
    )
    encoder = TextEncoder(*_open(version, manifest), spec)
    try:
        made = [one for kind in ("query", "passage") for one in encoder.embed(TEXTS, kind)]
    finally:
        encoder.queue.close()
    read = {
        "dense": lambda one: flat(one.vector),
        "sparse": _words,
        "multi": lambda one: flat(one.token_vectors),
    }
    return np.stack([read[output](one) for output in manifest.outputs for one in made])


def _words(one):
    row = np.zeros(4096, np.float32)
    row[one.sparse.indices] = one.sparse.weights
    return row


def _score_late(version, manifest):
    spec = LateSpec(
        RankerSpec(BATCH_TOKENS, TEXT_BYTES, len(TEXTS)),
        manifest.token_rules,
        manifest.query_prompt,
        manifest.passage_prompt,
    )
    ranker = LateInteraction(*_open(version, manifest), spec)
    try:
        found = ranker.rank([RankRequest(query, TEXTS) for query in QUERIES]).result()
    finally:
        ranker.close()
    return np.stack([one.score for one in found])


def _score(version, manifest):
    template = PairTemplate.parse(manifest.template) if manifest.template else None
    spec = RankerSpec(BATCH_TOKENS, TEXT_BYTES, len(TEXTS), template=template)
    ranker = CrossEncoder(*_open(version, manifest), spec)
    try:
        found = ranker.rank([RankRequest(query, TEXTS) for query in QUERIES]).result()
    finally:
        ranker.close()
    return np.stack([one.score for one in found])


def _label(version, manifest):
    spec = RankerSpec(BATCH_TOKENS, TEXT_BYTES, 1, labels=manifest.labels, activation=manifest.activation)
    classifier = CrossEncoder(*_open(version, manifest), spec)
    try:
        found = classifier.classify(TEXTS).result()
    finally:
        classifier.close()
    rows = [dict(zip(one.labels, one.score.tolist(), strict=True)) for one in found]
    return np.array([[row[name] for name in manifest.labels] for row in rows])
