"""Sets up an environment for each rival from its lock file, once; a failure is noted for the benchmark's report."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.report import PROJECT, show_progress_note
from benchmarks.common.script import make_parser, run_script
from trireme.errors import InvalidInputError

LOCKS = PROJECT / "benchmarks" / "rivals"
ENVIRONMENTS = PROJECT / ".venv-rivals"
MADE, FAILED = ".made", ".failed"
TORCH = "torch==2.13.0"


def list_rivals() -> list[str]:
    """Names of the lock files."""
    return sorted(path.stem for path in LOCKS.glob("*.lock"))


def hash_lock(lock: Path) -> str:
    """What the environment must have been made from."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def is_made_from(folder: Path, lock: Path) -> bool:
    """Whether the environment is there and of this lock file."""
    stamp = folder / MADE
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == hash_lock(lock)


def is_made(name: str) -> bool:
    """As `is_made_from`, by the rival's name."""
    return is_made_from(ENVIRONMENTS / name, LOCKS / f"{name}.lock")


def read_failure(name: str) -> str:
    """Why the environment is not there, in one line; "" where it is or was never tried."""
    path = ENVIRONMENTS / name / FAILED
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def make_environment(name: str, python: str, torch_arguments: Sequence[str]) -> str:
    """Makes the environment anew. Blocks for minutes; returns "" or why it failed, which is noted beside it."""
    folder, lock = ENVIRONMENTS / name, LOCKS / f"{name}.lock"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    steps = (
        ("its environment", [python, "-m", "venv", str(folder)]),
        ("torch", [*pip, *torch_arguments, TORCH]),
        ("its libraries", [*pip, "--no-deps", "-r", str(lock)]),
    )
    return install(folder, lock, steps)


def install(folder: Path, lock: Path, steps: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Makes the environment in `folder` anew by `steps`: what each makes, and how. See `make_environment`."""
    name = folder.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    for number, (what, command) in enumerate(steps, start=1):
        show_progress_note(f"{name}: {what} ({number} of {len(steps)})")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = (lines or done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
            folder.mkdir(exist_ok=True)
            (folder / FAILED).write_text(f"{what} cannot be installed: {reason}\n", encoding="utf-8")
            return reason
    (folder / MADE).write_text(hash_lock(lock), encoding="utf-8")
    return ""


def work(given: argparse.Namespace, _words: list[str]) -> None:
    """Goes on also where a rival cannot be installed: the benchmark reports it. Raises InvalidInputError."""
    if unknown := set(given.names) - set(list_rivals()):
        raise InvalidInputError(f"no rival named {min(unknown)!r}; one of {', '.join(list_rivals())}")
    for name in given.names or list_rivals():
        if is_made(name) and not given.force:
            continue
        started = time.monotonic()
        reason = make_environment(name, given.python, given.torch_args.split())
        state = f"failed: {reason}" if reason else "ready"
        show_progress_note(f"{name}: {state}, {time.monotonic() - started:.0f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(list_rivals())}; default: all")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environments")
    parser.add_argument("--torch-args", default="", help="extra words for pip when it installs torch")
    parser.add_argument("--force", action="store_true", help="make them anew")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
