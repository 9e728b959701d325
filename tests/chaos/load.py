"""What clients do meanwhile, and what they may not be told: each request ends, in time, with a right answer or a
typed error."""

import threading
import time
from collections import Counter
from contextlib import suppress

import numpy as np

from trireme.errors import NotFoundError, TriremeError, UnavailableError
from trireme.triton.client import TritonClient

# Names that look alike.
TENANTS = ("acme", "аcme")
QUERY = "how many banks of oars has a trireme?"
PASSAGES = ["A trireme has three banks of oars.", "Simmer the lentils with garlic."]
# What a client waits for each response; a stream has many.
DEADLINE_SECONDS = 30.0
LONGEST_SECONDS = 2 * DEADLINE_SECONDS


def marker(tenant: str) -> str:
    """A word that is in each of the tenant's documents and in nobody else's."""
    return f"marker{TENANTS.index(tenant)}"


class Judge:
    """Counts what was done and keeps what was wrong. Thread-safe."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.longest = 0.0
        self._lock = threading.Lock()

    def ended(self, kind: str, seconds: float, error: Exception | None = None):
        """One request, and how it ended. What is no TriremeError that a client may get is wrong."""
        with self._lock:
            self.longest = max(self.longest, seconds)
            self.counts[f"{kind}: {type(error).__name__ if error else 'ok'}"] += 1
            if seconds > LONGEST_SECONDS + 5:
                self.wrong.append(f"{kind} took {seconds:.0f} s")
            if error is not None and not isinstance(error, UnavailableError):
                self.wrong.append(f"{kind} failed: {type(error).__name__}: {error}")

    def check(self, holds: bool, said: str):
        if not holds:
            with self._lock:
                self.wrong.append(said)


class Clients:
    """Threads that send a mixed load until `close`. Documents that the server took are in `published`."""

    def __init__(self, url: str, judge: Judge, random):
        self._url, self._judge, self._random = url, judge, random
        self._closed = threading.Event()
        self.published: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
        with TritonClient(url, timeout=DEADLINE_SECONDS) as client:
            self._vector = client.embed([QUERY], "query")
            self._scores = _rerank(client)
        kinds = (self._search, self._embed, self._rerank, self._llm, self._rag, self._vanish, self._ingest)
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]
        for thread in self._threads:
            thread.start()

    def close(self):
        """Sends no more; blocks until every request has ended."""
        self._closed.set()
        for thread in self._threads:
            thread.join(LONGEST_SECONDS + 30)
            self._judge.check(not thread.is_alive(), f"a client still waits: {thread.name}")

    def _run(self, act):
        number = 0
        while not self._closed.is_set():
            began = time.monotonic()
            error = None
            try:
                with TritonClient(self._url, timeout=DEADLINE_SECONDS) as client:
                    act(client, TENANTS[number % len(TENANTS)], number)
            except Exception as failure:
                error = failure
            self._judge.ended(act.__name__.strip("_"), time.monotonic() - began, error)
            number += 1
            # Refused at once while the server starts: no reason to ask at once again.
            self._closed.wait(0.3 if error else self._random.uniform(0.0, 0.1))

    def _search(self, client, tenant, _number):
        hits = client.search(QUERY, 5, tenant=tenant)
        self._judge.check(bool(hits), "a search found nothing")
        self._judge.check(
            all(marker(tenant) in hit.text for hit in hits), f"a search of {tenant!r} found another's"
        )

    def _embed(self, client, _tenant, _number):
        vector = client.embed([QUERY], "query")
        self._judge.check(bool(np.allclose(vector, self._vector, atol=1e-3)), "an embedding changed")

    def _rerank(self, client, _tenant, _number):
        self._judge.check(bool(np.allclose(_rerank(client), self._scores, atol=1e-2)), "a score changed")

    def _llm(self, client, _tenant, number):
        parts = list(client.generate(f"say {number}", sampling={"max_tokens": 24}))
        self._judge.check(parts[-1].finish_reason in ("stop", "length"), "a text ended without its reason")

    def _rag(self, client, tenant, number):
        mode = ("extractive", "generative")[number // 2 % 2]
        parts = list(client.ask(QUERY, mode=mode, tenant=tenant, sampling={"max_tokens": 24}))
        self._judge.check(parts[-1].usage is not None, "an answer ended without its last part")
        cited = [cited.text for cited in parts[-1].citations if mode == "extractive"]
        others = marker(TENANTS[1 - TENANTS.index(tenant)])
        self._judge.check(
            not any(others in text for text in cited), f"an answer to {tenant!r} cites another's"
        )

    def _vanish(self, client, tenant, number):
        if number % 2:
            running = client.generate("say", sampling={"max_tokens": 200, "ignore_eos": True})
        else:
            running = client.ask(QUERY, mode="generative", tenant=tenant, sampling={"max_tokens": 200})
        try:
            for _ in range(self._random.randrange(6)):
                next(running, None)
        finally:
            running.close()

    def _ingest(self, client, tenant, number):
        name = f"document-{number:05d}"
        inputs = {"document_id": [[name]], "text": [[f"{name} is about oars. {marker(tenant)}"]]}
        answer = client.infer("ingest", inputs | {"tenant": [[tenant]], "collection": [["default"]]})
        state = answer["state"][0][0].decode()
        if state == "waiting":
            self.published[tenant].add(name)
        elif "database" not in answer["error"][0][0].decode():
            self._judge.check(False, f"a document was {state}: {answer['error'][0][0].decode()}")


def _rerank(client):
    return client.infer("reranker", {"query": [[QUERY]], "passages": [PASSAGES]})["score"][0]


class Watch:
    """Asks after readiness and, beside it, for answers: how long was the former said while there were none?"""

    def __init__(self, is_ready, url: str):
        self._is_ready, self._url = is_ready, url
        self._closed = threading.Event()
        self.longest_lie = 0.0
        self.answered_at = time.monotonic()
        self._threads = [threading.Thread(target=one) for one in (self._ask, self._watch)]
        for thread in self._threads:
            thread.start()

    def close(self):
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def serves(self, timeout: float = 10.0) -> bool:
        """Whether every chain gives an answer now."""
        try:
            with TritonClient(self._url, timeout=timeout) as client:
                found = client.search(QUERY, 1, tenant=TENANTS[0])
                said = list(
                    client.ask(QUERY, mode="generative", tenant=TENANTS[0], sampling={"max_tokens": 1})
                )
                with suppress(NotFoundError):
                    client.infer("ingest", {"job_id": [["0"]]})
        except TriremeError:
            return False
        return bool(found and said)

    def _ask(self):
        while not self._closed.wait(0.2):
            if self.serves():
                self.answered_at = time.monotonic()

    def _watch(self):
        ready_since = None
        while not self._closed.wait(0.2):
            if not self._is_ready():
                ready_since = None
                continue
            ready_since = ready_since or time.monotonic()
            lie = time.monotonic() - max(self.answered_at, ready_since)
            self.longest_lie = max(self.longest_lie, lie)
