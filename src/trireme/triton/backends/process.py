"""What a model's process says of itself: which build and which model it is, its memory and processor time."""

from __future__ import annotations

import os

from trireme.artifacts.manifest import MANIFEST_FILE, read_manifest
from trireme.errors import ArtifactError
from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.process_use import read_use
from trireme.observe.spans import SpanSink
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.metrics import ModelMetrics

DIGEST_SIGNS = 12
# Looks at the process for each call of `tell`.
EVERY = 5


class ProcessTelling:
    """Writes it on the server's page. Instances of one model share its two infos, which stay as they are."""

    def __init__(self, metrics: ModelMetrics, config: ModelConfig, version: str, build: Build) -> None:
        """version: as name_version says it."""
        infos = (
            metrics.make(
                names.BUILD_INFO,
                process="server",
                version=build.version,
                revision=build.revision,
                release=build.release,
            ),
            metrics.make(names.MODEL_INFO, digest=version[:DIGEST_SIGNS], precision=read_precision(config)),
        )
        for info in infos:
            info.set(1.0)
        self._memory = metrics.make(names.MODEL_MEMORY, instance=config.instance)
        self._cpu = metrics.make(names.MODEL_CPU, instance=config.instance)
        self._cpu_told = 0.0
        self._calls = 0

    def tell(self) -> None:
        """Called once a second; looks each EVERYth time. Blocks for calls to the server; never raises."""
        is_due = self._calls % EVERY == 0
        self._calls += 1
        use = read_use(os.getpid()) if is_due else None
        if use is None:
            return
        self._memory.set(float(use.memory_bytes))
        # A child that has ended takes its seconds with it.
        if (grown := use.cpu_seconds - self._cpu_told) > 0:
            self._cpu.increment(grown)
        self._cpu_told = use.cpu_seconds


class SpanTelling:
    """Writes what became of the model's spans on the server's page; nothing where none are sent."""

    def __init__(self, metrics: ModelMetrics, config: ModelConfig, spans: SpanSink) -> None:
        self._spans = spans
        self._told = dict.fromkeys(names.SPAN_OUTCOMES, 0)
        self._counters = (
            {
                outcome: metrics.make(names.MODEL_SPANS, instance=config.instance, outcome=outcome)
                for outcome in self._told
            }
            if spans.is_on
            else {}
        )

    def tell(self) -> None:
        """Called once a second. Blocks for calls to the server; never raises."""
        counts = self._spans.counts()
        for outcome, counter in self._counters.items():
            count = getattr(counts, outcome)
            if count > self._told[outcome]:
                counter.increment(count - self._told[outcome])
                self._told[outcome] = count


def read_precision(config: ModelConfig) -> str:
    """As the model was built, such as int8; "" of one without weights."""
    if not (config.version_dir / MANIFEST_FILE).is_file():
        return ""
    try:
        return read_manifest(config.version_dir).precision
    except ArtifactError:
        return ""
