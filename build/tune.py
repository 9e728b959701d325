"""Finds the serving settings with the most requests per second within a p95, and writes them into the recipe."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from trireme.errors import TriremeError
from trireme.settings import read_settings
from trireme.stack import interruptible
from trireme.tune.placing import place_changes
from trireme.tune.report import describe_outcome, make_table, write_report
from trireme.tune.run import TuneOptions, TuneResult, tune

PROJECT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 when nothing meets the limit, 130 when it was interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = parse_arguments(words)
    settings = read_settings()
    if given.repository is not None:
        settings = dataclasses.replace(settings, model_repository=given.repository)
    values = {spec.name: getattr(given, spec.name, None) for spec in dataclasses.fields(TuneOptions)}
    options = TuneOptions(**{**values, "command": show_command(words)})
    try:
        with interruptible():
            result = tune(options, settings, Console(stderr=True))
            return conclude(result, settings.model_repository, options)
    except KeyboardInterrupt:
        print("stopped. The same command goes on from what is measured.", file=sys.stderr)
        return 130


def conclude(result: TuneResult, repository: Path, options: TuneOptions) -> int:
    """Prints and writes what was found, and the settings where there is a winner. Returns the exit code."""
    report, console = result.report, Console()
    notice = write_report(report, result.folder)
    console.print(make_table(report))
    print(describe_outcome(report))
    if notice is not None:
        print(notice, file=sys.stderr)
    print(f"Report: {result.folder}", file=sys.stderr)
    if report.outcome.winner is None:
        print("Nothing was changed.")
        return 1
    if options.is_dry:
        print(f"--dry-run: would write {', '.join(change.name for change in result.changes)}")
        return 0
    place_changes(repository, result.changes)
    print(f"Written: {', '.join(change.name for change in result.changes)}")
    if any(change.name.endswith("config.pbtxt") for change in result.changes):
        print("A server that runs takes them when it is started again.")
    return 0


def show_command(words: Sequence[str]) -> str:
    """The command line with absolute paths cut to their last part: evidence names no machine's folders."""
    shown = [f".../{Path(word).name}" if Path(word).is_absolute() else word for word in words]
    return " ".join(["python build/tune.py", *shown])


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="an embedding model, reranker or classifier, or a search chain")
    parser.add_argument("--slo-p95-ms", type=positive, required=True, help="the limit of p95, milliseconds")
    parser.add_argument(
        "--workload", type=Path, help="perf_analyzer's JSON of inputs; default: drawn from --texts"
    )
    parser.add_argument(
        "--texts", type=Path, default=PROJECT / "docs", help="texts to draw from and to search; default: docs"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the drawn workload; default: 1")
    parser.add_argument("--concurrency", type=whole, default=32, help="most requests in flight; default: 32")
    parser.add_argument("--minutes", type=positive, default=10.0, help="time to take; default: 10")
    parser.add_argument(
        "--window-s", type=positive, default=1.0, help="seconds of one of a run's three windows; default: 1"
    )
    parser.add_argument(
        "--rounds", type=several, default=4, help="of the finalists against each other; default: 4"
    )
    parser.add_argument(
        "--least-batch-size",
        type=whole,
        help="least max_batch_size to try; default: 32, what our clients send",
    )
    parser.add_argument(
        "--repository", type=Path, help="default: TRIREME_MODEL_REPOSITORY or model_repository"
    )
    parser.add_argument(
        "--dry-run", dest="is_dry", action="store_true", help="measure and show; write no model"
    )
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return number


def whole(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def several(text: str) -> int:
    """A whole number from 2 on: one round has no noise to compare with."""
    if whole(text) < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, got {text}")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
