"""Measures an exported model against its PyTorch original: parity on fixed texts, quality on a BEIR folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trireme.artifacts.manifest import TOKENIZER_FILE
from trireme.artifacts.parity_texts import PAIRS, TEXTS
from trireme.encode.agreement import compare_scores, compare_vectors
from trireme.encode.pair_template import PairTemplate
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import GateError, UnsupportedError
from trireme.export.checkpoint import Checkpoint
from trireme.export.graph import Graph
from trireme.export.parity import Feeds, Run, run_rows, run_texts
from trireme.export.token_measure import measure_outputs
from trireme.export.tokenizer_file import load_pretrained
from trireme.types import FloatArray

QUALITY_BATCH = 16
QUALITY_DEPTH = 100


def measure_parity(
    graph: Graph, checkpoint: Checkpoint, version_dir: Path, exported: Run, engine: str
) -> dict[str, float]:
    """Figures of `exported`, which `engine` runs, against `graph`.

    Raises GateError when the tokenizer in `version_dir` differs.
    """
    compare_tokens(checkpoint, version_dir)
    if checkpoint.rules is not None:
        return measure_outputs(graph, checkpoint, version_dir, engine)
    tokenizer = open_tokenizer(version_dir, checkpoint.max_length)
    original = open_torch(graph)
    if checkpoint.kind == "cross_encoder":
        pairs = [(query, passage) for query, passages in PAIRS for passage in passages]
        ends = np.cumsum([len(passages) for _, passages in PAIRS])[:-1]
        if checkpoint.template:
            rows = fill_pairs(checkpoint, version_dir, pairs)
            before, after = (run_rows(run, rows) for run in (original, exported))
        else:
            before, after = (run_texts(run, tokenizer, pairs) for run in (original, exported))
        return compare_scores(np.split(before, ends), np.split(after, ends))
    before, after = (run_texts(run, tokenizer, TEXTS) for run in (original, exported))
    if checkpoint.kind == "classifier":
        return compare_scores(list(before.T), list(after.T))
    alone = run_texts(exported, tokenizer, TEXTS, batch=1)
    return {**compare_vectors(before, after), "batch_cosine_min": compare_vectors(alone, after)["cosine_min"]}


def measure_quality(
    graph: Graph, checkpoint: Checkpoint, version_dir: Path, exported: Run, *, folder: Path, max_queries: int
) -> dict[str, dict[str, float]]:
    """nDCG@10 of the original (`before`) and the exported model (`after`) on the BEIR folder `folder`.

    At most `max_queries` queries, evenly spaced; every passage. Raises UnsupportedError for other kinds
    than text_encoder, NotFoundError and InvalidInputError for the folder.
    """
    from trireme.quality import evaluate, read_beir

    if checkpoint.kind != "text_encoder":
        raise UnsupportedError(
            "--quality measures embedding models; run benchmarks.search.quality for a reranker"
        )
    if "dense" not in checkpoint.outputs:
        raise UnsupportedError("--quality measures vectors of texts; this model makes none")
    data = read_beir(folder)
    step = max(1, -(-len(data.queries) // max_queries))
    queries = dict(list(data.queries.items())[::step])
    qrels = {name: data.qrels[name] for name in queries}
    tokenizer = open_tokenizer(version_dir, checkpoint.max_length)
    figures = {"queries": float(len(queries))}
    for when, run in (("before", open_torch(graph)), ("after", exported)):
        passages = _embed(run, tokenizer, [checkpoint.passage_prompt + text for text in data.corpus.values()])
        asked = _embed(run, tokenizer, [checkpoint.query_prompt + text for text in queries.values()])
        ranked = _rank(asked @ passages.T, list(data.corpus), list(queries))
        figures[when] = evaluate(data.name, ranked, qrels).ndcg_at_10
    return {data.name: figures}


def open_tokenizer(version_dir: Path, max_length: int) -> Any:
    """The Rust tokenizer of a version, cutting at `max_length` and padding to the longest of a batch."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(version_dir / TOKENIZER_FILE))
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding()
    return tokenizer


def open_built(version_dir: Path, engine: str, max_length: int) -> Run:
    """Runs what was written into `version_dir`, in the session that will serve it."""
    from trireme.encode.engines.table import open_session
    from trireme.encode.session import SessionOptions, TokenBatch

    session = open_session(engine, version_dir, SessionOptions(max_length=max_length))

    def run(feeds: Feeds) -> FloatArray:
        inside = feeds["attention_mask"].astype(bool)
        ids, types = feeds["input_ids"][inside], feeds["token_type_ids"][inside]
        return session.run(TokenBatch(ids, types, inside.sum(1)))

    return run


def open_torch(graph: Graph) -> Run:
    """Runs the original module."""

    def run(feeds: Feeds) -> FloatArray:
        with torch.inference_mode():
            found = graph.module(*(torch.from_numpy(feeds[name]) for name in graph.input_names))
        output: FloatArray = (found[0] if isinstance(found, tuple) else found).numpy()
        return output

    return run


def fill_pairs(
    checkpoint: Checkpoint, version_dir: Path, pairs: Sequence[tuple[str, str]]
) -> list[list[int]]:
    """The tokens of each pair in the checkpoint's template."""
    tokenizer = Tokenizer.load(version_dir / TOKENIZER_FILE, checkpoint.max_length)
    template = PairTemplate.parse(checkpoint.template)
    return [tokenizer.encode_filled(template, query, [passage])[0].ids for query, passage in pairs]


def compare_tokens(checkpoint: Checkpoint, version_dir: Path) -> None:
    """Raises GateError where the tokenizer in `version_dir` reads a text otherwise than the checkpoint's."""
    original = load_pretrained(checkpoint)
    exported = open_tokenizer(version_dir, checkpoint.max_length)
    for text in TEXTS:
        asked = text.lower() if checkpoint.lowercase else text
        expected = original(asked, truncation=True, max_length=checkpoint.max_length)["input_ids"]
        if exported.encode(text).ids != expected:
            raise GateError(
                f"the exported tokenizer differs from the original on {text[:40]!r}; nothing was placed"
            )


def _embed(run: Run, tokenizer: Any, texts: Sequence[str]) -> FloatArray:
    """Unit vectors [N, D] in the order of `texts`; batches are made of texts of like length."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    rows = run_texts(run, tokenizer, [texts[i] for i in order], QUALITY_BATCH)
    vectors = np.empty_like(rows)
    vectors[order] = rows
    unit: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _rank(scores: FloatArray, passage_ids: list[str], query_ids: list[str]) -> dict[str, list[str]]:
    """The best passages of each query, leaving the query itself out as BEIR does."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, : QUALITY_DEPTH + 1]
    ranked = {query: [passage_ids[i] for i in row] for query, row in zip(query_ids, best, strict=True)}
    return {query: [p for p in found if p != query][:QUALITY_DEPTH] for query, found in ranked.items()}
