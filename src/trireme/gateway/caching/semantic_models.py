"""The models of the semantic cache on our own Triton, and what gateway.toml says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from trireme.cache.index import Vector
from trireme.cache.promise import SemanticRule, pick_threshold
from trireme.errors import InvalidInputError, SettingError
from trireme.gateway.file import GatewayFile, SemanticRow
from trireme.providers.call_route import keep_calls_near
from trireme.providers.models import ModelServer

EQUIVALENCE = "equivalence"
T = TypeVar("T")


class ServedEmbedder:
    """A QuestionEmbedder over a model of our Triton. Does not close the server."""

    def __init__(self, server: ModelServer, model: str) -> None:
        self._server = server
        self._model = model

    async def embed(self, text: str) -> Vector | None:
        """See QuestionEmbedder.embed."""
        made = await _asked_near(self._server.embed([text], self._model, "query"))
        if made.truncated[0] > 0:
            return None
        return np.asarray(made.vectors[0], dtype=np.float32)


class ServedScorer:
    """An EquivalenceScorer over a reranker of our Triton that reads both questions. Does not close the server."""

    def __init__(self, server: ModelServer, model: str = EQUIVALENCE) -> None:
        self._server = server
        self._model = model

    async def score(self, question: str, others: Sequence[str]) -> list[float | None]:
        """See EquivalenceScorer.score."""
        made = await _asked_near(self._server.rerank(question, others, self._model))
        return [
            None if cut > 0 or not np.isfinite(score) else float(score)
            for score, cut in zip(made.scores, made.truncated, strict=True)
        ]


async def _asked_near(asking: Coroutine[Any, Any, T]) -> T:
    """The answer of this region's server: index and thresholds are of its models, not of another region's."""

    async def asked() -> T:
        keep_calls_near()
        return await asking

    # A task of its own, so that the request's other calls may go where they might.
    return await asyncio.create_task(asked())


class SemanticRules:
    """What gateway.toml says for a tenant and a model. The tenant's table holds in place of the model's.

    table: of the equivalence model, share of false hits -> threshold. Raises SettingError where a promise has none.
    """

    def __init__(self, file: GatewayFile, table: Mapping[float, float]) -> None:
        self._tenants = _read_rules("tenants", {n: row.semantic for n, row in file.tenants.items()}, table)
        self._models = _read_rules("models", {n: row.semantic for n, row in file.models.items()}, table)

    def __bool__(self) -> bool:
        """Whether anybody has turned the tier on."""
        return any(rule for rule in (*self._tenants.values(), *self._models.values()))

    def __call__(self, tenant: str, model: str) -> SemanticRule | None:
        """The rule, None where the tier is off."""
        if tenant in self._tenants:
            return self._tenants[tenant]
        return self._models.get(model)


def _read_rules(
    kind: str, rows: Mapping[str, SemanticRow | None], table: Mapping[float, float]
) -> dict[str, SemanticRule | None]:
    return {name: _read_rule(f"{kind}.{name}", row, table) for name, row in rows.items() if row is not None}


def _read_rule(scope: str, row: SemanticRow, table: Mapping[float, float]) -> SemanticRule | None:
    """None of a row that turns the tier off."""
    if row.max_false_hits == 0:
        return None
    threshold = row.threshold
    if threshold is None:
        try:
            threshold = pick_threshold(table, row.max_false_hits)
        except InvalidInputError as error:
            raise SettingError(f"{scope}.semantic: {error}; set a threshold") from None
    return SemanticRule(scope, row.max_false_hits, row.shadow_share, threshold)
