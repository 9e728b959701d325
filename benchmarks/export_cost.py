"""What build/export_llm.py --target cpu takes for a large shape: measured with few layers, drawn out to all.

Every decoder layer is alike, so time, memory and size are a straight line in their number. Two points give it; a
third, between them, shows how straight it is. Checkpoints are random (random_llm.py) and go away.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from random_llm import SHAPES
from report import DOCS, PROJECT, RESULTS, format_table, read_circumstances, show_progress_note

from trireme.errors import TriremeError, UnavailableError

MARKS = ("<!-- begin: benchmarks/export_cost.py -->", "<!-- end -->")
SEED = 1
HEADER = ("layers", "checkpoint, GB", "exported, GB", "time, s", "own memory, GB", "with mapped files, GB")
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
        _run([str(PROJECT / "benchmarks" / "random_llm.py"), *shape, "--quantization", options.quantization])
        show_progress_note(f"exporting {layers} layers")
        command = [str(PROJECT / "build" / "export_llm.py"), str(source), "--name", "big", "--target", "cpu"]
        # Random weights rank random tokens: the gate has nothing to say here.
        gate = ["--max-logit-error", "1000", "--min-top1-agreement", "0"]
        started = time.perf_counter()
        memory = _run([*command, "--max-model-len", "2048", "--repository", str(repository), *gate])
        seconds = time.perf_counter() - started
        return Point(layers, _gb(source), _gb(repository / "big" / "1"), seconds, *memory)


def _run(command: list[str]) -> tuple[float, float]:
    """The most memory of the script in GB: its own, and all that was resident."""
    own = resident = 0.0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=errors)
        pid = 0
        while not pid:
            time.sleep(PERIOD_SECONDS)
            # Not what wait4 says: that begins with the memory of the process which forked.
            own, resident = (
                max(own, _gb_of(process.pid, "RssAnon")),
                max(resident, _gb_of(process.pid, "VmHWM")),
            )
            pid, status = os.waitpid(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise UnavailableError(errors.read().decode(errors="replace").strip()[-500:])
    return own, resident


def _gb_of(pid: int, line: str) -> float:
    """A line of /proc/PID/status; 0 for a process that has ended."""
    found = re.search(rf"^{line}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e9 if found else 0.0


def _gb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e9


def extrapolate(points: list[Point], layers: int) -> Point:
    """The straight line through the first and the last point, at `layers`."""
    first, last = points[0], points[-1]
    share = (layers - first.layers) / (last.layers - first.layers)

    def at(name: str) -> float:
        low, high = getattr(first, name), getattr(last, name)
        value: float = low + (high - low) * share
        return value

    return Point(
        layers, *(at(name) for name in ("source_gb", "exported_gb", "seconds", "own_gb", "resident_gb"))
    )


def format_section(record: dict[str, object], points: list[Point], drawn: Point) -> str:
    rows = [
        (
            f"{point.layers}{' (drawn out)' if point is drawn else ''}",
            f"{point.source_gb:.2f}",
            f"{point.exported_gb:.2f}",
            f"{point.seconds:.0f}",
            f"{point.own_gb:.1f}",
            f"{point.resident_gb:.1f}",
        )
        for point in [*points, drawn]
    ]
    return (
        f"Shape `{record['shape']}`, {record['vocabulary']:,} tokens in the vocabulary, quantization"
        f" {record['quantization']}; {record['cpu']}, {record['cores']} cores; {record['date']}:\n\n"
        f"{format_table(HEADER, rows)}"
    )


def write_page(sections: dict[str, str]) -> None:
    """The sections between the marks of docs/generation.md."""
    page = DOCS / "generation.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    end, after = rest.partition(MARKS[1])[1:]
    if not begin or not end:
        raise UnavailableError(f"{page} has no lines {MARKS[0]} and {MARKS[1]}")
    text = "\n\n".join(sections.values())
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def main() -> int:
    options = parse_arguments()
    path = RESULTS / "export-cost.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    try:
        seen = read_circumstances(__file__, sys.argv[1:], SEED)
        points = [measure(options, layers) for layers in sorted(options.layers)]
        drawn = extrapolate(points, SHAPES[options.shape]["num_hidden_layers"])
        record = {
            "shape": options.shape,
            "vocabulary": options.vocabulary,
            "quantization": options.quantization,
        }
        kept[re.sub(r"\W", "-", f"{options.shape} {options.quantization}")] = {
            **record,
            **asdict(seen),
            "points": [asdict(point) for point in points],
            "drawn_out": asdict(drawn),
        }
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        write_page({name: _section_of(entry) for name, entry in kept.items()})
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_section(kept[next(reversed(kept))], points, drawn))
    return 0


def _section_of(entry: dict[str, object]) -> str:
    points: list[Point] = [Point(**point) for point in entry["points"]]  # type: ignore[attr-defined]
    return format_section(entry, points, Point(**entry["drawn_out"]))  # type: ignore[arg-type]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[1, 2, 4], help="two or more numbers of layers"
    )
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--quantization", choices=("none", "awq"), default="none")
    parser.add_argument("--scratch", type=Path, help="a folder with room for checkpoint and export")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
