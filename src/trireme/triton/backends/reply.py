"""One reply to each request: its tensors, or the error of that request alone. Exactly once, whatever happens."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from trireme.encode.row_queue import Pending
from trireme.errors import TriremeError
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.wire import write_code

R = TypeVar("R")
A = TypeVar("A")
Write = Callable[[A], list[Any]]


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
        self._on_answered(time.monotonic() - began)
        try:
            sender.send(response, flags=self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:
            # Nobody is left to tell; the thread has other replies to send.
            self.unexpected()

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
        answers: list[A | Exception | None] = [None] * len(requests)
        readable: list[tuple[int, R]] = []
        for position, request in enumerate(requests):
            try:
                readable.append((position, read(request)))
            except Exception as error:
                answers[position] = error
        try:
            computed: list[Any] = compute([value for _, value in readable]) if readable else []
        except Exception as error:
            computed = [error] * len(readable)
        for (position, _), answer in zip(readable, computed, strict=True):
            answers[position] = answer
        return [self.response(answer, write)[0] for answer in answers]

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
        # Its frames hold the request, which holds shared memory, in a circle that only the collector opens.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return self._pb.InferenceResponse(
            output_tensors=[], error=self._pb.TritonError(write_code(error), code)
        )

    def unexpected(self, error: Exception | None = None) -> TriremeError:
        """Logs `error`, or the one being handled; the error for the client, which says nothing of it."""
        trace = "".join(traceback.format_exception(error)) if error else traceback.format_exc()
        self._pb.Logger.log_error(f"model {self._model}: {trace}")
        return TriremeError(f"internal error in model {self._model}; the server's log has the details")

    def count_failure(self, code: str) -> None:
        """See ModelMetrics."""
        self._metrics.count_failure(code)

    def _send_ready(self) -> None:
        while (send := self._ready.get()) is not None:
            send()


class Reply:
    """The reply that one request is owed. An exception raised within it is the reply, to this request alone."""

    def __init__(self, replies: Replies, request: Any) -> None:
        self.request = request
        self._replies = replies
        self._sender = request.get_response_sender()
        self._began = time.monotonic()

    def __enter__(self) -> Reply:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        # A request that is over is let go of: it holds shared memory.
        self.request = None
        if not isinstance(error, Exception):
            return False
        self._send(error, _no_tensors)
        return True

    def when(self, pending: Pending[A], write: Write[A]) -> None:
        """Replies with the tensors that `write` makes of the answer once it is there. Does not block."""
        send = partial(self._take, pending, write)
        pending.outputs.add_done_callback(lambda _: self._replies.put(send))

    def _take(self, pending: Pending[A], write: Write[A]) -> None:
        try:
            answer: A | Exception = pending.result()
        except Exception as error:
            answer = error
        self._send(answer, write)

    def _send(self, answer: Any, write: Write[Any]) -> None:
        response, code = self._replies.response(answer, write)
        if code:
            self._replies.count_failure(code)
        self._replies.send(self._sender, self._began, response)


def _no_tensors(_: Any) -> list[Any]:
    return []
