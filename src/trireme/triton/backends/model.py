"""What every backend shares: its life from load to unload, its metrics, its replies, and whether it is ready."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any, ClassVar

from trireme.errors import TriremeError
from trireme.settings import read_settings
from trireme.triton.backends.config import ModelConfig, read_model_config
from trireme.triton.backends.instruments import log_to
from trireme.triton.backends.loaded import name_load, name_this, name_version
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.backends.reply import Replies
from trireme.triton.shared_memory import make_private

READY_PERIOD_SECONDS = 1.0


class BackendModel:
    """Base of the classes that Triton's Python stub drives. Subclasses say what to load and how to answer."""

    known_parameters: ClassVar[frozenset[str]] = frozenset()

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. Raises TritonModelException with one sentence; the model is then not served."""
        # Exists only inside the stub that Triton starts.
        import triton_python_backend_utils as pb

        self.pb: Any = pb
        log_to(pb.Logger)
        make_private()
        self.metrics = ModelMetrics(pb, args["model_name"])
        self.replies = Replies(pb, args["model_name"], self.metrics, self.on_answered)
        try:
            self.config = read_model_config(args, self.known_parameters)
            self.server_restarts = read_settings().server_restarts
            before, self._version = name_load(args, self.config), name_version(self.config.version_dir)
            self.load(self.config)
            # What was placed meanwhile may be loaded or not.
            self._loaded = before if before == name_load(args, self.config) else ""
        except TriremeError as error:
            self.metrics.release()
            raise pb.TritonModelException(str(error)) from None
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch_readiness, daemon=True)
        self._watcher.start()

    def load(self, config: ModelConfig) -> None:
        """Prepare to answer. Raises TriremeError."""
        raise TriremeError(f"{type(self).__name__} does not say how to load")

    def is_ready(self) -> bool:
        """Whether a request would be answered now. Never raises. Triton 26.01 and later asks it."""
        return True

    def close(self) -> None:
        """Give back what `load` took."""

    def on_answered(self, seconds: float) -> None:
        """Called with the seconds from arrival to response of each reply that `replies` sent later."""

    def finalize(self) -> None:
        """Called by Triton once, at unload."""
        self._closed.set()
        self._watcher.join(timeout=READY_PERIOD_SECONDS * 2)
        self.close()
        self.replies.close()
        self.metrics.release()
        # What is freed after this call lies in shared memory that the stub no longer has: it crashes then.
        gc.collect()

    def _watch_readiness(self) -> None:
        # Servers before 26.01 never call is_ready: gauges carry its answer to Prometheus and the CLI.
        answers = "1 when the model's session, files and database answer, else 0"
        ready = self.metrics.gauge("trireme_model_ready", answers, instance=self.config.instance)
        # Of a process that is gone the server keeps the last word: its age tells.
        found_out = "When trireme_model_ready was found out, Unix time"
        checked = self.metrics.gauge(
            "trireme_model_checked_seconds", found_out, instance=self.config.instance
        )
        restarts = self.metrics.gauge(
            "trireme_server_restarts", "How often trireme serve has started the server again"
        )
        restarts.set(float(self.server_restarts))
        names = "What the model has loaded, as one name that no other load has: Unix time at which it last said so"
        digest = name_this(self._loaded)
        loaded = self.metrics.gauge(
            "trireme_model_loaded_seconds",
            names,
            instance=self.config.instance,
            digest=digest,
            # Of files that changed meanwhile nobody knows which were read.
            version=self._version if digest else "",
        )
        while True:
            ready.set(1.0 if self.is_ready() else 0.0)
            checked.set(time.time())
            loaded.set(time.time())
            if self._closed.wait(READY_PERIOD_SECONDS):
                return
