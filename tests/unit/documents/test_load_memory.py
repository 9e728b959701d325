import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = """
import sys
from pathlib import Path
from trireme.documents.chunk import chunk
from trireme.documents.load import load

def read(path):
    count = 0
    for source in load(path):
        count += sum(1 for _ in (chunk(source.open()) if sys.argv[1] == "chunk" else source.open().parts))
    return count

def peak():
    # Not getrusage: it begins with what the process had that started this one.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

read(Path(sys.argv[2]))
before = peak()
print(read(Path(sys.argv[3])), peak() - before)
"""


SENTENCES = "A trireme has three banks of oars and a ram. " * 20


def measure(what: str, small: Path, large: Path) -> tuple[int, int]:
    """Parts or passages of `large`, and the megabytes by which reading it raised a process's peak."""
    command = [sys.executable, "-c", MEMORY, what, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    return count, grown


def write_twice(folder: Path, name: str, unit: str, megabytes: int) -> tuple[Path, Path]:
    """A file of about 3 MB and one of `megabytes`, made of the same text."""
    files = []
    for size in (3, megabytes):
        file = folder / str(size) / name
        file.parent.mkdir()
        with file.open("w") as opened:
            for _ in range(size):
                opened.write(unit * (1_000_000 // len(unit)))
        files.append(file)
    return files[0], files[1]


@pytest.mark.parametrize(
    ("name", "unit", "megabytes"),
    [
        ("a.txt", SENTENCES + "\n\n", 200),
        ("one-line.md", SENTENCES, 200),
        ("a.html", "<div><p>" + SENTENCES, 30),
    ],
)
def test_a_large_file_is_read_in_the_memory_of_a_small_one(tmp_path, name, unit, megabytes):
    small, large = write_twice(tmp_path, name, unit, megabytes)
    assert large.stat().st_size > 0.9 * megabytes * 1_000_000
    parts, grown = measure("read", small, large)
    assert parts >= megabytes // 2
    assert grown < 16


@pytest.mark.parametrize("unit", [SENTENCES + "\n\n", SENTENCES, "漢字" * 500 + "。"])
def test_a_large_file_is_cut_in_the_memory_of_a_small_one(tmp_path, unit):
    passages, grown = measure("chunk", *write_twice(tmp_path, "a.txt", unit, 8))
    assert passages > 7_000
    assert grown < 16


def test_a_million_documents_of_one_line_are_read_in_constant_memory(tmp_path):
    for size, name in ((10_000, "small.jsonl"), (1_000_000, "large.jsonl")):
        with (tmp_path / name).open("w") as lines:
            for start in range(0, size, 10_000):
                lines.writelines(
                    f'{{"_id": "d{n}", "text": "line {n}"}}\n' for n in range(start, start + 10_000)
                )
    documents, grown = measure("read", tmp_path / "small.jsonl", tmp_path / "large.jsonl")
    assert documents == 1_000_000
    assert grown < 16
