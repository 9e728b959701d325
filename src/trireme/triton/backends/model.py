"""What every backend shares: its life from load to unload, its metrics, its replies, and whether it is ready."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from trireme.errors import TriremeError
from trireme.observe import metrics as names
from trireme.observe.build_info import read_build
from trireme.observe.spans import NoSpans, SpanSink
from trireme.observe.work import WorkMeter, WorkRate
from trireme.otlp.opening import open_spans
from trireme.settings import Settings, read_settings
from trireme.triton.backends.config import ModelConfig, read_model_config
from trireme.triton.backends.instruments import log_to
from trireme.triton.backends.loaded import name_load, name_this, name_version
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.backends.process import ProcessTelling, SpanTelling
from trireme.triton.backends.reply import Replies
from trireme.triton.backends.signals import FrontWatch, SignalExport, WorkSource
from trireme.triton.shared_memory import make_private
from trireme.triton.wire import own_address

READY_PERIOD_SECONDS = 1.0


class BackendModel:
    """Base of the classes that Triton's Python stub drives. Subclasses say what to load and how to answer."""

    known_parameters: ClassVar[frozenset[str]] = frozenset()

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. Raises TritonModelException with one sentence; the model is then not served."""
        # Exists only inside the stub that Triton starts.
        import triton_python_backend_utils as pb

        self._began = time.monotonic()
        self.pb: Any = pb
        log_to(pb.Logger)
        make_private()
        self.metrics = ModelMetrics(pb, args["model_name"])
        self.replies = Replies(pb, args["model_name"], self.metrics, self.on_answered)
        self.spans: SpanSink = NoSpans()
        try:
            settings = read_settings()
            config = read_model_config(args, self.known_parameters)
            self.may_warm_up = settings.warm_up == "on"
            self.config = replace(config, warms_up=config.warms_up and self.may_warm_up)
            self.server_restarts = settings.server_restarts
            self._build = read_build(settings.release)
            self._open_spans(settings)
            # Of models whose own work is not a session's: requests, and how many a second.
            self.work, self.rate = WorkMeter(), WorkRate()
            host = own_address(settings.host, settings.metrics_port).rpartition(":")[0]
            self.front = FrontWatch(host, settings.metrics_port, self.config.name)
            before, self._version = name_load(args, self.config), name_version(self.config.version_dir)
            self.load(self.config)
            # What was placed meanwhile may be loaded or not.
            self._loaded = before if before == name_load(args, self.config) else ""
        except TriremeError as error:
            self.spans.close()
            self.metrics.release()
            raise pb.TritonModelException(str(error)) from None
        self._loaded_at = time.monotonic()
        self._signals: SignalExport | None = None
        if (source := self.work_source()) is not None:
            self._signals = SignalExport(
                self.metrics,
                source,
                self.front,
                instance=self.config.instance,
                instances=self.config.instances,
                warmup_seconds=self._warmup_seconds,
            )
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch_readiness, daemon=True)
        self._watcher.start()

    def _open_spans(self, settings: Settings) -> None:
        self.spans = open_spans("server", self._build, **settings.collector, more=self.config.instance)
        self.replies.record(self.spans)

    def load(self, config: ModelConfig) -> None:
        """Prepare to answer. Raises TriremeError."""
        raise TriremeError(f"{type(self).__name__} does not say how to load")

    def is_ready(self) -> bool:
        """Whether a request would be answered now. Never raises. Triton 26.01 and later asks it."""
        return True

    def close(self) -> None:
        """Give back what `load` took."""

    def work_source(self) -> WorkSource | None:
        """What the model's signals are made of, once it is loaded; None for a model that has no work of its own.

        Here that of models which answer within `execute`: a request is one, and `answer_measured` times them.
        """
        return WorkSource(self.work.totals, self.rate)

    def answer_measured(
        self,
        requests: list[Any],
        read: Callable[[Any], Any],
        compute: Callable[[list[Any]], list[Any]],
        write: Callable[[Any], list[Any]],
    ) -> list[Any]:
        """As Replies.answer_all, and the model's rate is measured by it. What cannot be read is no work."""
        began = time.monotonic()

        def timed(values: list[Any]) -> list[Any]:
            self.work.offer(len(values), requests=len(values))
            self.work.wait(0.0, len(values))
            found = compute(values)
            # A database that is away refuses many in no time: that is no rate.
            if not all(isinstance(answer, Exception) for answer in found):
                self.rate.add(len(found), time.monotonic() - began)
            return found

        with self.front.executing():
            return self.replies.answer_all(requests, read, timed, write)

    def _warmup_seconds(self) -> float | None:
        """From the start of `initialize` to the first answer: that of Triton's warm-up where there is one."""
        first = self.replies.first_sent if self.config.warms_up else self._loaded_at
        return None if first is None else first - self._began

    def on_answered(self, seconds: float) -> None:
        """Called with the seconds from arrival to response of each reply that `replies` sent later."""

    def finalize(self) -> None:
        """Called by Triton once, at unload."""
        self._closed.set()
        self._watcher.join(timeout=READY_PERIOD_SECONDS * 2)
        self.close()
        self.replies.close()
        self.spans.close()
        if self._signals is not None:
            self._signals.close()
        self.metrics.release()
        # What is freed after this call lies in shared memory that the stub no longer has: it crashes then.
        gc.collect()

    def _watch_readiness(self) -> None:
        # Servers before 26.01 never call is_ready: gauges carry its answer to Prometheus and the CLI.
        ready = self.metrics.make(names.READY, instance=self.config.instance)
        # Of a process that is gone the server keeps the last word: its age tells.
        checked = self.metrics.make(names.CHECKED, instance=self.config.instance)
        restarts = self.metrics.make(names.SERVER_RESTARTS)
        restarts.set(float(self.server_restarts))
        digest = name_this(self._loaded)
        loaded = self.metrics.make(
            names.LOADED,
            instance=self.config.instance,
            digest=digest,
            # Of files that changed meanwhile nobody knows which were read.
            version=self._version if digest else "",
        )
        told = ProcessTelling(self.metrics, self.config, self._version, self._build)
        told_spans = SpanTelling(self.metrics, self.config, self.spans)
        while True:
            ready.set(1.0 if self.is_ready() else 0.0)
            checked.set(time.time())
            loaded.set(time.time())
            told.tell()
            told_spans.tell()
            if self._closed.wait(READY_PERIOD_SECONDS):
                return
