"""The steps of an answer over a running server, with some documents left out of what is found."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from trireme.rag.ports import Generated, Question
from trireme.triton.client import TritonClient
from trireme.types import Embedding, FloatArray, Hit

# So many are asked for that enough remain.
WIDE = 200
# As many as search__retrieve finds at least (candidates).
CANDIDATES = 20


class ClientSteps:
    """As the backend's steps; passages whose id is in `left_out` are as if they were not in the collection."""

    def __init__(
        self, client: TritonClient, left_out: frozenset[str] = frozenset(), max_tokens: int = 256
    ) -> None:
        self._client = client
        self._left_out = left_out
        self._max_tokens = max_tokens
        self.hits: list[Hit] = []
        self._ranked: dict[tuple[str, ...], FloatArray] = {}

    def embed(self, question: str) -> Embedding:
        """See Steps.embed; tokens are not counted."""
        return Embedding(self._client.embed([question], "query")[0], 0, 0)

    def retrieve(self, question: Question, vector: FloatArray) -> list[Hit]:
        """See Steps.retrieve. What was found stays in `hits`."""
        most = max(CANDIDATES, question.top_k)
        found = self._client.infer(
            "search__retrieve",
            {
                "embedding": [vector.tolist()],
                "query": [[question.text]],
                "top_k": [[WIDE if self._left_out else most]],
                "collection": [[question.collection]],
                "tenant": [[question.tenant]],
            },
        )
        columns = [[one.decode() for one in found[name].reshape(-1)] for name in ("id", "text", "metadata")]
        hits = [Hit(*row) for row in zip(*columns, found["score"].reshape(-1).tolist(), strict=True)]
        self.hits = [hit for hit in hits if hit.id not in self._left_out][:most]
        return self.hits

    def rank(self, question: str, texts: Sequence[str], prior: FloatArray) -> FloatArray:
        """See Steps.rank. The same is asked once: a question may be answered in several modes."""
        key = (question, *texts)
        if key not in self._ranked:
            self._ranked[key] = self._rank(question, texts, prior)
        return self._ranked[key]

    def _rank(self, question: str, texts: Sequence[str], prior: FloatArray) -> FloatArray:
        inputs = {"query": [[question]], "passages": [list(texts)], "prior": [np.asarray(prior).tolist()]}
        return np.asarray(self._client.infer("reranker", inputs)["score"], np.float32).reshape(-1)

    def generate(self, messages: Sequence[dict[str, str]]) -> Generator[Generated, None, None]:
        """See Steps.generate: greedy."""
        sampling = {"max_tokens": self._max_tokens, "temperature": 0}
        for part in self._client.generate(messages, sampling=sampling):
            yield Generated(part.text, part.finish_reason)
