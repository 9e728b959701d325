"""The stages of one answer as spans, each of which is the parent of what is asked within it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from trireme.errors import TriremeError
from trireme.observe.spans import SpanSink
from trireme.triton.backends.traced import Asked

GONE = "client_gone"


class Stages:
    """One answer's. They do not overlap. For one thread."""

    def __init__(self, asked: Asked, spans: SpanSink) -> None:
        """asked: whom the answer is for."""
        self._whole = asked
        self._spans = spans
        # Whom the models are asked for now.
        self.asked = asked

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Within it models are asked for this stage. Costs next to nothing where nothing is recorded."""
        if not self._whole.span:
            yield
            return
        self.asked = within = self._whole.child()
        began, error = time.time_ns(), ""
        try:
            yield
        except TriremeError as failed:
            error = failed.code
            raise
        except GeneratorExit:
            error = GONE
            raise
        except Exception as failed:
            error = type(failed).__name__
            raise
        finally:
            self.asked = self._whole
            self._spans.put(within.ended(name, "internal", (began, time.time_ns()), error))
