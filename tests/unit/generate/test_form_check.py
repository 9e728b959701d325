"""FormCheck over stand-ins for the process that tries forms."""

import queue
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trireme.errors import InvalidInputError, UnavailableError
from trireme.generate.engine import EngineRequest, Sampling, StructuredOutput
from trireme.generate.form_check import FormCheck

# As openvino_forms: says what each form holds; one of "die" ends it. Each start adds a letter to the file.
PROCESS = """
import json, os, pathlib, sys, time
starts = pathlib.Path(sys.argv[-2], "starts")
starts.open("a").write("x")
first = pathlib.Path(sys.argv[-2], "first")
print(first.read_text() if first.exists() else '{"ready": true}', flush=True)
for line in sys.stdin:
    text = json.loads(line)["text"]
    if text == "die":
        sys.exit(1)
    if text == "killed":
        os.kill(os.getpid(), 9)
    if text == "grow":
        time.sleep(600)
    print(json.dumps({"fault": "" if text == "good" else text}), flush=True)
"""


class Asked:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: queue.Queue = queue.Queue()
        command = [sys.executable, "-I", "-c", PROCESS]
        self.check = FormCheck(command, folder, 0, lambda request, error: self.answers.put((request, error)))

    def about(self, text: str) -> Exception | None:
        form = StructuredOutput("regex", text)
        request = EngineRequest(text, (1,), Sampling(1, structured=form))
        self.check.ask(request)
        said, error = self.answers.get(timeout=60)
        assert said is request
        return error

    def starts(self) -> int:
        file = self.folder / "starts"
        return len(file.read_text()) if file.exists() else 0


@pytest.fixture
def asked(tmp_path) -> Iterator[Asked]:
    made = Asked(tmp_path)
    yield made
    made.check.close()


def test_the_process_starts_with_the_first_form_and_is_asked_once_for_each(asked):
    assert asked.starts() == 0
    assert [asked.about("good") for _ in range(3)] == [None] * 3
    error = asked.about("bad")
    assert isinstance(error, InvalidInputError)
    assert str(error) == "the engine cannot hold an answer to this regex: bad"
    assert asked.starts() == 1


def test_a_form_that_ends_the_process_is_refused_and_the_next_one_is_tried_in_another(asked):
    assert "too much time or memory" in str(asked.about("die"))
    assert asked.about("good") is None
    # What is known of the first is remembered.
    assert "too much time or memory" in str(asked.about("die"))
    assert asked.starts() == 2


def test_a_process_that_somebody_kills_says_nothing_of_the_form(asked):
    for starts in (1, 2):
        error = asked.about("killed")
        assert isinstance(error, UnavailableError)
        assert ("was killed" in str(error), asked.starts()) == (True, starts)


def test_a_process_that_is_gone_before_a_form_comes_is_started_again(asked):
    assert asked.about("good") is None
    process = asked.check._process
    process.kill()
    process.wait()
    assert str(asked.about("bad")).endswith("this regex: bad")
    assert asked.starts() == 2


def test_a_form_that_takes_too_much_memory_is_refused(asked, monkeypatch):
    monkeypatch.setattr("trireme.generate.form_check.MEMORY_BYTES", 0)
    assert "too much time or memory" in str(asked.about("grow"))


def test_a_model_without_a_tokenizer_takes_no_forms(asked):
    (asked.folder / "first").write_text('{"failed": "tokenizer.json is not there"}')
    error = asked.about("good")
    assert isinstance(error, InvalidInputError)
    assert "held to no form: tokenizer.json is not there" in str(error)


def test_a_process_that_does_not_start_is_tried_again_with_the_next_form(asked):
    (asked.folder / "first").write_text("{}")
    assert isinstance(asked.about("good"), UnavailableError)
    (asked.folder / "first").unlink()
    assert asked.about("good") is None


def test_after_close_nothing_is_tried(tmp_path):
    made = Asked(tmp_path)
    made.check.close()
    made.check.close()
    assert made.starts() == 0
