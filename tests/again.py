"""Runs passes of pytest; what failed in one runs once more, alone: python tests/again.py PASS [-- PASS]...

A PASS is arguments of pytest. A test that fails twice fails the run. One that passes the second time shows noise of
the machine, or a race: it is named at the end, so that somebody mends it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

FAILED = 1
# A pass that ends at its first failure ends with 1 as well: what it left out would pass for good.
WHOLE = ("--maxfail=0",)
# How pytest-xdist names the failure of a test that took its worker along.
CRASH = "crashed while running"
SECOND = ("--last-failed", "--last-failed-no-failures", "none")


def split_passes(words):
    """The arguments of each pass; `--` stands between two."""
    passes = [[]]
    for word in words:
        if word == "--":
            passes.append([])
        else:
            passes[-1].append(word)
    return passes


def failed_of(cache):
    """The tests that failed, by what pytest has written into its cache."""
    file = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(file.read_text())) if file.is_file() else []


def is_all(failed, report):
    """Whether `failed` is all that failed in the pass of this JUnit report.

    Where a worker crashes pytest-xdist runs its test once more, which may pass, and ends the pass early after many.
    """
    cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 - pytest has written it
    bad = [case for case in cases if is_bad(case)]
    names = {(case.get("classname"), case.get("name")) for case in bad}
    messages = [error.get("message") or "" for case in bad for error in case.iter("error")]
    return len(names) <= len(failed) and not any(CRASH in message for message in messages)


def is_bad(case):
    """Whether a test of a JUnit report has failed, or what it stands on."""
    return case.find("failure") is not None or case.find("error") is not None


def has_skipped(report):
    """Whether a test of this JUnit report was skipped: it did not pass."""
    suites = ElementTree.parse(report).iter("testsuite")  # noqa: S314 - pytest has written it
    return any(suite.get("skipped") != "0" for suite in suites)


def run_pass(arguments, folder):
    """Exit code of a pass and what passed only the second time. `folder` is empty, for pytest's cache."""
    pytest = [sys.executable, "-m", "pytest", "-o", f"cache_dir={folder / 'cache'}"]
    report = folder / "first.xml"
    code = subprocess.run([*pytest, *arguments, *WHOLE, f"--junitxml={report}"]).returncode
    failed = failed_of(folder / "cache")
    # Any other code is of pytest or of who stopped it: no test can be blamed.
    if code != FAILED or not failed:
        return code, []
    if not is_all(failed, report):
        print("a worker crashed, or a test failed and passed then in one pass: nothing is run once more")
        return FAILED, []
    print(f"{len(failed)} failed; each runs once more, alone:", *failed, sep="\n  ", flush=True)
    report = folder / "second.xml"
    code = subprocess.run([*pytest, *SECOND, f"--junitxml={report}"]).returncode
    if code not in (0, FAILED):
        return code, []
    if has_skipped(report):
        print("a test that had failed was skipped the second time: it did not pass")
        return FAILED, []
    twice = set(failed_of(folder / "cache"))
    if code == 0 and twice:
        print("not found the second time, so they did not pass:", *sorted(twice), sep="\n  ")
        code = FAILED
    return code, [name for name in failed if name not in twice]


def main(words):
    """Every pass, unless pytest itself failed in one before; returns the first exit code that is not 0."""
    codes, flaky = [], []
    for arguments in split_passes(words):
        with tempfile.TemporaryDirectory() as folder:
            code, names = run_pass(arguments, Path(folder))
        codes.append(code)
        flaky += names
        if code not in (0, FAILED):
            break
    for name in flaky:
        print(f"flaky: {name}")
    return next((code for code in codes if code != 0), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
