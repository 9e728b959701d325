import os
import subprocess
import sys

from trireme.observe.process_use import read_use

# Holds 64 MiB until its input ends.
HOLDER = "import sys; held = bytearray(64 << 20); print('held', flush=True); sys.stdin.read()"
BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def run(code):
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_memory_of_a_child_is_its_parents_too():
    before = read_use(os.getpid())
    with run(HOLDER) as child:
        assert child.stdout.readline() == "held\n"
        own, both = read_use(child.pid), read_use(os.getpid())
        child.stdin.close()
    assert own.memory_bytes > 64 << 20
    # Of pages that other tests give back meanwhile there are fewer.
    assert both.memory_bytes > before.memory_bytes + (48 << 20)


def test_processor_time_is_counted_in_seconds():
    with run(BUSY + HOLDER) as child:
        assert child.stdout.readline() == "held\n"
        seconds = read_use(child.pid).cpu_seconds
        child.stdin.close()
    assert seconds >= 0.25


def test_of_a_process_that_is_gone_nobody_knows():
    with run("") as child:
        child.communicate()
    assert read_use(child.pid) is None


def test_a_name_with_brackets_and_spaces_hides_no_figure(tmp_path):
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "statm").write_text("100 3 1 1 0 1 0")
    fields = ["S", *map(str, range(4, 52))]
    fields[11], fields[12] = "200", "300"
    (folder / "stat").write_text(f"7 (a) b (c) {' '.join(fields)}")
    use = read_use(7, tmp_path)
    assert use.memory_bytes == 3 * os.sysconf("SC_PAGE_SIZE")
    assert use.cpu_seconds == 500 / os.sysconf("SC_CLK_TCK")
