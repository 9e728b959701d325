import io
import random

import numpy as np
import pytest

from benchmarks.generation.clients import Run
from benchmarks.scaling import measure
from benchmarks.scaling.measure import Job, put, read_warm_up, write_text
from benchmarks.scaling.service import Point, Service
from trireme.errors import InvalidInputError, UnavailableError

JOB = Job("host:1", "embedding", (1, 3), 20, 0, 0.05, 1)


class Encoder:
    """Answers each text with as many tokens as it has words."""

    texts: list = []

    def __init__(self, url):
        self.url = url

    def infer(self, model, inputs):
        texts = [row[0] for row in inputs["text"]]
        Encoder.texts += texts
        return {"token_count": np.array([[len(text.split())] for text in texts])}

    def close(self):
        pass


class Streams:
    """Writes 10 tokens a second for one stream, 40 for all of more."""

    def __init__(self, url, model):
        pass

    def run(self, texts, tokens):
        rate = 10.0 if len(texts) == 1 else 40.0
        return Run(len(texts) * tokens, len(texts) * tokens / rate, 0.25)

    def close(self):
        pass


def test_the_curve_of_an_encoder_is_tokens_by_requests_in_flight(monkeypatch):
    monkeypatch.setattr(measure, "TritonClient", Encoder)
    found = measure.measure(JOB, "mine", 12.0, 3, "here")
    assert [point.in_flight for point in found.points] == [1, 3]
    assert (found.inputs, found.outputs, found.places, found.warm_up_s) == (20, 0, 3, 12.0)
    # No text twice: a cache would answer.
    assert len(set(Encoder.texts)) == len(Encoder.texts) > 6


def test_the_curve_of_an_llm_is_tokens_by_streams_and_how_fast_it_reads(monkeypatch):
    monkeypatch.setattr(measure, "ServedModel", Streams)
    found = measure.measure(Job("host:1", "llm", (1, 4), 100, 50, 1.0, 1), "mine", 60.0, 4, "here")
    assert found.points == (Point(1, 10.0), Point(4, 40.0))
    assert found.read_per_s == 400.0


PAGE = '# TYPE trireme_warmup_seconds gauge\ntrireme_warmup_seconds{model="llm"} 41.5\n'


def test_the_warm_up_is_what_the_server_says(monkeypatch):
    monkeypatch.setattr(measure, "urlopen", lambda url, timeout: io.BytesIO(PAGE.encode()))
    assert read_warm_up("http://host/metrics", "llm") == 41.5
    assert read_warm_up("http://host/metrics", "embedding") is None


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
        read_warm_up("http://127.0.0.1:9/metrics", "llm")


def test_a_card_without_that_kind_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="bf16"):
        measure.read_one_card(tmp_path / "none.json", "bf16")


def test_a_curve_takes_the_place_of_the_one_of_its_name():
    first = Service("a", (Point(1, 1.0),), 1, 1, 0, 0.0, 0, 1.0, "then")
    again = Service("a", (Point(1, 2.0),), 1, 1, 0, 0.0, 0, 1.0, "now")
    other = Service("b", (Point(1, 2.0),), 1, 1, 0, 0.0, 0, 1.0, "now")
    assert put(put((), first), other) == (first, other)
    assert put((first, other), again) == (again, other)


def test_texts_have_their_number_of_words():
    assert len(write_text(random.Random(1), 7).split()) == 7


@pytest.mark.parametrize(
    ("ran", "waited", "own", "busy", "stretch"),
    [
        (10.0, 0.0, 2.0, 20.0, 1.0),  # it never waited, whatever others did
        (10.0, 5.0, 2.0, 24.0, 1.5),  # others took as much time as it lacked
        (10.0, 30.0, 2.0, 18.0, 1.5),  # its own threads waited for each other: alone they would have, too
        (10.0, 30.0, 0.0, 10.0, 1.0),  # nobody else was there
        (0.0, 0.0, 2.0, 20.0, 1.0),  # it is elsewhere
    ],
)
def test_a_server_would_be_faster_alone_by_what_it_waited_and_at_most_by_what_others_took(
    ran, waited, own, busy, stretch
):
    assert measure.compute_stretch(ran, waited, own, busy) == pytest.approx(stretch)


def test_only_of_a_server_on_this_machine_the_processors_say_something():
    assert measure.read_port("127.0.0.1:8001") == 8001
    assert measure.read_port("gpu-host:8001") == 0
