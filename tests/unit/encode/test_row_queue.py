import threading

import numpy as np
import pytest

from fakes.encoders import SumSession, word_tokenizer
from trireme.encode.batching import RunCost
from trireme.encode.row_queue import RowQueue
from trireme.errors import UnavailableError
from trireme.types import BatchStats

TEXTS = ["a", "a b c d e f", "b c", "j", "d e f"]


class Gate(SumSession):
    """Holds every run until the test lets it go on; says how many are in a run."""

    def __init__(self, streams=1, **changes):
        super().__init__(**changes)
        self.streams = streams
        self.opened = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)

    def run(self, batch):
        self.entered.release()
        assert self.opened.acquire(timeout=10)
        return super().run(batch)


class Answers:
    """Collects what a queue hands over, by name."""

    def __init__(self):
        self.found = {}
        self.stats = {}
        self.arrived = threading.Semaphore(0)

    def take(self, name):
        def done(outputs, stats):
            assert name not in self.found, "a request is answered once"
            self.found[name], self.stats[name] = outputs, stats
            self.arrived.release()

        return done

    def wait(self, count):
        for _ in range(count):
            assert self.arrived.acquire(timeout=10)


def rows_of(*texts):
    return word_tokenizer().encode_texts(list(texts))


def sums(outputs):
    return outputs[:, 0].tolist()


def expected(*texts):
    return [sum(row.ids) for row in rows_of(*texts)]


@pytest.fixture
def answers():
    return Answers()


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_outputs_come_in_the_order_of_the_rows_with_any_number_of_streams(streams):
    session = SumSession()
    session.streams = streams
    queue = RowQueue(session, max_batch_tokens=8)
    outputs, stats = queue.run(rows_of(*TEXTS))
    queue.close()
    assert sums(outputs) == expected(*TEXTS)
    assert stats.tokens == sum(len(row.ids) for row in rows_of(*TEXTS))


def test_a_lone_request_is_shared_out_among_idle_streams(answers):
    session = Gate(streams=2, cost=RunCost(call_tokens=1))
    queue = RowQueue(session, max_batch_tokens=10_000)
    queue.submit(rows_of(*["a b c d e f"] * 16), answers.take("one"))
    # Both are in a run before either has ended.
    for _ in range(2):
        assert session.entered.acquire(timeout=10)
    session.opened.release(16)
    answers.wait(1)
    queue.close()
    assert [rows for rows, _ in session.shapes] == [8, 8]


def test_rows_of_several_requests_run_together_and_each_gets_its_own(answers):
    session = Gate()
    queue = RowQueue(session, max_batch_tokens=100)
    queue.submit(rows_of("a"), answers.take("first"))
    assert session.entered.acquire(timeout=10)
    # These three wait while the first runs.
    for name, texts in {"x": ["a b"], "y": ["b c", "d e"], "z": ["f g"]}.items():
        queue.submit(rows_of(*texts), answers.take(name))
    session.opened.release(2)
    answers.wait(4)
    queue.close()
    assert session.shapes == [(1, 3), (4, 4)]
    assert sums(answers.found["y"]) == expected("b c", "d e")
    assert answers.stats["z"] == BatchStats(4, 0, 1)


def test_the_oldest_row_is_in_the_next_micro_batch(answers):
    session = Gate(cost=RunCost(call_tokens=1))
    queue = RowQueue(session, max_batch_tokens=16)
    queue.submit(rows_of("a"), answers.take("running"))
    assert session.entered.acquire(timeout=10)
    queue.submit(rows_of("b"), answers.take("oldest"))
    queue.submit(rows_of(*["a b c d e f"] * 6), answers.take("long"))
    session.opened.release(2)
    answers.wait(2)
    assert set(answers.found) == {"running", "oldest"}
    session.opened.release(10)
    queue.close()


def test_what_the_session_raises_reaches_its_requests_alone(answers):
    class Broken(Gate):
        def run(self, batch):
            output = super().run(batch)
            if len(batch.lengths) == 1 and batch.lengths[0] == 8:
                raise ValueError("eight")
            return output

    session = Broken(cost=RunCost(call_tokens=0))
    queue = RowQueue(session, max_batch_tokens=8)
    queue.submit(rows_of("a b c d e f", "a b c d e g", "a"), answers.take("bad"))
    queue.submit(rows_of("b"), answers.take("good"))
    session.opened.release(10)
    answers.wait(2)
    queue.close()
    assert isinstance(answers.found["bad"], ValueError)
    assert sums(answers.found["good"]) == expected("b")


def test_run_raises_what_the_session_raises():
    class Broken(SumSession):
        streams = 2

        def run(self, batch):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        RowQueue(Broken(), 8).run(rows_of("a"))


def test_a_caller_waits_while_too_many_tokens_wait(answers):
    session = Gate()
    queue = RowQueue(session, max_batch_tokens=4)
    queue.submit(rows_of("a"), answers.take("running"))
    assert session.entered.acquire(timeout=10)
    queue.submit(rows_of("a b", "c d"), answers.take("waiting"))
    passed = threading.Event()
    waiter = threading.Thread(target=lambda: (queue.wait_for_room(7), passed.set()))
    waiter.start()
    assert not passed.wait(0.1)
    session.opened.release()
    waiter.join(10)
    assert passed.is_set()
    session.opened.release(10)
    answers.wait(2)
    queue.close()


def test_the_next_micro_batch_runs_while_an_answer_is_still_being_sent(answers):
    session = SumSession()
    queue = RowQueue(session, 4)
    sending, goes_on = threading.Event(), threading.Event()

    def send_slowly(outputs, stats):
        sending.set()
        assert goes_on.wait(10)

    queue.submit(rows_of("a"), send_slowly)
    assert sending.wait(10)
    # Its caller needs no sending, so it is answered at once.
    assert sums(queue.run(rows_of("b"))[0]) == expected("b")
    queue.submit(rows_of("c"), answers.take("later"))
    assert answers.found == {}
    goes_on.set()
    answers.wait(1)
    queue.close()
    assert sums(answers.found["later"]) == expected("c")


def test_finish_changes_a_micro_batch_and_observe_hears_its_cost(answers):
    heard = []
    queue = RowQueue(SumSession(), 100, lambda outputs: outputs * 2, heard.append)
    queue.submit(rows_of("a", "b c d"), answers.take("one"))
    answers.wait(1)
    queue.close()
    assert sums(answers.found["one"]) == [2 * total for total in expected("a", "b c d")]
    assert heard == [BatchStats(8, 2, 1)]


def test_the_prior_goes_with_its_row(answers):
    class PriorSession(SumSession):
        def run(self, batch):
            return batch.prior

    queue = RowQueue(PriorSession(inputs=("prior",)), 6)
    prior = np.array([1, 2, 3], np.float32)
    queue.submit(rows_of("a", "a b c d", "a b"), answers.take("one"), prior)
    answers.wait(1)
    queue.close()
    assert answers.found["one"].tolist() == [1, 2, 3]


def test_no_rows_are_answered_at_once(answers):
    queue = RowQueue(SumSession(), 8)
    queue.submit([], answers.take("none"))
    assert len(answers.found["none"]) == 0


def test_what_waits_is_run_before_the_queue_closes_and_later_rows_are_refused(answers):
    session = Gate()
    queue = RowQueue(session, 4)
    queue.submit(rows_of("a", "b"), answers.take("one"))
    session.opened.release(10)
    queue.close()
    assert sums(answers.found["one"]) == expected("a", "b")
    with pytest.raises(UnavailableError, match="unloaded"):
        queue.submit(rows_of("a"), answers.take("late"))


def test_an_answer_that_cannot_be_handed_over_does_not_keep_the_others(answers, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda hooked: told.append(str(hooked.exc_value)))

    def break_off(*_):
        raise OSError("nobody listens")

    queue = RowQueue(SumSession(), 100, observe=break_off)
    queue.submit(rows_of("a"), break_off)
    queue.submit(rows_of("b c"), answers.take("later"))
    answers.wait(1)
    queue.close()
    assert sums(answers.found["later"]) == expected("b c")
    assert set(told) == {"nobody listens"}


def test_many_threads_get_their_own_answers():
    session = SumSession(cost=RunCost(call_tokens=2, few_shapes=True))
    session.streams = 3
    queue = RowQueue(session, 32)
    wrong = []

    def ask(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            texts = [" ".join(rng.choice(list("abcdefghij"), rng.integers(1, 7))) for _ in range(3)]
            outputs, _ = queue.run(rows_of(*texts))
            if sums(outputs) != expected(*texts):
                wrong.append(texts)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close()
    assert wrong == []
