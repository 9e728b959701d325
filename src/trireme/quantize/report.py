"""What people read of a run: the estimate before it, a bar over layers while it works, the figures after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from trireme.quantize.checkpoint import CausalLM
from trireme.quantize.estimate import Estimate
from trireme.quantize.manifest import QuantizationManifest
from trireme.quantize.pipeline import RunWatch
from trireme.quantize.quiet import keep_stderr

UNITS = {"quantize": "layers", "evaluate": "windows"}


@contextlib.contextmanager
def show_run() -> Iterator[RunWatch]:
    """A `RunWatch` that writes to stderr: bars in a terminal, one line for each step elsewhere."""
    with keep_stderr() as stream:
        console = Console(file=stream)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        shown = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with shown as progress:
            yield _Bars(progress, console).watch()


class _Bars:
    """One bar for each step; a step begins where the one before ends."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress, self._console = progress, console
        self._task = progress.add_task("start", total=None, unit="")

    def watch(self) -> RunWatch:
        return RunWatch(self.estimated, self.begin, self.advance)

    def estimated(self, model: CausalLM, estimate: Estimate) -> None:
        self._console.print(format_estimate(model, estimate), highlight=False, soft_wrap=True)

    def begin(self, step: str, total: int) -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(step, total=total or None, unit=UNITS.get(step, ""))
        if not self._console.is_terminal and step in UNITS:
            self._console.print(step, highlight=False)

    def advance(self) -> None:
        self._progress.advance(self._task)


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
