"""What build/export_llm.py --target cpu takes for a large shape: measured with few layers, drawn out to all.

Every decoder layer is alike, so time, memory and size are a straight line in their number. Two points give it; a
third, between them, shows how straight it is. Checkpoints are random (generation/random_llm.py) and go away.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.processes import read_status
from benchmarks.common.report import (
    DOCS,
    PROJECT,
    RESULTS,
    read_circumstances,
    read_json,
    render,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.generation.random_llm import SHAPES
from trireme.errors import UnavailableError

SEED = 1
PERIOD_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Point:
    """One export: seconds of the whole command, sizes and the most memory in GB (1e9 bytes).

    own_gb is what the process allocated; resident_gb has pages of mapped files, too, which the kernel may drop.
    """

    layers: int
    source_gb: float
    exported_gb: float
    seconds: float
    own_gb: float
    resident_gb: float


def measure(options: argparse.Namespace, layers: int) -> Point:
    """Makes a checkpoint, exports it, deletes both. Blocks. Raises UnavailableError with a script's last words."""
    with tempfile.TemporaryDirectory(prefix="trireme-", dir=options.scratch) as folder:
        source, repository = Path(folder) / "source", Path(folder) / "models"
        repository.mkdir()
        shape = [options.shape, str(source), "--layers", str(layers), "--vocabulary", str(options.vocabulary)]
        _run(["-m", "benchmarks.generation.random_llm", *shape, "--quantization", options.quantization])
        show_progress_note(f"exporting {layers} layers")
        command = [str(PROJECT / "build" / "export_llm.py"), str(source), "--name", "big", "--target", "cpu"]
        # Random weights rank random tokens: the gate has nothing to say here.
        gate = ["--max-logit-error", "1000", "--min-top1-agreement", "0", "--max-kl", "1000"]
        started = time.perf_counter()
        memory = _run([*command, "--max-model-len", "2048", "--repository", str(repository), *gate])
        seconds = time.perf_counter() - started
        return Point(layers, _gb(source), _gb(repository / "big" / "1"), seconds, *memory)


def _run(command: list[str]) -> tuple[float, float]:
    """The most memory of the script in GB: its own, and all that was resident."""
    own = resident = 0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=errors, cwd=PROJECT
        )
        pid = 0
        while not pid:
            time.sleep(PERIOD_SECONDS)
            # Not what wait4 says: that begins with the memory of the process which forked.
            with contextlib.suppress(OSError):
                found = read_status(process.pid, "RssAnon", "VmHWM")
                own, resident = max(own, found.get("RssAnon", 0)), max(resident, found.get("VmHWM", 0))
            pid, status = os.waitpid(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise UnavailableError(errors.read().decode(errors="replace").strip()[-500:])
    return own / 1e9, resident / 1e9


def _gb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e9


def extrapolate(points: list[Point], layers: int) -> Point:
    """The straight line through the first and the last point, at `layers`."""
    first, last = asdict(points[0]), asdict(points[-1])
    share = (layers - first["layers"]) / (last["layers"] - first["layers"])
    drawn = {name: low + (last[name] - low) * share for name, low in first.items()}
    return Point(**{**drawn, "layers": layers})


def format_sections(entries: Sequence[dict[str, Any]]) -> str:
    """A table for each entry of export-cost.json."""
    return render("once/export_cost.md.j2", entries=entries)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, adds to the results and writes the section of docs/generation.md."""
    seen = read_circumstances("benchmarks.once.export_cost", words, SEED)
    points = [measure(options, layers) for layers in sorted(options.layers)]
    drawn = extrapolate(points, SHAPES[options.shape]["num_hidden_layers"])
    entry = {
        "shape": options.shape,
        "vocabulary": options.vocabulary,
        "quantization": options.quantization,
        **asdict(seen),
        "points": [asdict(point) for point in points],
        "drawn_out": asdict(drawn),
    }
    kept = read_json(RESULTS / "export-cost.json")
    kept[re.sub(r"\W", "-", f"{options.shape} {options.quantization}")] = entry
    write_json(RESULTS / "export-cost.json", kept)
    write_section(DOCS / "generation.md", "benchmarks.once.export_cost", format_sections([*kept.values()]))
    print(format_sections([entry]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    layers = "two or more numbers of layers"
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 4], help=layers)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--quantization", choices=("none", "awq"), default="none")
    parser.add_argument("--scratch", type=Path, help="a folder with room for checkpoint and export")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
