"""The bounded queue of spans, and the thread that sends them: an absent collector costs spans, nothing else."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from trireme.observe.spans import Span, SpanCounts
from trireme.otlp.collector import LONGEST_WAIT, Answer, Collector
from trireme.otlp.messages import encode_spans, read_rejected

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """most: spans that wait; one more is dropped. batch: of one request. pause: seconds between two, and between
    two tries at first. closing: seconds that `close` waits."""

    most: int = 4096
    batch: int = 512
    pause: float = 1.0
    closing: float = 2.0


DEFAULT_OPTIONS = SenderOptions()


class OtlpSpans:
    """See SpanSink. What a collector does not take now is kept and sent again, for as long as there is room."""

    def __init__(
        self,
        collector: Collector,
        resource: Mapping[str, str],
        version: str,
        percent: int = 100,
        options: SenderOptions = DEFAULT_OPTIONS,
    ) -> None:
        """resource: who sends. version: of the package. percent: see SpanSink."""
        self.is_on = True
        self.percent = percent
        self._collector = collector
        self._resource = dict(resource)
        self._version = version
        self._options = options
        self._waiting: deque[Span] = deque()
        self._lock = threading.Lock()
        self._sent = self._dropped = self._failed = 0
        self._is_away = False
        self._due = threading.Event()
        self._closing = threading.Event()
        self._ends = float("inf")
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """See SpanSink."""
        with self._lock:
            if len(self._waiting) >= self._options.most or self._closing.is_set():
                self._dropped += 1
                return
            self._waiting.append(span)
            is_due = len(self._waiting) == self._options.batch
        if is_due:
            self._due.set()

    def counts(self) -> SpanCounts:
        """See SpanSink."""
        with self._lock:
            return SpanCounts(self._sent, self._dropped, self._failed)

    def close(self) -> None:
        """See SpanSink."""
        # One that is known to be away is not waited for: models are unloaded one after the other.
        patience = 0.0 if self._is_away else self._options.closing
        self._ends = time.monotonic() + patience
        self._closing.set()
        self._due.set()
        # A daemon: one that still hangs ends with the process.
        self._thread.join(patience)
        with self._lock:
            self._dropped += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        wait = self._options.pause
        while True:
            # A full batch is due at once, but not while the collector is away.
            (self._closing if self._is_away else self._due).wait(wait)
            self._due.clear()
            asked = self._send_waiting()
            wait = self._options.pause if asked is None else asked or min(2 * wait, LONGEST_WAIT)
            if self._closing.is_set():
                return

    def _send_waiting(self) -> float | None:
        """None: nothing waits any more. Else the seconds that the collector asks to wait, 0 where it says none."""
        while (batch := self._first()) and time.monotonic() < self._ends:
            answer = self._send(batch)
            if answer.verdict == "again":
                self._tell(answer)
                return answer.wait
            self._settle(batch, answer)
        return None

    def _first(self) -> list[Span]:
        with self._lock:
            return [self._waiting[n] for n in range(min(len(self._waiting), self._options.batch))]

    def _send(self, batch: list[Span]) -> Answer:
        try:
            return self._collector.send(encode_spans(batch, self._resource, self._version))
        except Exception as error:
            # A fault of ours costs this batch and not the thread. Its text may hold what a span or a header holds.
            return Answer("refused", reason=f"they cannot be written ({type(error).__name__})")

    def _settle(self, batch: list[Span], answer: Answer) -> None:
        lost, reason = len(batch), answer.reason
        if answer.verdict == "taken":
            rejected = read_rejected(answer.body)
            if rejected is None:
                reason = "its answer is not OTLP"
            else:
                lost, reason = min(len(batch), rejected[0]), "it rejects spans" if rejected[0] else ""
        with self._lock:
            # `close` may have given them up already.
            for _ in range(min(len(batch), len(self._waiting))):
                self._waiting.popleft()
            self._sent += len(batch) - lost
            self._failed += lost
        self._tell(Answer("refused" if reason else "taken", reason=reason))

    def _tell(self, answer: Answer) -> None:
        """One line when it goes away or takes spans again, not one for each batch."""
        is_away = answer.verdict != "taken"
        if is_away != self._is_away:
            self._is_away = is_away
            said = f"takes no spans: {answer.reason}" if is_away else "takes spans again"
            _log.warning("the collector at %s %s", self._collector.place, said)
