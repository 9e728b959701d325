"""Measures an encoder of several outputs against its PyTorch original, as a server runs both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trireme.artifacts.manifest import TOKENIZER_FILE
from trireme.artifacts.parity_texts import TEXTS
from trireme.encode.batching import RunCost
from trireme.encode.engines.table import open_session
from trireme.encode.session import Session, SessionOptions, TokenBatch, pad_rows
from trireme.encode.text_encoder import EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer
from trireme.export.checkpoint import Checkpoint
from trireme.export.graph import Graph
from trireme.export.token_rules import find_unweighted
from trireme.export.weights import load_dense
from trireme.types import Embedding, FloatArray, InputType, SparseVector, TokenRules

KINDS: tuple[InputType, ...] = ("query", "passage")
_BATCH_TOKENS = 512


class ModuleSession:
    """The session port over a checkpoint's own module, in float32 and in this process."""

    cost = RunCost()
    streams = 1

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.input_names = graph.input_names
        self.output_names = graph.output_names

    def run(self, batch: TokenBatch) -> FloatArray:
        """The module's first output, float32 [rows, ...]."""
        return self.run_named(batch, self.output_names[:1])[self.output_names[0]]

    def run_named(self, batch: TokenBatch, names: Sequence[str]) -> dict[str, FloatArray]:
        """See NamedSession."""
        feeds = pad_rows(batch, self.cost)
        with torch.inference_mode():
            found = self._graph.module(*(torch.from_numpy(feeds[name]) for name in self.input_names))
        outputs = found if isinstance(found, tuple) else (found,)
        named = dict(zip(self.output_names, outputs, strict=True))
        return {name: named[name].numpy() for name in names}


def open_encoder(
    checkpoint: Checkpoint, session: Session, tokenizer: Tokenizer, batch_tokens: int
) -> TextEncoder:
    """A text encoder as the server has it, with the checkpoint's prompts, outputs and rules."""
    spec = EncoderSpec(
        dimensions=0,
        normalize=checkpoint.normalize,
        query_prompt=checkpoint.query_prompt,
        passage_prompt=checkpoint.passage_prompt,
        max_batch_tokens=batch_tokens,
        max_text_bytes=1_000_000,
        outputs=checkpoint.outputs,
        rules=checkpoint.rules or TokenRules(),
    )
    return TextEncoder(tokenizer, session, spec)


def embed_both(encoder: TextEncoder, texts: Sequence[str]) -> list[Embedding]:
    """The texts as queries and then as passages; closes the encoder."""
    try:
        return [one for kind in KINDS for one in encoder.embed(texts, kind)]
    finally:
        encoder.queue.close()


def measure_outputs(graph: Graph, checkpoint: Checkpoint, version_dir: Path, engine: str) -> dict[str, float]:
    """The smallest and the mean cosine of texts, over all outputs, and the smallest of each."""
    tokenizer = Tokenizer.load(version_dir / TOKENIZER_FILE, checkpoint.max_length)
    options = SessionOptions(max_length=checkpoint.max_length)
    found = []
    for session in (ModuleSession(graph), open_session(engine, version_dir, options)):
        encoder = open_encoder(checkpoint, session, tokenizer, _BATCH_TOKENS)
        found.append(embed_both(encoder, TEXTS))
    cosines = {name: compare_embeddings(name, *found) for name in checkpoint.outputs}
    figures = {
        "cosine_min": min(float(values.min()) for values in cosines.values()),
        "cosine_mean": min(float(values.mean()) for values in cosines.values()),
    }
    return figures | {f"{name}_cosine_min": float(values.min()) for name, values in cosines.items()}


def compare_embeddings(output: str, ours: Sequence[Embedding], theirs: Sequence[Embedding]) -> FloatArray:
    """The cosine of each text's output [texts]; of vectors of tokens their mean, 0 where counts differ."""
    compare = {"dense": _of_vectors, "sparse": _of_weights, "multi": _of_tokens}[output]
    return np.array([compare(one, other) for one, other in zip(ours, theirs, strict=True)], np.float32)


def _of_vectors(one: Embedding, other: Embedding) -> float:
    return cosine(one.vector, other.vector)


def _of_weights(one: Embedding, other: Embedding) -> float:
    if one.sparse is None or other.sparse is None:
        return 0.0
    return sparse_cosine(one.sparse, other.sparse)


def _of_tokens(one: Embedding, other: Embedding) -> float:
    a, b = one.token_vectors, other.token_vectors
    if a is None or b is None or a.shape != b.shape:
        return 0.0
    return float((a * b).sum(1).mean())


def cosine(one: FloatArray, other: FloatArray) -> float:
    """Of two vectors."""
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))


def sparse_cosine(one: SparseVector, other: SparseVector) -> float:
    """Of two vectors of weights; 1 of two without any."""
    if not len(one.indices) and not len(other.indices):
        return 1.0
    size = int(max(one.indices.max(initial=0), other.indices.max(initial=0))) + 1
    a, b = np.zeros(size, np.float32), np.zeros(size, np.float32)
    a[one.indices], b[other.indices] = one.weights, other.weights
    return cosine(a, b)


def as_array(one: Embedding, output: str, size: int) -> FloatArray:
    """An output of a text as one array: weights of all `size` words, or vectors of tokens [n, D]."""
    if output == "multi" or one.sparse is None:
        return np.zeros((0, size), np.float32) if one.token_vectors is None else one.token_vectors
    weights = np.zeros(max(size, int(one.sparse.indices.max(initial=-1)) + 1), np.float32)
    weights[one.sparse.indices] = one.sparse.weights
    return weights


def make_by_definition(checkpoint: Checkpoint, library: Any, text: str) -> dict[str, FloatArray]:
    """bge-m3's outputs of a text, by FlagEmbedding's definition, of the states that `library` makes of it.

    sparse: a token's weight is the relu of a linear layer, and a word's the largest of its tokens', special ones
    left out. multi: a linear layer of each state but the first's, at unit length.
    """
    states = library.encode(text, output_value="token_embeddings", show_progress_bar=False).float().cpu()
    ids = library.tokenizer(text, truncation=True, max_length=checkpoint.max_length)["input_ids"]
    made = {}
    with torch.inference_mode():
        if checkpoint.tokens.lexical is not None:
            weights = torch.zeros(len(library.tokenizer))
            for token, state in zip(ids, load_dense(checkpoint.tokens.lexical)(states), strict=True):
                weights[token] = torch.maximum(weights[token], state.relu()[0])
            weights[list(find_unweighted(library.tokenizer))] = 0.0
            made["sparse"] = weights.numpy()
        if checkpoint.tokens.layers:
            vectors = load_dense(checkpoint.tokens.layers[0])(states[1:])
            made["multi"] = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    return made
