import pytest

from benchmarks.generation import clients
from benchmarks.generation.clients import Answer, DirectEngine, make_tensors, summarize
from trireme.errors import UnavailableError
from trireme.generate.engine import Chunk


class Replies:
    """An engine that gives every request two tokens in the first step and the rest in the second."""

    def __init__(self, error=None):
        self.submitted, self.error, self.is_closed = [], error, False

    def submit(self, request):
        self.submitted.append(request)

    def stream(self):
        yield [Chunk(request.request_id, (5, 6)) for request in self.submitted]
        rest = (7,) * (self.submitted[0].sampling.max_tokens - 2)
        yield [Chunk(request.request_id, rest, "length", self.error) for request in self.submitted]

    def close(self):
        self.is_closed = True


def test_a_rate_counts_the_tokens_of_all_streams_and_the_first_one_of_each(monkeypatch):
    clock = iter([10.0, 10.5, 10.5, 10.5, 12.0])
    monkeypatch.setattr(clients.time, "perf_counter", lambda: next(clock, 12.0))
    engine = Replies()
    direct = DirectEngine(engine)
    run = direct.run([(1, 2), (3,), (4,)], 64)
    assert run.tokens_per_second == 3 * 64 / 2.0
    assert run.first_token_s == 0.5
    assert [request.prompt for request in engine.submitted] == [(1, 2), (3,), (4,)]
    assert all(request.sampling.ignore_eos for request in engine.submitted)
    direct.close()
    assert engine.is_closed


def test_an_error_of_the_engine_ends_the_run():
    with pytest.raises(UnavailableError, match="no memory"):
        DirectEngine(Replies(UnavailableError("no memory"))).run([(1,)], 8)


def test_inputs_have_one_element_and_a_kind_of_their_own():
    text, flag = make_tensors({"text_input": "é", "stream": True})
    assert [(one.name(), one.shape(), one.datatype()) for one in (text, flag)] == [
        ("text_input", [1], "BYTES"),
        ("stream", [1], "BOOL"),
    ]


def test_a_run_of_streams_lasts_from_the_first_request_to_the_last_answer():
    answers = [Answer(1.0, 1.5, 4.0, 8, 16), Answer(1.2, 2.2, 5.0, 9, 16), Answer(1.1, 1.8, 3.0, 7, 16)]
    run = summarize(answers)
    assert (run.tokens, run.seconds, run.tokens_per_second) == (48, 4.0, 12.0)
    assert run.first_token_s == pytest.approx(0.7)
