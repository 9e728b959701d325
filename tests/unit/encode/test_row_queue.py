import threading
import time

import numpy as np
import pytest

from fakes.encoders import SumSession, word_tokenizer
from trireme.encode.batching import RunCost
from trireme.encode.row_queue import Pending, RowQueue
from trireme.errors import UnavailableError
from trireme.observe.work import Waiting
from trireme.types import BatchStats

TEXTS = ["a", "a b c d e f", "b c", "j", "d e f"]


class Gate(SumSession):
    """Holds every run until the test lets it go on; says how many are in a run."""

    def __init__(self, streams=1, **changes):
        super().__init__(**changes)
        self.streams = streams
        self.opened = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        # Tokens of the longest row of each run that goes on.
        self.waiting = []

    def run(self, batch):
        self.waiting.append(int(batch.lengths.max()))
        self.entered.release()
        assert self.opened.acquire(timeout=60)
        self.waiting.remove(int(batch.lengths.max()))
        return super().run(batch)


def rows_of(*texts):
    return word_tokenizer().encode_texts(list(texts))


def sums(outputs):
    return outputs[:, 0].tolist()


def expected(*texts):
    return [sum(row.ids) for row in rows_of(*texts)]


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_outputs_come_in_the_order_of_the_rows_with_any_number_of_streams(streams):
    session = SumSession()
    session.streams = streams
    queue = RowQueue(session, max_batch_tokens=8)
    outputs = queue.submit(rows_of(*TEXTS)).result(60)
    queue.close()
    assert sums(outputs) == expected(*TEXTS)
    assert queue.take_cost().tokens == sum(len(row.ids) for row in rows_of(*TEXTS))


def test_a_lone_request_is_shared_out_among_idle_streams():
    session = Gate(streams=2, cost=RunCost(call_tokens=1))
    queue = RowQueue(session, max_batch_tokens=10_000)
    one = queue.submit(rows_of(*["a b c d e f"] * 16))
    # Both are in a run before either has ended.
    for _ in range(2):
        assert session.entered.acquire(timeout=60)
    session.opened.release(16)
    one.result(60)
    queue.close()
    assert [rows for rows, _ in session.shapes] == [8, 8]


def test_each_row_of_a_request_wakes_a_stream_that_idles():
    session = Gate(streams=3, cost=RunCost(call_tokens=1))
    queue = RowQueue(session, max_batch_tokens=10_000)
    first = queue.submit(rows_of("a"))
    session.opened.release(1)
    first.result(60)
    assert session.entered.acquire(timeout=60)
    # Every thread has looked once and waits now.
    deadline = time.monotonic() + 60
    while len(queue._has_rows._waiters) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    queue.submit(rows_of(*["a b c d e f"] * 24))
    for _ in range(3):
        assert session.entered.acquire(timeout=60)
    session.opened.release(24)
    queue.close()


def test_rows_of_several_requests_run_together_and_each_gets_its_own():
    session = Gate()
    queue = RowQueue(session, max_batch_tokens=100)
    queue.submit(rows_of("a"))
    assert session.entered.acquire(timeout=60)
    # These three wait while the first runs.
    found = [queue.submit(rows_of(*texts)) for texts in (["a b"], ["b c", "d e"], ["f g"])]
    session.opened.release(2)
    outputs = [future.result(60) for future in found]
    queue.close()
    assert session.shapes == [(1, 3), (4, 4)]
    assert sums(outputs[1]) == expected("b c", "d e")
    assert queue.take_cost() == BatchStats(3 + 4 * 4, 0, 2)
    assert queue.take_cost() == BatchStats()


def test_the_oldest_row_is_in_the_next_micro_batch():
    session = Gate(cost=RunCost(call_tokens=1))
    queue = RowQueue(session, max_batch_tokens=16)
    queue.submit(rows_of("a"))
    assert session.entered.acquire(timeout=60)
    oldest = queue.submit(rows_of("b"))
    long = queue.submit(rows_of(*["a b c d e f"] * 6))
    session.opened.release(2)
    assert sums(oldest.result(60)) == expected("b")
    assert not long.done()
    session.opened.release(10)
    queue.close()


def test_what_the_session_raises_reaches_its_requests_alone():
    class Broken(Gate):
        def run(self, batch):
            output = super().run(batch)
            if len(batch.lengths) == 1 and batch.lengths[0] == 8:
                raise ValueError("eight")
            return output

    session = Broken(cost=RunCost(call_tokens=0))
    queue = RowQueue(session, max_batch_tokens=8)
    bad = queue.submit(rows_of("a b c d e f", "a b c d e g", "a"))
    good = queue.submit(rows_of("b"))
    session.opened.release(10)
    with pytest.raises(ValueError, match="eight"):
        bad.result(60)
    assert sums(good.result(60)) == expected("b")
    queue.close()


def test_a_request_that_fails_in_two_streams_at_once_ends_once():
    class Broken(Gate):
        def run(self, batch):
            super().run(batch)
            raise ValueError("both")

    session = Broken(streams=2, cost=RunCost(call_tokens=1))
    queue = RowQueue(session, max_batch_tokens=10_000)
    bad = queue.submit(rows_of(*["a b c d e f"] * 16))
    for _ in range(2):
        assert session.entered.acquire(timeout=60)
    session.opened.release(2)
    with pytest.raises(ValueError, match="both"):
        bad.result(60)
    # Both threads live on.
    session.opened.release(2)
    for _ in range(2):
        with pytest.raises(ValueError, match="both"):
            queue.submit(rows_of("a")).result(60)
        session.opened.release(1)
    queue.close()


def test_a_caller_waits_while_too_many_tokens_wait():
    session = Gate()
    queue = RowQueue(session, max_batch_tokens=4)
    queue.submit(rows_of("a"))
    assert session.entered.acquire(timeout=60)
    queue.submit(rows_of("a b", "c d"))
    passed = threading.Event()
    waiter = threading.Thread(target=lambda: (queue.wait_for_room(7), passed.set()))
    waiter.start()
    assert not passed.wait(0.1)
    session.opened.release()
    waiter.join(60)
    assert passed.is_set()
    session.opened.release(10)
    queue.close()


def test_finish_changes_a_micro_batch():
    queue = RowQueue(SumSession(), 100, lambda outputs: outputs * 2)
    outputs = queue.submit(rows_of("a", "b c d")).result(60)
    queue.close()
    assert sums(outputs) == [2 * total for total in expected("a", "b c d")]
    assert queue.take_cost() == BatchStats(8, 2, 1)


def test_what_is_made_of_the_outputs_is_made_by_whoever_takes_it():
    queue = RowQueue(SumSession(), 100)
    made_by = []

    def make(outputs):
        made_by.append(threading.current_thread())
        return sums(outputs)

    assert Pending(queue.submit(rows_of("a")), make).result() == expected("a")
    queue.close()
    assert made_by == [threading.current_thread()]


def test_no_rows_are_answered_at_once():
    queue = RowQueue(SumSession(), 8)
    assert len(queue.submit([]).result(0)) == 0


def test_what_waits_is_run_before_the_queue_closes_and_later_rows_are_refused():
    session = Gate()
    queue = RowQueue(session, 4)
    one = queue.submit(rows_of("a", "b"))
    session.opened.release(10)
    queue.close()
    assert sums(one.result(0)) == expected("a", "b")
    with pytest.raises(UnavailableError, match="unloaded"):
        queue.submit(rows_of("a"))


def test_many_threads_get_their_own_answers():
    session = SumSession(cost=RunCost(call_tokens=2, few_shapes=True))
    session.streams = 3
    queue = RowQueue(session, 32)
    wrong = []

    def ask(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            texts = [" ".join(rng.choice(list("abcdefghij"), rng.integers(1, 7))) for _ in range(3)]
            outputs = queue.submit(rows_of(*texts)).result(60)
            if sums(outputs) != expected(*texts):
                wrong.append(texts)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close()
    assert wrong == []


def test_what_waits_is_requests_of_which_no_row_runs_and_the_tokens_of_all_rows_that_wait():
    session = Gate(cost=RunCost(pads=False))
    queue = RowQueue(session, max_batch_tokens=4)
    first = queue.submit(rows_of("a b", "c d"))
    assert session.entered.acquire(timeout=60)
    second = queue.submit(rows_of("a"))
    # One row of the first runs, 4 tokens with the special ones; its other row and the second request wait.
    assert queue.standing() == Waiting(1, 4 + 3)
    assert queue.is_busy
    assert queue.work.totals().waits == 1
    for _ in range(3):
        session.opened.release()
    first.result(60), second.result(60)
    queue.close()
    assert (queue.standing(), queue.work.totals().waits) == (Waiting(), 2)
    assert not queue.is_busy


def test_a_failed_request_waits_no_longer():
    class Failing(SumSession):
        def run(self, batch):
            raise ValueError("no memory")

    queue = RowQueue(Failing(cost=RunCost(pads=False)), max_batch_tokens=4)
    with pytest.raises(ValueError, match="no memory"):
        queue.submit(rows_of("a b", "c d", "e f")).result(60)
    queue.close()
    assert (queue.standing(), queue.rate.value) == (Waiting(), 0.0)


def test_only_runs_that_left_rows_waiting_make_the_rate(monkeypatch):
    told = []
    session = Gate(cost=RunCost(pads=False))
    queue = RowQueue(session, max_batch_tokens=8)
    monkeypatch.setattr(queue.rate, "add", lambda cost, seconds: told.append(cost))
    alone = queue.submit(rows_of("a"))
    session.opened.release()
    alone.result(60)
    # One in a run; then two of four tokens, which fill a micro-batch, and one more.
    futures = [queue.submit(rows_of("a"))]
    assert session.entered.acquire(timeout=60)
    assert session.entered.acquire(timeout=60)
    futures += [queue.submit(rows_of("a b")) for _ in range(3)]
    for _ in range(3):
        session.opened.release()
    for future in futures:
        future.result(60)
    queue.close()
    assert told == [8]


class GateOfLengths(Gate):
    """Lets runs go on by the tokens of their longest row."""

    def __init__(self, **changes):
        super().__init__(**changes)
        self.gates = {3: threading.Semaphore(0), 8: threading.Semaphore(0)}

    def run(self, batch):
        length = int(batch.lengths.max())
        self.waiting.append(length)
        self.entered.release()
        assert self.gates[length].acquire(timeout=60)
        self.waiting.remove(length)
        return SumSession.run(self, batch)


def test_of_rows_that_fill_memory_one_runs_at_a_time_and_short_ones_run_beside_it():
    session = GateOfLengths(streams=2, cost=RunCost(call_tokens=1, keeps_attention=True))
    # Rows of eight tokens are above a stream's share of 100 pairs, those of three are not.
    queue = RowQueue(session, max_batch_tokens=8, max_attention=100)
    long = queue.submit(rows_of("a b c d e f", "a b c d e f", "a b c d e f"))
    assert session.entered.acquire(timeout=60)
    short = queue.submit(rows_of("a"))
    assert session.entered.acquire(timeout=60)
    assert sorted(session.waiting) == [3, 8]
    session.gates[3].release()
    assert sums(short.result(60)) == expected("a")
    # A stream idles, and leaves the two long rows that wait alone.
    assert not session.entered.acquire(timeout=0.2)
    session.gates[8].release(3)
    assert sums(long.result(60)) == expected("a b c d e f") * 3
    queue.close()
