"""What the processes in the rivals' environments share. It imports nothing of ours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

BATCH = 32
CALIBRATION_TEXTS = "calibration.json"

Job = dict[str, Any]


def read_versions(*names: str) -> dict[str, str]:
    """Those of `names` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def serve(make: Callable[[], Callable[[Job], Job]]) -> None:
    """Answers a job a line on stdin with a line on stdout, both JSON; an error is an answer: {"error": ...}.

    `make`, which may load what it needs, gives the function that answers.
    """
    # Libraries print to stdout as they like: the answers keep the real one, all else goes to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answer = make()
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # the library's own word is the answer
            reply = {"error": f"{type(error).__name__}: {error}"[:600]}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
