"""What people read of a run: the estimate before it, how far it is while it works, the figures after it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from trireme.quantize.checkpoint import CausalLM
from trireme.quantize.estimate import Estimate
from trireme.quantize.manifest import QuantizationManifest
from trireme.quantize.pace import Pace
from trireme.quantize.pipeline import RunWatch
from trireme.quantize.quiet import keep_stderr

UNITS = {"quantize": "layers", "evaluate": "windows"}
# Without a terminal, seconds between two lines at least.
LINE_SECONDS = 5.0


@contextlib.contextmanager
def show_run(clock: Callable[[], float] = time.monotonic) -> Iterator[RunWatch]:
    """A `RunWatch` that writes to stderr: bars in a terminal, lines elsewhere, LINE_SECONDS apart or more."""
    with keep_stderr() as stream:
        console = Console(file=stream)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            LeftColumn(),
        )
        shown = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with shown as progress:
            yield _Steps(progress, console, clock).watch()


class LeftColumn(ProgressColumn):
    """What the task's `Pace` says is left."""

    def render(self, task: Task) -> Text:
        return Text(format_left(task.fields["pace"]))


class _Steps:
    """One bar, or a few lines, for each step; a step begins where the one before ends."""

    def __init__(self, progress: Progress, console: Console, clock: Callable[[], float]) -> None:
        self._progress, self._console, self._clock = progress, console, clock
        self._step, self._pace, self._said = "start", Pace(0, clock), clock()
        self._task = progress.add_task("start", total=None, unit="", pace=self._pace)

    def watch(self) -> RunWatch:
        return RunWatch(self.estimated, self.begin, self.advance)

    def estimated(self, model: CausalLM, estimate: Estimate) -> None:
        self._console.print(format_estimate(model, estimate), highlight=False, soft_wrap=True)

    def begin(self, step: str, total: int) -> None:
        self._progress.remove_task(self._task)
        self._step, self._pace = step, Pace(total, self._clock)
        unit = UNITS.get(step, "")
        self._task = self._progress.add_task(step, total=total or None, unit=unit, pace=self._pace)
        if not self._console.is_terminal and step in UNITS:
            self._say(step)

    def advance(self) -> None:
        self._pace.advance()
        self._progress.advance(self._task)
        if not self._console.is_terminal and self._clock() - self._said >= LINE_SECONDS:
            self._say(format_step(self._step, self._pace))

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)
        self._said = self._clock()


def format_step(step: str, pace: Pace) -> str:
    """Such as: quantize: 3 of 30 layers, 12 min left."""
    left = format_left(pace)
    return f"{step}: {pace.done} of {pace.total} {UNITS.get(step, 'parts')}{left and ', ' + left}"


def format_left(pace: Pace) -> str:
    """Such as: 12 min left. Empty while nothing can be said."""
    left = pace.seconds_left()
    return "" if left is None else f"{format_seconds(left)} left"


def format_estimate(model: CausalLM, estimate: Estimate) -> str:
    """One line: what is there, and about what it will take."""
    return (
        f"{model.architecture}, {model.parameters:,} parameters, {model.layers} layers;"
        f" estimate: {format_seconds(estimate.seconds)}, {estimate.memory_bytes / 1e9:.1f} GB of memory,"
        f" {estimate.output_bytes / 1e6:,.1f} MB written (an estimate from a short measurement, not a promise)"
    )


def format_manifest(name: str, manifest: QuantizationManifest, was_made: bool) -> str:
    """What came out, for the end of a run."""
    state = "made" if was_made else "already made from the same inputs (--force makes it again)"
    width = "16 bits" if manifest.method == "none" else f"{manifest.bits} bits"
    group = f", group size {manifest.group_size}" if manifest.group_size else ""
    figures, limits = manifest.figures, manifest.thresholds
    return "\n".join(
        [
            f"{name}: {state}: {manifest.method}, {width}{group}, {manifest.total_bytes:,} bytes,"
            f" quantized in {format_seconds(manifest.seconds)}",
            f"  perplexity {figures['perplexity']:.3f}, original {figures['perplexity_original']:.3f}",
            f"  perplexity_ratio {figures['perplexity_ratio']:.5f}"
            f" (at most {limits['max_perplexity_ratio']:g})",
            f"  kl {figures['kl']:.5f} nats per token (at most {limits['max_kl']:g})",
            f"  agreement {figures['agreement']:.5f} (at least {limits['min_agreement']:g})",
            f"  measured on {int(figures['tokens']):,} tokens of {manifest.evaluation['name']}",
        ]
    )


def format_seconds(seconds: float) -> str:
    """Such as 45 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
