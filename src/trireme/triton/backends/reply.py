"""One reply to each request: its tensors, or the error of that request alone. Exactly once, whatever happens."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from trireme.encode.row_queue import Pending
from trireme.errors import TriremeError
from trireme.observe.spans import NoSpans, SpanSink, SpanValue, began_before
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.backends.stages import GONE
from trireme.triton.backends.traced import NO_ATTRIBUTES, Asked, read_asked
from trireme.triton.wire import write_code

R = TypeVar("R")
A = TypeVar("A")
Write = Callable[[A], list[Any]]


# Attributes of a model's span that are our own.
MODEL, REQUEST, OUTCOME = "trireme.model", "trireme.request", "trireme.outcome"
# Outcome of what nobody expected.
INTERNAL = TriremeError.code


class Replies:
    """Makes a model's responses, and sends those that are ready later, from a thread of its own. Thread-safe.

    Sending takes as long as a short text, mostly in waiting: the threads that run texts do not wait for it.
    """

    def __init__(
        self, pb: Any, model: str, metrics: ModelMetrics, on_answered: Callable[[float], None]
    ) -> None:
        """on_answered: called with the seconds from arrival to response of each reply that was sent here."""
        self._pb = pb
        self._model = model
        self._metrics = metrics
        self._on_answered = on_answered
        self._ready: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._spans: SpanSink = NoSpans()
        # When the first answer was made, monotonic seconds.
        self.first_sent: float | None = None

    def record(self, spans: SpanSink) -> None:
        """From now on a sampled request leaves a span."""
        self._spans = spans

    def read(self, request: Any) -> Asked:
        """Whom a request of the stub is for."""
        return read_asked(request, is_recording=self._spans.is_on)

    def owed(self, requests: Sequence[Any]) -> Iterator[Reply]:
        """The reply that each request is owed, in order."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_ready, name="replies", daemon=True)
            self._thread.start()
        for request in requests:
            yield Reply(self, request)

    def put(self, send: Callable[[], None]) -> None:
        """`send` is called by the thread of replies. Does not block."""
        self._ready.put(send)

    def send(self, sender: Any, began: float, response: Any) -> None:
        """Sends the one response of a request that came at `began`, monotonic seconds. Never raises."""
        try:
            sender.send(response, flags=self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            now = time.monotonic()
            self.first_sent = self.first_sent or now
            self._on_answered(now - began)
        except Exception as error:
            # Nobody is left to tell; the thread has other replies to send.
            self.unexpected(error)

    def close(self) -> None:
        """Sends what is ready, then ends the thread; blocks until it has. Idempotent."""
        if self._thread is not None:
            self._ready.put(None)
            self._thread.join()
            self._thread = None

    def answer_all(
        self,
        requests: Sequence[Any],
        read: Callable[[Any], R],
        compute: Callable[[list[R]], list[A | TriremeError]],
        write: Write[A],
    ) -> list[Any]:
        """One response for each request, in order, computed at once: Triton sends and counts them. Never raises."""
        asked, began = [self.read(request) for request in requests], time.monotonic()
        answers: list[A | Exception | None] = [None] * len(requests)
        readable: list[tuple[int, R]] = []
        for position, request in enumerate(requests):
            try:
                readable.append((position, read(request)))
            except Exception as error:
                answers[position] = error
        try:
            computed: list[Any] = compute([value for _, value in readable]) if readable else []
        except TriremeError as error:
            computed = [error] * len(readable)
        except Exception as error:
            computed = [self.unexpected(error)] * len(readable)
        for (position, _), answer in zip(readable, computed, strict=True):
            answers[position] = answer
        made = [self.response(answer, write) for answer in answers]
        now = time.monotonic()
        self.first_sent = self.first_sent or now
        for one, (_, code) in zip(asked, made, strict=True):
            self.note(one, code or "ok", now - began)
        return [response for response, _ in made]

    def response(self, answer: Any, write: Write[Any]) -> tuple[Any, str]:
        """The response of an answer, or of the exception that it is, and its error's code or ""."""
        if not isinstance(answer, Exception):
            try:
                return self._pb.InferenceResponse(output_tensors=write(answer)), ""
            except Exception as error:
                answer = error
        typed = answer if isinstance(answer, TriremeError) else self.unexpected(answer)
        return self.error_response(typed), typed.code

    def error_response(self, error: TriremeError) -> Any:
        """A response that carries `error` and no tensors.

        Its text begins with the code: Triton's gRPC streams, its ensembles' callers and BLS carry nothing else, and
        no model can see which of them asks.
        """
        code = getattr(self._pb.TritonError, error.code)
        _let_go(error)
        return self._pb.InferenceResponse(
            output_tensors=[], error=self._pb.TritonError(write_code(error), code)
        )

    def unexpected(self, error: Exception | None = None) -> TriremeError:
        """Logs `error`, or the one being handled; the error for the client, which says nothing of it."""
        trace = "".join(traceback.format_exception(error)) if error else traceback.format_exc()
        if error is not None:
            _let_go(error)
        self._pb.Logger.log_error(f"model {self._model}: {trace}")
        return TriremeError(f"internal error in model {self._model}; the server's log has the details")

    def note(
        self,
        asked: Asked,
        outcome: str,
        seconds: float,
        *,
        is_long: bool = False,
        attributes: Mapping[str, SpanValue] = NO_ATTRIBUTES,
    ) -> None:
        """A line of the server's log for a request that has a name, where it failed, or wants one, or is_long: of
        work of seconds, which is always told. Never raises. Writing it takes as long as a short text.

        Of one that is recorded also its span, with `attributes`.
        """
        if asked.request and (is_long or outcome != "ok" or asked.wants_lines):
            self._pb.Logger.log_info(asked.line(self._model, outcome, seconds))
        if asked.span:
            said = {MODEL: self._model, REQUEST: asked.request, OUTCOME: outcome, **attributes}
            error = outcome if outcome.isupper() or outcome == GONE else ""
            self._spans.put(asked.ended(self._model, "server", began_before(seconds), error, said))

    def count_failure(self, code: str) -> None:
        """See ModelMetrics."""
        self._metrics.count_failure(code)

    def _send_ready(self) -> None:
        while (send := self._ready.get()) is not None:
            send()


class Reply:
    """The reply that one request is owed. An exception raised within it is the reply, to this request alone.

    It lets go of request and answer as soon as it is done with each, and nothing holds it once the next one is
    there: what the collector has to find, it frees in any thread and long after the server has forgotten the
    request, which ends the server.
    """

    def __init__(self, replies: Replies, request: Any) -> None:
        self.request = request
        self._replies = replies
        self._sender = request.get_response_sender()
        self._asked = replies.read(request)
        self._began = time.monotonic()
        self._pending: tuple[Pending[Any], Write[Any]] | None = None

    def __enter__(self) -> Reply:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        self.request = None
        if not isinstance(error, Exception):
            return False
        self._send(error, _no_tensors)
        return True

    def when(self, pending: Pending[A], write: Write[A]) -> None:
        """Replies with the tensors that `write` makes of the answer once it is there. Does not block."""
        self._pending = (pending, write)
        # The future keeps what listens to it: only this reply, which has let go of the future by then.
        pending.outputs.add_done_callback(self._is_there)

    def _is_there(self, _: Future[Any]) -> None:
        self._replies.put(self._take)

    def _take(self) -> None:
        if self._pending is None:
            return
        (pending, write), self._pending = self._pending, None
        try:
            answer = pending.result()
        except Exception as error:
            answer = error
        self._send(answer, write)

    def _send(self, answer: Any, write: Write[Any]) -> None:
        response, code = self._replies.response(answer, write)
        self._replies.send(self._sender, self._began, response)
        if code:
            self._replies.count_failure(code)
        self._replies.note(self._asked, code or "ok", time.monotonic() - self._began)


def _no_tensors(_: Any) -> list[Any]:
    return []


def _let_go(error: Exception) -> None:
    """Its frames hold the request, which holds shared memory, in a circle that only the collector opens."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
