"""The statements of a search: nearest vectors, matching words, sparse weights, and the sum of their scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from pgvector import Vector
from psycopg import Connection, sql

from trireme.postgres.hnsw import INDEXED_WEIGHTS, can_be_indexed, indexed_expression
from trireme.postgres.rows import IndexRow, stored_weights, vector_column
from trireme.postgres.schema import TENANT_ROLE
from trireme.postgres.words import query_columns
from trireme.retrieve.store import SHARE_OF_WEIGHTS, read_filter
from trireme.types import Hit, StoreQuery

# pgvector's limit of hnsw.ef_search.
MAX_EF_SEARCH = 1000
# Signs alone order coarsely: so many candidates are compared again by their stored vectors, per hit wanted.
BINARY_OVERSAMPLING = 20


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """Collections and filters with fewer passages than `exact_below` are compared one by one."""

    exact_below: int
    ef_search: int


def enter_tenant(connection: Connection[Any], tenant: str) -> None:
    """Hold the open transaction to the rows of one tenant, by row-level security, and to one snapshot.

    With one snapshot no switch of index versions comes between two statements. Nothing may have run before.
    """
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.execute(
        "SELECT set_config('role', %s, true), set_config('trireme.tenant', %s, true)", (TENANT_ROLE, tenant)
    )


def find_hits(
    connection: Connection[Any], active: IndexRow, query: StoreQuery, limits: SearchLimits
) -> list[Hit]:
    """The hits of `query`, best first, ties by id. The connection must have entered the query's tenant.

    An HNSW index answers where there are enough passages to choose from. Its scan goes on until the filter
    has let enough pass, and ends after 20,000 vectors; then every vector that the filter lets through is
    compared, so that nothing is missed.
    """
    search = _Search(connection, active, query, limits)
    if search.uses_index():
        hits, has_enough = search.run(exact=False)
        if has_enough:
            return hits
    return search.run(exact=True)[0]


class _Search:
    def __init__(
        self, connection: Connection[Any], active: IndexRow, query: StoreQuery, limits: SearchLimits
    ) -> None:
        self._connection = connection
        self._active = active
        self._query = query
        self._limits = limits
        # {} is contained in everything, also in metadata that no filter can read. Numbers are what ingestion
        # made of them.
        wanted = read_filter(query.filter)
        self._filter = json.dumps(wanted) if wanted else None
        wide = query.mode == "hybrid"
        self._dense = max(query.top_k, query.dense_candidates) if wide else query.top_k
        self._text = max(query.top_k, query.text_candidates) if wide else query.top_k
        self._has_dense = active.embedder.dimensions > 0
        ways = {"dense": ("dense",), "text": ("words",), "sparse": ("weighed",), "hybrid": self._all_ways()}
        self._ways = ways[query.mode]

    def _all_ways(self) -> tuple[str, ...]:
        has_weights = self._query.sparse is not None and self._active.has_sparse
        is_there = {"dense": self._has_dense, "words": True, "weighed": has_weights}
        return tuple(way for way, has in is_there.items() if has)

    def uses_index(self) -> bool:
        below, passages = self._limits.exact_below, self._active.passages
        if passages < below or self._ways == ("words",):
            return False
        if "dense" in self._ways and not can_be_indexed(self._active.embedder, self._active.storage):
            return False
        if self._filter is None:
            return True
        row = self._connection.execute(
            "SELECT count(*) FROM trireme.match_filter(%s, %s::jsonb, %s)",
            (self._active.collection_id, self._filter, below),
        ).fetchone()
        return row is not None and int(row[0]) >= below

    def run(self, *, exact: bool) -> tuple[list[Hit], bool]:
        """The hits, and whether the scans of indexes brought as many passages as they were asked for."""
        if not exact:
            self._aim_at_index()
        make = {"dense": self._dense_part, "words": self._text_part, "weighed": self._weighed_part}
        parts = {way: make[way](exact) for way in self._ways}
        asked = {"dense": self._dense, "weighed": self._text}
        scanned = [way for way in parts if way in asked]
        statement = sql.SQL(
            "WITH {parts}, fused AS MATERIALIZED ({fused} ORDER BY rank_score DESC "
            "FETCH FIRST %(top_k)s ROWS WITH TIES) "
            "SELECT p.id, p.text, p.metadata::text, {score}, f.rank_score, f.coverage, ARRAY[{found}]::bigint[] "
            "FROM fused f JOIN trireme.passages p ON p.key = f.key "
            "JOIN trireme.embeddings e ON e.index_id = {index} AND e.passage_key = f.key"
        ).format(
            parts=sql.SQL(", ").join(
                sql.SQL("{} AS MATERIALIZED ({})").format(sql.Identifier(name), part)
                for name, part in parts.items()
            ),
            fused=self._fused(),
            score=self._score(),
            found=sql.SQL(", ").join(
                sql.SQL("(SELECT count(*) FROM {})").format(sql.Identifier(way)) for way in scanned
            ),
            index=sql.Literal(self._active.index_id),
        )
        rows = self._connection.execute(statement, self._parameters()).fetchall()
        hits = [
            Hit(id_, text, metadata, float(np.float32(score)), float(rank_score), float(coverage))
            for id_, text, metadata, score, rank_score, coverage, _ in rows
        ]
        ordered = sorted(hits, key=lambda hit: (-hit.rank_score, hit.id))[: self._query.top_k]
        counts = rows[0][6] if rows else [0] * len(scanned)
        wanted = [min(asked[way], self._active.passages) for way in scanned]
        return ordered, all(count >= least for count, least in zip(counts, wanted, strict=True))

    def _aim_at_index(self) -> None:
        # Twice top_k, since recall falls off towards the end of the candidate list.
        least = self._dense * (BINARY_OVERSAMPLING if self._active.storage == "binary" else 1)
        candidates = min(max(self._limits.ef_search, 2 * self._query.top_k, least), MAX_EF_SEARCH)
        # A sort is the plan without the index; row counts may be too old for the planner to see its cost.
        self._connection.execute(
            "SELECT set_config('hnsw.ef_search', %s, true), set_config('enable_sort', 'off', true)",
            (str(candidates),),
        )

    def _dense_part(self, exact: bool) -> sql.Composed:
        """Keys and distances of the nearest passages; exact ones with ties, so that ids decide among them."""
        template = _EXACT if exact else _BINARY if self._active.storage == "binary" else _INDEXED
        return template.format(
            # A literal: a planner that sees a parameter cannot prove that the partial index applies.
            index=sql.Literal(self._active.index_id),
            distance=self._distance(),
            nearness=self._index_ordering(),
            filtered=self._dense_filter(exact),
            ties=sql.SQL("WITH TIES"),
        )

    def _dense_filter(self, exact: bool) -> sql.Composable:
        if self._filter is None:
            return sql.SQL("")
        if exact:
            return sql.SQL(
                "AND e.passage_key IN (SELECT trireme.match_filter({}, %(filter)s::jsonb, NULL))"
            ).format(sql.Literal(self._active.collection_id))
        # Looked up by key for each vector that the index scan brings, nearest first.
        return sql.SQL(
            "AND (SELECT m.filterable @> %(filter)s::jsonb FROM trireme.passages m WHERE m.key = e.passage_key)"
        )

    def _text_part(self, _: bool) -> sql.Composed:
        return sql.SQL(
            "SELECT m.key, m.relevance, m.coverage, {distance} AS distance "
            "FROM trireme.match_text({collection}, %(plain)s, %(exact)s, %(plain_compounds)s, %(compounds)s, "
            "%(filter)s::jsonb, %(words)s, spelled => %(spelled)s, grams => %(grams)s) m "
            "JOIN trireme.embeddings e ON e.index_id = {index} AND e.passage_key = m.key"
        ).format(
            distance=self._distance(),
            collection=sql.Literal(self._active.collection_id),
            index=sql.Literal(self._active.index_id),
        )

    def _weighed_part(self, exact: bool) -> sql.Composed:
        """Keys and products, less than 0, of the passages with the query's terms; 0 is without any."""
        return (_WEIGHED if exact else _WEIGHED_INDEXED).format(
            index=sql.Literal(self._active.index_id),
            distance=self._distance(),
            nearness=INDEXED_WEIGHTS,
            filtered=self._dense_filter(exact),
        )

    def _fused(self) -> sql.Composable:
        if self._query.mode != "hybrid":
            return _RANKED[self._query.mode]
        # Without vectors the product itself stands where the cosine does.
        adds_weights = self._has_dense and "weighed" in self._ways
        joined = sql.SQL(" FULL JOIN ").join(
            sql.SQL("{} AS {}{}").format(
                sql.SQL("(SELECT * FROM weighed WHERE product < 0)") if way == "weighed" else sql.SQL(way),
                sql.SQL(_ALIASES[way]),
                sql.SQL(" USING (key)" if n else ""),
            )
            for n, way in enumerate(("words", *(one for one in self._ways if one != "words")))
        )
        return _HYBRID.format(
            most=sql.SQL("1" if self._has_dense else "0"),
            weights=_SHARE_OF_WEIGHTS if adds_weights else sql.SQL("0"),
            distances=sql.SQL(", ").join(sql.SQL(f"{_ALIASES[way]}.distance") for way in self._ways),
            joined=joined,
        )

    def _score(self) -> sql.Composable:
        """The cosine of what the embedder makes of query and passage: vectors, or weights where there are none."""
        if self._has_dense:
            return sql.SQL("1 - ({})").format(self._distance())
        if self._query.sparse is None:
            return sql.SQL("0::float8")
        # Without any weight there is no direction.
        return sql.SQL("coalesce(1 - nullif(e.sparse <=> %(weights)s, 'NaN'), 0)")

    def _distance(self) -> sql.Composable:
        if not self._has_dense:
            no_weights = self._query.sparse is None
            return sql.SQL("0::float8" if no_weights else "coalesce(e.sparse <#> %(weights)s, 0)")
        # Half-precision vectors are compared in single precision: only their storage is half.
        column = vector_column(self._active.storage)
        return sql.SQL("e.embedding <=> %(q)s" if column == "embedding" else "e.half::vector <=> %(q)s")

    def _index_ordering(self) -> sql.Composed:
        size = sql.Literal(self._active.embedder.dimensions)
        indexed = indexed_expression(self._active.storage, self._active.embedder.dimensions)
        return {
            "float32": sql.SQL("{} <=> %(q)s"),
            "float16": sql.SQL("{} <=> %(q)s::halfvec({})"),
            "binary": sql.SQL("{} <~> binary_quantize(%(q)s)::bit({})"),
        }[self._active.storage].format(indexed, size)

    def _parameters(self) -> dict[str, Any]:
        return {
            "q": Vector(np.asarray(self._query.embedding, np.float32)),
            "top_k": self._query.top_k,
            "dense": self._dense,
            "coarse": min(self._dense * BINARY_OVERSAMPLING, max(MAX_EF_SEARCH, self._dense)),
            "words": self._text,
            "filter": self._filter,
            "text_weight": self._query.text_weight,
            "weights": None if self._query.sparse is None else stored_weights(self._query.sparse),
            **query_columns(self._query.text),
        }


# Texts are fetched for the winners alone: sorting whole rows makes exact search a third slower.
_EXACT = sql.SQL(
    "SELECT e.passage_key AS key, {distance} AS distance FROM trireme.embeddings e "
    "WHERE e.index_id = {index} {filtered} ORDER BY distance FETCH FIRST %(dense)s ROWS {ties}"
)
_INDEXED = sql.SQL(
    "SELECT e.passage_key AS key, {distance} AS distance FROM trireme.embeddings e "
    "WHERE e.index_id = {index} {filtered} ORDER BY {nearness} LIMIT %(dense)s"
)
_BINARY = sql.SQL(
    "SELECT key, distance FROM (SELECT e.passage_key AS key, {distance} AS distance FROM trireme.embeddings e "
    "WHERE e.index_id = {index} {filtered} ORDER BY {nearness} LIMIT %(coarse)s) AS coarse "
    "ORDER BY distance LIMIT %(dense)s"
)
# Every passage has a product, most of them 0: those are left out before ties are counted.
_WEIGHED = sql.SQL(
    "SELECT * FROM (SELECT e.passage_key AS key, e.sparse <#> %(weights)s AS product, {distance} AS distance "
    "FROM trireme.embeddings e WHERE e.index_id = {index} {filtered} OFFSET 0) AS every WHERE product < 0 "
    "ORDER BY product FETCH FIRST %(words)s ROWS WITH TIES"
)
_WEIGHED_INDEXED = sql.SQL(
    "SELECT e.passage_key AS key, e.sparse <#> %(weights)s AS product, {distance} AS distance "
    "FROM trireme.embeddings e WHERE e.index_id = {index} {filtered} "
    "ORDER BY {nearness} <#> %(weights)s LIMIT %(words)s"
)
_RANKED = {
    "dense": sql.SQL("SELECT key, 1 - distance AS rank_score, 0 AS coverage FROM dense"),
    "text": sql.SQL("SELECT key, relevance AS rank_score, coverage FROM words"),
    "sparse": sql.SQL("SELECT key, -product AS rank_score, 0 AS coverage FROM weighed WHERE product < 0"),
}
_ALIASES = {"dense": "d", "words": "w", "weighed": "h"}
_SHARE_OF_WEIGHTS = sql.SQL("{} * coalesce(h.product / nullif(min(h.product) OVER (), 0), 0)").format(
    sql.Literal(SHARE_OF_WEIGHTS)
)
# In units of the cosine's spread among the candidates, whatever cosines the embedder makes: see VectorStore.
_HYBRID = sql.SQL(
    "SELECT key, {most} - distance + %(text_weight)s::float8 * share * stddev_pop(distance) OVER () "
    "AS rank_score, coverage FROM (SELECT key, coalesce({distances}) AS distance, "
    "coalesce(w.coverage, 0) + {weights} AS share, "
    "coalesce(w.coverage, 0) AS coverage FROM {joined}) AS every"
)
