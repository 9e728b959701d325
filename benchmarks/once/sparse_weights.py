"""What sparse weights and late interaction find beside vectors and words, and what they cost.

The weights are of a head of bge-m3's form (one linear layer; of equal terms the heaviest counts) that is trained
here on the model's own last layer, which stays as it is, by the questions of the training articles. It is small.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks.common.report import RESULTS, Circumstances, read_circumstances, render, write_json
from benchmarks.common.script import make_parser, run_script
from trireme.local.postgres import start_postgres
from trireme.postgres.store import PostgresStore
from trireme.quality import BeirData, compute_ndcg, read_beir
from trireme.storage import DEFAULT_EF_SEARCH
from trireme.types import Embedder, FloatArray, Passage, SparseVector, StoreQuery

# Tokens read of a text, texts of a run, questions of a training step, passages that late interaction reorders.
LENGTH, ROWS, BATCH, REORDERED = 128, 32, 48, 20
TOP_K = 10
EMBEDDER = Embedder("0" * 64, 384)
SCALE = 0.1


@dataclass(frozen=True, slots=True)
class Hidden:
    """The last layer of one text, special tokens included: states [n, width] float16, token ids [n]."""

    states: Any
    tokens: Any

    @property
    def dense(self) -> FloatArray:
        """Their mean, of unit length."""
        mean = self.states.float().mean(0).numpy()
        return np.asarray(mean / np.linalg.norm(mean), np.float32)


@dataclass(frozen=True, slots=True)
class WayRow:
    """One way to search: nDCG@10, and the median of a search in ms, exact and by an index (0: it has none)."""

    way: str
    ndcg: float
    exact_ms: float
    index_ms: float


@dataclass(frozen=True, slots=True)
class SparseReport:
    """terms: of a passage, on average. Bytes are of a passage: of its weights, its vector, and their indexes."""

    passages: int
    queries: int
    trained_on: int
    terms: float
    weights_bytes: float
    vector_bytes: float
    weights_index_bytes: float
    vector_index_bytes: float
    put_seconds: float
    plain_put_seconds: float
    index_recall: float
    rows: tuple[WayRow, ...]
    circumstances: Circumstances


def read_hidden(folder: Path, texts: Sequence[str]) -> list[Hidden]:
    """The last layer of each text by a checkpoint of transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found: list[Hidden | None] = [None] * len(texts)
    order = np.argsort([len(text) for text in texts])
    for start in range(0, len(texts), ROWS):
        places = order[start : start + ROWS]
        batch = tokenizer(
            [texts[n] for n in places], padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        with torch.inference_mode():
            states = model(**batch).last_hidden_state.half()
        for place, row, tokens, mask in zip(
            places, states, batch["input_ids"], batch["attention_mask"], strict=True
        ):
            count = int(mask.sum())
            found[place] = Hidden(row[:count].clone(), tokens[:count].clone())
    return [one for one in found if one is not None]


class Head:
    """One weight for each token, at least 0; none for the first and the last one."""

    def __init__(self, width: int, seed: int) -> None:
        import torch

        draw = torch.Generator().manual_seed(seed)
        self.weight = (torch.randn(width, generator=draw) * 0.02).requires_grad_()
        self.bias = torch.tensor(0.3, requires_grad=True)
        self.scale = torch.tensor(3.0, requires_grad=True)

    def weigh(self, one: Hidden) -> Any:
        """The weight of each token but the special ones."""
        import torch

        return torch.relu(one.states[1:-1].float() @ self.weight + self.bias)

    def sparse(self, one: Hidden) -> SparseVector:
        """The heaviest weight of each term."""
        best: dict[int, float] = {}
        pairs = zip(one.tokens[1:-1].tolist(), self.weigh(one).tolist(), strict=True)
        for term, weight in pairs:
            best[term] = max(weight, best.get(term, 0.0))
        kept = sorted(term for term, weight in best.items() if weight > 0)
        weights = np.array([best[term] for term in kept], np.float32)
        return SparseVector(np.array(kept, np.int32), weights)

    def products(self, queries: Sequence[Hidden], passages: Sequence[Hidden], terms: int) -> Any:
        """Inner products [queries, passages] of their weights, which training follows back."""
        return self._table(queries, terms) @ self._table(passages, terms).T

    def _table(self, rows: Sequence[Hidden], terms: int) -> Any:
        import torch

        places = torch.cat([n * terms + one.tokens[1:-1] for n, one in enumerate(rows)])
        weights = torch.cat([self.weigh(one) for one in rows])
        table = torch.zeros(len(rows) * terms).scatter_reduce(0, places, weights, "amax")
        return table.view(len(rows), terms)


def train(head: Head, pairs: Sequence[tuple[Hidden, Hidden, str]], steps: int, seed: int) -> None:
    """Each question is to weigh its own passage most among those of the others in the step."""
    import torch

    terms = 1 + max(int(one.tokens.max()) for pair in pairs for one in pair[:2])
    optimizer = torch.optim.AdamW([head.weight, head.bias, head.scale], 3e-3)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        drawn = [pairs[n] for n in random.permutation(len(pairs))[:BATCH]]
        names = np.array([name for _, _, name in drawn])
        others = torch.from_numpy((names[:, None] == names[None, :]) & ~np.eye(len(names), dtype=bool))
        products = head.products([one for one, *_ in drawn], [one for _, one, _ in drawn], terms)
        logits = (products * head.scale.exp() * SCALE).masked_fill(others, -1e4)
        wanted = torch.arange(len(drawn))
        cross = torch.nn.functional.cross_entropy
        loss = cross(logits, wanted) + cross(logits.T, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def rank_late(query: Hidden, passages: Mapping[str, Hidden]) -> list[str]:
    """Passages by the mean, over the query's tokens, of the largest cosine with a token of the passage."""

    def tokens(one: Hidden) -> FloatArray:
        states: FloatArray = one.states[1:-1].float().numpy()
        return states / np.linalg.norm(states, axis=1, keepdims=True)

    asked = tokens(query)
    scores = {id_: float((asked @ tokens(one).T).max(1).mean()) for id_, one in passages.items()}
    return sorted(scores, key=lambda id_: -scores[id_])


def ask(
    store: PostgresStore, queries: Mapping[str, StoreQuery], way: Callable[[StoreQuery], StoreQuery]
) -> tuple[dict[str, list[str]], float]:
    """The ids found for each query, and the median of a search in ms."""
    found, seconds = {}, []
    for name, query in queries.items():
        began = time.perf_counter()
        hits = store.search(way(query))
        seconds.append(time.perf_counter() - began)
        found[name] = [hit.id for hit in hits]
    return found, 1000 * statistics.median(seconds)


WAYS: dict[str, Callable[[StoreQuery], StoreQuery]] = {
    "vectors": lambda query: replace(query, mode="dense"),
    "words": lambda query: replace(query, mode="text"),
    "sparse weights": lambda query: replace(query, mode="sparse"),
    "hybrid: vectors and words": lambda query: replace(query, mode="hybrid", sparse=None),
    "hybrid: vectors and weights": lambda query: replace(query, mode="hybrid", text=""),
    "hybrid: all three": lambda query: replace(query, mode="hybrid"),
}


def read_sizes(url: str) -> tuple[float, float, float, float]:
    """Bytes of a passage: weights, vector, and their HNSW indexes."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT avg(pg_column_size(sparse)), avg(pg_column_size(embedding)), "
            "(SELECT sum(pg_relation_size(c.oid)) FROM pg_class c WHERE relname ~ '^embeddings_sparse_'), "
            "(SELECT sum(pg_relation_size(c.oid)) FROM pg_class c WHERE relname ~ '^embeddings_hnsw_'), "
            "count(*) FROM trireme.embeddings WHERE sparse IS NOT NULL"
        ).fetchone()
    assert row is not None
    weights, vector, of_weights, of_vectors, count = map(float, row)
    return weights, vector, of_weights / count, of_vectors / count


def load(url: str, collection: str, rows: Mapping[str, str], made: Mapping[str, Any]) -> float:
    """Seconds of storing all passages, without any index."""
    store = PostgresStore(url, 1, 10**9, DEFAULT_EF_SEARCH)
    passages = [Passage(id_, text) for id_, text in rows.items()]
    began = time.perf_counter()
    store.put("t", collection, EMBEDDER, passages, made["dense"], sparse=made.get("sparse"))
    store.close()
    return time.perf_counter() - began


def measure(options: argparse.Namespace, url: str, seen: Circumstances) -> SparseReport:
    """Embed, train, store and ask."""
    dev, other = read_beir(options.data, "dev"), read_beir(options.data, "train")
    held, learned, rows = draw(dev, other, options)
    texts = [*rows.values(), *held.values(), *learned.values()]
    hidden = read_hidden(options.model, texts)
    of_row = dict(zip(rows, hidden, strict=False))
    of_query = dict(zip([*held, *learned], hidden[len(rows) :], strict=True))
    head = Head(EMBEDDER.dimensions, options.seed)
    answers = {query: next(iter(other.qrels[query])) for query in learned}
    train(head, [(of_query[q], of_row[answers[q]], answers[q]) for q in learned], options.steps, options.seed)
    dense = np.stack([one.dense for one in of_row.values()])
    sparse = [head.sparse(one) for one in of_row.values()]
    plain = load(url, "plain", rows, {"dense": dense})
    put = load(url, "c", rows, {"dense": dense, "sparse": sparse})
    queries = {
        name: StoreQuery(
            of_query[name].dense, EMBEDDER, TOP_K, "t", "c", text=text, sparse=head.sparse(of_query[name])
        )
        for name, text in held.items()
    }
    exact = PostgresStore(url, 1, 10**9, DEFAULT_EF_SEARCH)
    slow = {way: ask(exact, queries, change) for way, change in WAYS.items()}
    indexed = PostgresStore(url, 1, len(rows), DEFAULT_EF_SEARCH)
    indexed.put("t", "c", EMBEDDER, [Passage(*next(iter(rows.items())))], dense[:1], sparse=sparse[:1])
    fast = {way: ask(indexed, queries, change) for way, change in WAYS.items()}
    found = [
        WayRow(way, score(slow[way][0], dev), slow[way][1], fast[way][1] if way != "words" else 0.0)
        for way in WAYS
    ]
    deep = ask(exact, queries, lambda query: replace(query, mode="dense", top_k=REORDERED))[0]
    began = time.perf_counter()
    late = {name: rank_late(of_query[name], {id_: of_row[id_] for id_ in ids}) for name, ids in deep.items()}
    late_ms = 1000 * (time.perf_counter() - began) / len(late)
    found.append(WayRow(f"late interaction over {REORDERED} by vectors", score(late, dev), late_ms, 0.0))
    recall = [
        len({*fast["sparse weights"][0][name]} & {*ids}) / max(1, len(ids))
        for name, ids in slow["sparse weights"][0].items()
    ]
    weights, vector, of_weights, of_vectors = read_sizes(url)
    exact.close()
    indexed.close()
    return SparseReport(
        passages=len(rows),
        queries=len(held),
        trained_on=len(learned),
        terms=statistics.fmean(one.indices.size for one in sparse),
        weights_bytes=weights,
        vector_bytes=vector,
        weights_index_bytes=of_weights,
        vector_index_bytes=of_vectors,
        put_seconds=put,
        plain_put_seconds=plain,
        index_recall=statistics.fmean(recall),
        rows=tuple(found),
        circumstances=seen,
    )


def draw(
    dev: BeirData, other: BeirData, options: argparse.Namespace
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Questions asked, questions learned from, and all passages: the asked articles' and some of the others'."""
    random = np.random.default_rng(options.seed)
    asked = {id_ for grades in dev.qrels.values() for id_ in grades}
    rest = sorted(dev.corpus.keys() - asked)
    kept = [rest[n] for n in random.permutation(len(rest))[: options.passages]]
    rows = {id_: dev.corpus[id_] for id_ in sorted({*asked, *kept})}
    names = sorted(dev.queries)
    held = {names[n]: dev.queries[names[n]] for n in random.permutation(len(names))[: options.queries]}
    known = [query for query, grades in sorted(other.qrels.items()) if next(iter(grades)) in {*kept}]
    learned = {known[n]: other.queries[known[n]] for n in random.permutation(len(known))[: options.learned]}
    return held, learned, rows


def score(found: Mapping[str, Sequence[str]], data: BeirData) -> float:
    """Mean nDCG@10."""
    return statistics.fmean(compute_ndcg(ids, data.qrels[name]) for name, ids in found.items())


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures in a database of its own, and writes the results."""
    seen = read_circumstances("benchmarks.once.sparse_weights", words, options.seed)
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as database:
        report = measure(options, database.url, seen)
    write_json(RESULTS / "sparse-weights.json", report)
    print(format_report(report))


def format_report(report: SparseReport) -> str:
    """The Markdown table with what it was measured on."""
    return render("once/sparse_weights.md.j2", report=report, seen=report.circumstances)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="a checkpoint's folder, of 384 numbers a token"
    )
    parser.add_argument("--data", type=Path, required=True, help="a BEIR folder with qrels train and dev")
    parser.add_argument(
        "--passages", type=int, default=2000, help="passages of other articles (default 2000)"
    )
    parser.add_argument("--queries", type=int, default=300, help="questions asked (default 300)")
    parser.add_argument("--learned", type=int, default=2000, help="questions learned from (default 2000)")
    parser.add_argument("--steps", type=int, default=100, help="of training (default 100)")
    parser.add_argument("--seed", type=int, default=1)
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
