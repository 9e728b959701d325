"""The semantic tier: serves the answer of a question that was asked before in other words."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from trireme.cache.agreement import answers_agree
from trireme.cache.exact import read_entry, write_entry
from trireme.cache.index import Candidate, Indexed, SemanticIndex, Vector
from trireme.cache.port import CacheStore, Entry, Found, Question
from trireme.cache.promise import Check, Promises, SemanticRule
from trireme.cache.questions import find_obstacle
from trireme.cache.rules import find_difference

T = TypeVar("T")

SWEEP_SECONDS = 60.0
CLOSE_SECONDS = 2.0
# As many lookups as this wait for the index at once; a database that hangs holds no more threads.
THREADS = 4
# Vectors of questions that were just looked for, and what would have been served to them.
REMEMBERED = 1_000


class QuestionEmbedder(Protocol):
    """Makes vectors of questions. For one event loop."""

    async def embed(self, text: str) -> Vector | None:
        """A unit vector [dimensions]; None where the text is longer than the model's window.

        Raises TriremeError."""
        ...


class EquivalenceScorer(Protocol):
    """Says whether the answer of one question serves another one. For one event loop."""

    async def score(self, question: str, others: Sequence[str]) -> Sequence[float | None]:
        """A score for each; None for a pair that is longer than the model's window. Raises TriremeError."""
        ...


class SemanticWatch(Protocol):
    """Is told what the tier does. Neither verb blocks or raises."""

    def looked(self, outcome: str, seconds: float) -> None:
        """A lookup ended: "hit", or why it missed."""
        ...

    def worked(self, outcome: str) -> None:
        """Something in the background ended: kept, agreed, differed, dropped, failed."""
        ...


@dataclass(frozen=True, slots=True)
class SemanticParts:
    """What the tier works with. rule_of: of a tenant and a model; None where the tier is off.

    read_text: the text of an entry's body, to compare answers.
    """

    index: SemanticIndex
    store: CacheStore
    embedder: QuestionEmbedder
    scorer: EquivalenceScorer
    promises: Promises
    watch: SemanticWatch
    rule_of: Callable[[str, str], SemanticRule | None]
    read_text: Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class SemanticLimits:
    """least_similarity: the cosine from which on a question is looked at. nearest: so many are. seconds: for all
    of a lookup. After `faults` failures in a row the tier rests for rest_seconds. background: tasks at once."""

    least_similarity: float = 0.7
    nearest: int = 4
    seconds: float = 0.05
    background_seconds: float = 5.0
    faults: int = 5
    rest_seconds: float = 10.0
    background: int = 64


class MissedError(Exception):
    """A lookup found nothing that may be served; the text says why, in a word for metrics."""


@dataclass(frozen=True, slots=True)
class _Match:
    candidate: Candidate
    score: float


class SemanticTier:
    """A CacheTier. `start` before use. Closes index and promises with it, not the store."""

    name = "semantic"

    def __init__(self, parts: SemanticParts, limits: SemanticLimits | None = None) -> None:
        self._parts = parts
        self._limits = limits or SemanticLimits()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="semantic")
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._faults = 0
        self._rests_until = 0.0
        self._vectors: OrderedDict[str, Vector] = OrderedDict()
        self._doubtful: OrderedDict[str, _Match] = OrderedDict()

    async def start(self) -> None:
        """Begin to sweep the index now and then, and to read how promises stand."""
        await self._parts.promises.start()
        self._sweeper = asyncio.create_task(self._keep_sweeping())

    async def find(self, question: Question) -> Found | None:
        """See CacheTier.find. Ends within `seconds`."""
        rule = self._parts.rule_of(question.tenant, question.model)
        if rule is None or not question.text or not question.may_read:
            return None
        if obstacle := find_obstacle(question.text):
            self._parts.watch.looked(obstacle, 0.0)
            return None
        began = time.monotonic()
        found: Found | None = None
        try:
            async with asyncio.timeout(self._limits.seconds):
                found = await self._find(question, rule)
            outcome = "hit"
        except MissedError as missed:
            outcome = str(missed)
        except TimeoutError:
            outcome = "slow"
        except Exception:
            outcome = "failed"
        self._count_faults(outcome)
        self._parts.watch.looked(outcome, time.monotonic() - began)
        return found

    async def keep(self, question: Question, entry: Entry) -> None:
        """See CacheTier.keep. Embeds and writes in the background; what is too much at once is not kept."""
        rule = self._parts.rule_of(question.tenant, question.model)
        if rule is None or not question.text or not question.may_keep or find_obstacle(question.text):
            return
        doubtful = self._doubtful.pop(question.key, None)
        if doubtful is not None:
            self._begin(self._compare(question, rule, doubtful, entry))
        self._begin(self._keep(question, entry))

    async def close(self) -> None:
        """See CacheTier.close. What runs in the background has CLOSE_SECONDS to end."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
        await self._parts.promises.close()
        # Threads that a database holds end by its own deadline.
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._parts.index.close)

    async def _find(self, question: Question, rule: SemanticRule) -> Found:
        """The hit. Raises MissedError, and what a part raises."""
        if time.monotonic() < self._rests_until:
            raise MissedError("resting")
        standing = self._parts.promises.standing(rule)
        if standing is None:
            raise MissedError("unread")
        if not standing.is_on:
            # What would have been served is compared with what the client gets: evidence that costs no call.
            self._begin(self._doubt(question, rule))
            raise MissedError("off")
        matches = await self._match(question, rule)
        threshold = standing.thresholds.get(family_of(question), rule.threshold)
        for match in matches:
            if match.score < threshold:
                self._remember_doubt(question, match)
                raise MissedError("raised")
            entry = await self._read(question, match.candidate)
            if entry is not None:
                details = {"sim": f"{match.candidate.similarity:.3f}", "score": f"{match.score:.6g}"}
                return Found(entry, self.name, details)
        raise MissedError("gone")

    async def _match(self, question: Question, rule: SemanticRule) -> list[_Match]:
        """What could serve by the rule's own threshold, best first. Raises MissedError if there is nothing."""
        near = await self._near(question)
        alike = []
        difference = ""
        for one in near:
            difference = find_difference(question.text, one.text)
            if not difference:
                alike.append(one)
        if not alike:
            raise MissedError(f"rule_{difference}")
        scores = await self._parts.scorer.score(question.text, [one.text for one in alike])
        matches = [
            _Match(one, score)
            for one, score in zip(alike, scores, strict=True)
            # Not a number is no score either.
            if score is not None and score >= rule.threshold
        ]
        if not matches:
            raise MissedError("score" if any(score is not None for score in scores) else "long")
        return sorted(matches, key=lambda match: -match.score)

    async def _near(self, question: Question) -> list[Candidate]:
        vector = await self._embed(question)
        found = await self._in_thread(
            lambda: self._parts.index.find(question.tenant, question.partition, vector, self._limits.nearest)
        )
        if not found:
            raise MissedError("nothing")
        near = [one for one in found if one.similarity >= self._limits.least_similarity]
        if not near:
            raise MissedError("far")
        if question.max_age is not None:
            oldest = time.time() - question.max_age
            near = [one for one in near if one.made_at >= oldest]
            if not near:
                raise MissedError("old")
        return near

    async def _embed(self, question: Question) -> Vector:
        vector = self._vectors.get(question.key)
        if vector is None:
            vector = await self._parts.embedder.embed(question.text)
            if vector is None:
                raise MissedError("long")
            _put(self._vectors, question.key, vector)
        return vector

    async def _read(self, question: Question, candidate: Candidate) -> Entry | None:
        """The candidate's entry, unless it is gone or too old; its question is forgotten then."""
        raw = await self._parts.store.get(place_of(question.tenant, candidate.key))
        entry = None if raw is None else read_entry(raw)
        # What lies there may have been put by anybody who reaches the store.
        if entry is None or entry.key != candidate.key:
            self._begin(self._forget(question, candidate))
            return None
        if question.max_age is not None and entry.made_at < time.time() - question.max_age:
            return None
        return entry

    async def _keep(self, question: Question, entry: Entry) -> None:
        vector = await self._embed(question)
        self._vectors.pop(question.key, None)
        # The entry first: a question without one would be looked up in vain.
        place = place_of(question.tenant, question.key)
        await self._parts.store.put(place, write_entry(entry), question.seconds)
        indexed = Indexed(
            question.tenant, question.partition, question.key, question.text, vector, question.seconds
        )
        await self._in_thread(lambda: self._parts.index.keep(indexed))
        self._parts.watch.worked("kept")

    async def _doubt(self, question: Question, rule: SemanticRule) -> None:
        with suppress(MissedError):
            matches = await self._match(question, rule)
            self._remember_doubt(question, matches[0])

    def _remember_doubt(self, question: Question, match: _Match) -> None:
        _put(self._doubtful, question.key, match)

    async def _compare(self, question: Question, rule: SemanticRule, match: _Match, entry: Entry) -> None:
        """Whether the answer that was not served would have been as the one that was given."""
        kept = await self._read(question, match.candidate)
        if kept is None:
            return
        agreed = answers_agree(self._parts.read_text(kept.body), self._parts.read_text(entry.body))
        self._parts.promises.record(Check(rule.scope, family_of(question), match.score, agreed))
        self._parts.watch.worked("agreed" if agreed else "differed")

    async def _forget(self, question: Question, candidate: Candidate) -> None:
        await self._in_thread(
            lambda: self._parts.index.forget(question.tenant, question.partition, [candidate.key])
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the background, unless too much runs there."""
        if len(self._tasks) >= self._limits.background:
            work.close()
            self._parts.watch.worked("dropped")
            return
        task = asyncio.create_task(self._work(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._limits.background_seconds):
                await work
        except MissedError:
            self._parts.watch.worked("dropped")
        except Exception:
            self._parts.watch.worked("failed")

    def _count_faults(self, outcome: str) -> None:
        """A part that hangs must not cost every request its time."""
        if outcome not in ("slow", "failed"):
            self._faults = 0 if outcome not in ("resting", "off", "unread") else self._faults
            return
        self._faults += 1
        if self._faults >= self._limits.faults:
            self._rests_until = time.monotonic() + self._limits.rest_seconds
            # One more failure after the rest, and it rests again.
            self._faults = self._limits.faults - 1

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with suppress(Exception):
                await self._in_thread(self._parts.index.sweep)


def place_of(tenant: str, key: str) -> str:
    """Where the store has an entry of this tier, beside those of others; the tenant stands in front."""
    return f"semantic:{quote(tenant, safe='')}:{key}"


def family_of(question: Question) -> str:
    """Of a question's partition: those of one tenant and model share their thresholds."""
    return f"{question.tenant}/{question.model}"


def _put(kept: OrderedDict[str, T], key: str, value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)
