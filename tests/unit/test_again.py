"""What failed runs once more: what passes then is named, what fails twice fails the run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from again import split_passes

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "again.py"
# Each test writes a line whenever it runs. `once` fails the first time, `twice` always; `skips` fails, then skips.
TESTS = """
from pathlib import Path
import pytest

def count(name):
    with (Path(__file__).parent / name).open("a") as file:
        file.write("run\\n")
    return len((Path(__file__).parent / name).read_text().splitlines())

def test_good():
    count("good")

@pytest.mark.parametrize("way", ["a b", "c"])
def test_once(way):
    assert count("once " + way) > 1 or way == "c"

@pytest.fixture
def ground():
    assert count("ground") > 1

def test_on_ground(ground):
    pass

@pytest.mark.bad
def test_twice():
    count("twice")
    raise AssertionError

@pytest.mark.skips
def test_skips():
    assert count("skips") > 1
    pytest.skip("not today")

@pytest.mark.alone
def test_alone():
    assert count("alone") > 1
"""
# It is there only once, as one is whose name has a number of its process in it.
PASSING = """
from pathlib import Path

def test_passes():
    pass

def test_is_found_again():
    assert (Path(__file__).parent / "seen").exists()

if not (Path(__file__).parent / "seen").exists():
    def test_gone():
        (Path(__file__).parent / "seen").touch()
        assert False
"""
# pytest-xdist runs a test once more whose worker has crashed, and after some crashes runs nothing more.
CRASHES = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(6))
def test_crashes_once(number):
    file = Path(__file__).parent / f"crashed{number}"
    if not file.exists():
        file.touch()
        os._exit(9)

def test_once():
    file = Path(__file__).parent / "once"
    if not file.exists():
        file.touch()
        raise AssertionError

def test_fails():
    raise AssertionError
"""
CONFIG = "[pytest]\nmarkers = bad\n skips\n alone\n"
SHARED = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


@pytest.fixture
def run(tmp_path):
    """run(*words) -> exit code, the flaky names in their order, and how often a test ran."""
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(CONFIG)

    def run(*words):
        # Not a worker of the run that this test is in.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        # A session closes its folder of folders to other accounts; in this run's, databases live of another one.
        (tmp_path / "root").mkdir(exist_ok=True)
        environ["PYTEST_DEBUG_TEMPROOT"] = str(tmp_path / "root")
        done = subprocess.run(
            [sys.executable, SCRIPT, *words], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        lines = done.stdout.splitlines()
        flaky = [line.removeprefix("flaky: ") for line in lines if line.startswith("flaky: ")]
        # Nothing of pytest's is printed below them.
        assert lines[len(lines) - len(flaky) :] == [f"flaky: {name}" for name in flaky]
        return done.returncode, flaky

    run.times = lambda name: len((tmp_path / name).read_text().splitlines())
    return run


ONCE = ["test_some.py::test_on_ground", "test_some.py::test_once[a b]"]


@pytest.mark.parametrize("way", [[], SHARED], ids=["one process", "several"])
def test_what_passes_the_second_time_is_named_and_the_run_passes(run, way):
    assert run(*way, "-m", "not bad and not skips and not alone") == (0, ONCE)
    assert run.times("once a b") == 2
    assert run.times("once c") == run.times("good") == 1


def test_what_fails_twice_fails_the_run_and_is_not_named(run):
    assert run("-m", "not skips and not alone") == (1, ONCE)
    assert run.times("twice") == 2


def test_what_is_skipped_the_second_time_did_not_pass(run):
    code, flaky = run("-m", "skips")
    assert code == 1
    assert flaky == []


@pytest.mark.parametrize("among", ["test_gone", "test_gone or test_is_found_again"])
def test_what_is_not_found_the_second_time_did_not_pass(run, tmp_path, among):
    (tmp_path / "test_some.py").write_text(PASSING)
    flaky = ["test_some.py::test_is_found_again"] if "found" in among else []
    assert run("-k", among) == (1, flaky)


def test_a_pass_does_not_end_at_a_failure_with_others_left_out(run):
    assert run("-x", "-k", "once or twice")[0] == 1
    assert run.times("twice") == 2


@pytest.mark.parametrize(
    "among",
    ["once and not crashes or 0", "crashes or fails"],
    ids=["one beside a failure", "many before one"],
)
def test_a_crash_of_a_worker_fails_the_run(run, tmp_path, among):
    (tmp_path / "test_some.py").write_text(CRASHES)
    assert run("-n", "1", "--dist", "loadfile", "-k", among) == (1, [])


def test_every_pass_runs_and_the_names_of_all_come_at_the_end(run):
    first = [*SHARED, "-m", "not skips and not alone"]
    assert run(*first, "--", "-m", "alone") == (1, [*ONCE, "test_some.py::test_alone"])


@pytest.mark.parametrize(
    ("words", "code"), [(["--no-such-option"], 4), (["-m", "alone and bad"], 5)], ids=["usage", "no tests"]
)
def test_what_is_no_failure_of_a_test_gets_no_second_run_and_ends_all(run, words, code):
    assert run(*words, "--", "-m", "skips") == (code, [])
    with pytest.raises(FileNotFoundError):
        run.times("skips")


def test_passes_are_split_at_the_dashes():
    assert split_passes(["-n", "2", "--", "-m", "alone"]) == [["-n", "2"], ["-m", "alone"]]
    assert split_passes([]) == [[]]


def test_make_gives_the_second_chance_only_where_it_is_asked_for_and_runs_the_same_passes():
    def runs(*words):
        """The words after python of each command that runs tests."""
        # This run may be a make's own, with AGAIN=1 and TEST_ARGS.
        ours = ("AGAIN", "TEST_ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS")
        environ = {name: value for name, value in os.environ.items() if name not in ours}
        told = subprocess.run(
            ["make", "-n", "-s", "test", *words],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [shlex.split(line) for line in told.stdout.splitlines()]
        return [
            line[1:] for line in lines if line[1:2] == ["tests/again.py"] or line[1:3] == ["-m", "pytest"]
        ]

    plain, (again,) = runs(), runs("AGAIN=1")
    assert again[0] == "tests/again.py"
    assert [["-m", "pytest", *one] for one in split_passes(again[1:])] == plain
    assert [one[one.index("-m", 2) + 1] for one in plain] == ["not alone", "alone"]
    # What runs alone is looked for in the files that have it, all of them.
    files = (ROOT / "tests").rglob("test_*.py")
    marked = {str(file.relative_to(ROOT)) for file in files if "mark.alone" in file.read_text()}
    assert set(plain[1][plain[1].index("alone") + 1 :]) == marked
    # What make check has run is left out, and nothing else.
    (line,) = re.findall(r"^make test .*", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert line == "make test AGAIN=1 TEST_ARGS=--ignore=tests/repository"
    assert re.search(r"pytest -q tests/repository$", (ROOT / "Makefile").read_text(), re.MULTILINE)
