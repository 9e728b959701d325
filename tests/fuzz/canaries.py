"""Good requests between the bad ones: their answers must stay as they were."""

import json
import urllib.request

import numpy as np

from trireme.errors import TriremeError, UnavailableError
from trireme.triton.client import TritonClient

TEXT = "A trireme had three banks of oars."
PASSAGES = ["three banks of oars", "Simmer the lentils with garlic."]


class Canaries:
    """Asks every model something ordinary, over both protocols."""

    def __init__(self, host: str, http_port: int, grpc_port: int) -> None:
        self._client = TritonClient(f"{host}:{grpc_port}", timeout=30)
        self._http = f"http://{host}:{http_port}"
        self._first: dict[str, object] = {}

    def close(self) -> None:
        self._client.close()

    def ask(self) -> list[str]:
        """What was wrong with the answers of one round, lateness included; no server at all is not counted."""
        wrong = []
        for name in ("embedding", "reranker", "search", "search__sort", "llm", "rag", "ingest", "generate"):
            try:
                found = getattr(self, f"_{name}")()
            except UnavailableError as error:
                if "no server answers" in str(error):
                    return wrong
                wrong.append(f"{name}: {error}")
                continue
            except (TriremeError, OSError) as error:
                wrong.append(f"{name}: {type(error).__name__}: {error}")
                continue
            expected = self._first.setdefault(name, found)
            if not np.allclose(found, expected, atol=2e-3) if name == "embedding" else found != expected:
                wrong.append(f"{name}: {found!r}"[:300])
        return wrong

    def _embedding(self) -> object:
        return self._client.embed([TEXT], "passage")

    def _reranker(self) -> object:
        scores = self._client.infer("reranker", {"query": [["oars"]], "passages": [PASSAGES]})["score"]
        return bool(scores[0][0] > scores[0][1])

    def _search(self) -> object:
        return self._client.search("banks of oars", top_k=1)[0].id

    def _search__sort(self) -> object:
        rows = {name: [["a", "b"]] for name in ("id", "text", "metadata")}
        return self._client.infer("search__sort", {**rows, "score": [[0.1, 0.2]]})["id"].tolist()

    def _llm(self) -> object:
        sampling = {"max_tokens": 4, "temperature": 0}
        return sum(part.output_tokens for part in self._client.generate("one two", sampling=sampling))

    def _rag(self) -> object:
        parts = list(self._client.ask("How many banks of oars had a trireme?", "extractive"))
        return bool(parts[-1].citations)

    def _ingest(self) -> object:
        return self._client.infer("ingest", {"document_id": [["canary"]], "text": [[TEXT]]})["state"].tolist()

    def _generate(self) -> object:
        body = json.dumps({"query": "banks of oars", "top_k": 1}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._http}/v2/models/search/generate", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["id"]
