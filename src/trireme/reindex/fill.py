"""Give a collection the vectors of another embedder, while searches go on: fill a new version, then switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep
from typing import TypeVar

from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.ingest.encoder import Encoder, Vectors, join_vectors
from trireme.ingest.throttle import Throttle
from trireme.retrieve.versions import IndexVersions, Unembedded
from trireme.retry import Pauses, retry
from trireme.types import IndexVersion

Result = TypeVar("Result")

# Passages that are read, embedded and stored in one transaction, and how long that may take: what a kill costs.
STEP = 256
STEP_SECONDS = 10.0
# Requests at once, to keep the server's cores busy while nobody else does.
IN_FLIGHT = 3
# A server or database that is started again is waited for.
PAUSES = Pauses(0.5, 15.0, patience=600.0)
# Writers may add passages between the last look and the switch; each time there are fewer.
SWITCH_ATTEMPTS = 20


@dataclass
class Filler:
    """Fills an index version with the vectors of its embedder, behind everybody else's requests.

    progress: told the passages stored after each step. notice: told of what is waited for. Whatever ends the
    process, the finished steps stay, and filling again goes on after them.
    """

    versions: IndexVersions
    throttle: Throttle
    progress: Callable[[int], None] = lambda _: None
    notice: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = monotonic
    wait: Callable[[float], object] = sleep
    pauses: Pauses = PAUSES

    def fill(self, version: IndexVersion, encoder: Encoder) -> int:
        """Embed what the version lacks until nothing is missing; returns how many passages that were.

        Blocks. Raises UnavailableError once server or database have been away for the patience of `pauses`.
        """
        check_encoder(version, encoder)
        filled = 0
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            while found := self._patiently(partial(self.versions.missing, version.number, STEP)):
                done = self._embed_some(threads, encoder, found)
                keys = [one.key for one in found[: len(done)]]
                self._patiently(partial(self.versions.fill, version.number, keys, done.dense, done.sparse))
                filled += len(done)
                self.progress(len(done))
        return filled

    def switch(self, version: IndexVersion, encoder: Encoder) -> None:
        """Make a version the one that is searched, with whatever was added meanwhile. Blocks.

        Raises UnavailableError where so much is added that something is missing each time.
        """
        for attempt in range(SWITCH_ATTEMPTS):
            self.fill(version, encoder)
            try:
                self.versions.switch(version.number)
            except UnavailableError:
                if attempt == SWITCH_ATTEMPTS - 1:
                    raise
                self.wait(self.pauses.first)
            else:
                return

    def _embed_some(
        self, threads: ThreadPoolExecutor, encoder: Encoder, found: Sequence[Unembedded]
    ) -> Vectors:
        """Vectors of the first passages of `found`: of all, or of as many as STEP_SECONDS allow."""
        until = self.clock() + STEP_SECONDS
        texts = [one.text for one in found]
        sizes = encoder.count(texts)
        done: list[Vectors] = []
        start = 0
        while start < len(texts) and (not done or self.clock() < until):
            batches: list[tuple[list[str], int]] = []
            while start < len(texts) and len(batches) < IN_FLIGHT:
                end = _next_request(sizes, start, self.throttle.budget(), encoder.max_rows)
                batches.append((texts[start:end], sum(sizes[start:end])))
                start = end
            done += threads.map(lambda batch: self._embed(encoder, *batch), batches)
        return join_vectors(done)

    def _embed(self, encoder: Encoder, texts: list[str], tokens: int) -> Vectors:
        def send() -> Vectors:
            with self.throttle.turn():
                began = self.clock()
                vectors = encoder.embed(texts)
                self.throttle.record(tokens, self.clock() - began)
                return vectors

        return self._patiently(send)

    def _patiently(self, call: Callable[[], Result]) -> Result:
        """What `call` returns, once it does not raise UnavailableError any more."""
        return retry(
            call,
            UnavailableError,
            self.pauses,
            self.wait,
            lambda error: self.notice(f"{error}; trying again"),
            clock=self.clock,
        )


def _next_request(sizes: Sequence[int], start: int, budget: int, most: int) -> int:
    """Where a request that starts at `start` ends: one text at least, else within tokens and rows."""
    end, used = start + 1, sizes[start]
    while end < len(sizes) and end - start < most and used + sizes[end] <= budget:
        used += sizes[end]
        end += 1
    return end


def check_encoder(version: IndexVersion, encoder: Encoder) -> None:
    """Raises InvalidInputError unless the encoder makes the version's vectors."""
    if version.embedder != encoder.embedder:
        raise InvalidInputError(
            f"index version {version.number} holds vectors of embedder {version.embedder.digest[:12]}, and"
            f" model {encoder.model!r} is {encoder.embedder.digest[:12]}: it was built anew since;"
            " reindex with it, or place the former build"
        )


def active_of(versions: Sequence[IndexVersion]) -> IndexVersion:
    """The version that searches use."""
    return next(version for version in versions if version.state == "active")


def kept_of(versions: Sequence[IndexVersion]) -> IndexVersion:
    """The version to go back to. Raises NotFoundError where none is kept."""
    for version in versions:
        if version.state == "kept":
            return version
    raise NotFoundError("no former version is kept; there is nothing to go back to")


def choose_drop(versions: Sequence[IndexVersion], number: int | None) -> IndexVersion:
    """The version to remove: `number`, or the only one that is not searched. Raises NotFoundError."""
    idle = [version for version in versions if version.state != "active"]
    chosen = [version for version in idle if number in {None, version.number}]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(f"{version.number} ({version.state})" for version in idle)
    if not idle:
        raise NotFoundError("there is no version but the one that is searched")
    if number is not None:
        raise NotFoundError(f"no version {number} that could be removed; there are: {names}")
    raise NotFoundError(f"say with --version which one to remove: {names}")
