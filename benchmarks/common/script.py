"""The frame of every script: options, one sentence for an error, an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from trireme.errors import TriremeError
from trireme.stack import interruptible


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Shows the module's text as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run_script(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace, list[str]], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """`work` gets the options and the words they came from. Returns the exit status: 0, 1 or, interrupted, 130."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    try:
        # SIGTERM unwinds as Ctrl-C does: servers and workers are in sessions of their own and would stay.
        with interruptible():
            work(options, words)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
