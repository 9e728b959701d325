"""Shadow checks: some hits of the semantic cache are asked upstream as well, and both answers compared."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from trireme.cache.agreement import answers_agree
from trireme.cache.port import Found, Question
from trireme.cache.promise import Check, Promises, SemanticRule, share_of
from trireme.cache.semantic import SemanticWatch, family_of
from trireme.gateway.caching.codec import decode_events
from trireme.providers.chat import Event, Finished, RefusalDelta, TextDelta
from trireme.providers.targets import OpenAnswer

RUNNING = 8
SECONDS = 120.0
CLOSE_SECONDS = 2.0
_WHOLE = frozenset({"stop", "stop_sequence", "refusal"})

Ask = Callable[[], Awaitable[OpenAnswer]]


class ShadowChecks:
    """For one event loop. The client has its kept answer meanwhile; the call is charged to the tenant as any other.

    draw: a number from 0 to 1. running: checks at once; what is more is not checked.
    """

    def __init__(
        self,
        promises: Promises,
        rule_of: Callable[[str, str], SemanticRule | None],
        watch: SemanticWatch,
        *,
        draw: Callable[[], float] = random.random,
        running: int = RUNNING,
    ) -> None:
        self._promises = promises
        self._rule_of = rule_of
        self._watch = watch
        self._draw = draw
        self._running = running
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, question: Question, found: Found, ask: Ask) -> bool:
        """Check a hit that is served now, or leave it; whether it is checked. Does not block or raise."""
        rule = self._rule_of(question.tenant, question.model)
        standing = None if rule is None else self._promises.standing(rule)
        if rule is None or standing is None or self._draw() >= share_of(standing, rule):
            return False
        if len(self._tasks) >= self._running:
            self._watch.worked("dropped")
            return False
        task = asyncio.create_task(self._check(rule, question, found, ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def note(self, question: Question) -> str:
        """What the header of a miss says more: that the tier has turned itself off for the question."""
        rule = self._rule_of(question.tenant, question.model) if question.text else None
        standing = None if rule is None else self._promises.standing(rule)
        return "; semantic=off" if standing is not None and not standing.is_on else ""

    async def close(self) -> None:
        """End what runs; what had no time left is not counted."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _check(self, rule: SemanticRule, question: Question, found: Found, ask: Ask) -> None:
        """A call that fails, or is cut or refused, says nothing about the kept answer."""
        try:
            async with asyncio.timeout(SECONDS):
                opened = await ask()
                async with aclosing(opened.events) as events:
                    given = [event async for event in events]
        except Exception:
            self._watch.worked("failed")
            return
        reasons = {event.reason for event in given if isinstance(event, Finished)}
        # One that a budget or a filter cut short is not what the provider would have said.
        if not reasons or not reasons <= _WHOLE:
            self._watch.worked("failed")
            return
        agreed = answers_agree(read_text(found.entry.body), text_of(given))
        # The header's figure is rounded; what was served had its threshold at least.
        score = max(float(found.details["score"]), rule.threshold)
        self._promises.record(Check(rule.scope, family_of(question), score, agreed))
        self._watch.worked("agreed" if agreed else "differed")


def read_text(body: bytes) -> str:
    """The text of a kept answer; "" for what cannot be read."""
    return text_of(decode_events(body) or ())


def text_of(events: tuple[Event, ...] | list[Event]) -> str:
    """The text of an answer's events; a refusal is its text too."""
    return "".join(event.text for event in events if isinstance(event, TextDelta | RefusalDelta))
