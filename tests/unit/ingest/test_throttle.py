"""How fast the worker goes, on a clock that the test moves."""

import threading
import time

import pytest

from trireme.ingest.throttle import DEFAULT_LIMITS, Throttle, ThrottleLimits

LEAST_TOKENS, MOST_TOKENS = DEFAULT_LIMITS.least_tokens, DEFAULT_LIMITS.most_tokens
BUSY_SHARE, QUIET_SECONDS = DEFAULT_LIMITS.busy_share, DEFAULT_LIMITS.quiet_seconds


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


class Traffic:
    """Interactive requests at these times."""

    def __init__(self, clock, *times):
        self.clock, self.times, self.looks = clock, times, 0
        self.running = False

    def __call__(self):
        self.looks += 1
        return sum(1 for time in self.times if time <= self.clock.now), self.running


@pytest.fixture
def clock():
    return Clock()


def send(throttle, clock, seconds, tokens=LEAST_TOKENS):
    """One request; returns how long it waited for its turn."""
    began = clock.now
    with throttle.turn():
        waited = clock.now - began
        clock.now += seconds
        throttle.record(tokens, seconds)
    return waited


def test_requests_grow_to_what_the_server_does_in_a_moment(clock):
    throttle = Throttle(lambda: (0, False), clock, clock.wait)
    assert throttle.budget() == LEAST_TOKENS
    for _ in range(50):
        tokens = throttle.budget()
        assert send(throttle, clock, tokens / 100_000, tokens) == 0
    assert throttle.budget() == pytest.approx(100_000 * DEFAULT_LIMITS.request_seconds, rel=0.01)
    for _ in range(50):
        send(throttle, clock, 0.001, MOST_TOKENS)
    assert throttle.budget() == MOST_TOKENS
    for _ in range(50):
        send(throttle, clock, 1.0, LEAST_TOKENS)
    assert throttle.budget() == LEAST_TOKENS


@pytest.mark.parametrize("share", [BUSY_SHARE, 0.25])
def test_while_others_use_the_server_it_has_a_small_share_of_its_time(clock, share):
    traffic = Traffic(clock, *(100 + n * 0.5 for n in range(200)))
    throttle = Throttle(traffic, clock, clock.wait, ThrottleLimits(busy_share=share))
    for _ in range(20):
        send(throttle, clock, 0.05)
    began, busy = clock.now, 0.0
    for _ in range(20):
        send(throttle, clock, 0.05)
        busy += 0.05
    assert throttle.is_busy
    assert busy / (clock.now - began) == pytest.approx(share, rel=0.1)
    assert throttle.paused_seconds > 0
    assert throttle.budget() == LEAST_TOKENS


def test_it_goes_on_soon_after_the_last_of_them(clock):
    throttle = Throttle(Traffic(clock, 101), clock, clock.wait)
    while clock.now < 102:
        send(throttle, clock, 0.05)
    while clock.now < 102 + QUIET_SECONDS:
        send(throttle, clock, 0.05)
    assert not throttle.is_busy
    assert send(throttle, clock, 0.05) == 0


def test_a_long_pause_ends_when_the_others_are_gone(clock):
    throttle = Throttle(Traffic(clock, 101), clock, clock.wait)
    send(throttle, clock, 1.5)
    assert send(throttle, clock, 10.0) < QUIET_SECONDS + 1
    # A request of ten seconds would be followed by four minutes of rest.
    assert send(throttle, clock, 0.05) < QUIET_SECONDS + 1


def test_a_server_that_cannot_be_asked_is_taken_for_quiet(clock):
    throttle = Throttle(lambda: None, clock, clock.wait)
    for _ in range(10):
        assert send(throttle, clock, 0.05) == 0


def test_a_count_that_starts_over_is_no_request(clock):
    counts = iter([50, 50, 0, 0, 0, 0])
    throttle = Throttle(lambda: (next(counts), False), clock, clock.wait)
    for _ in range(5):
        assert send(throttle, clock, 0.3) == 0


def test_an_answer_that_is_being_written_counts_as_use(clock):
    traffic = Traffic(clock)
    throttle = Throttle(traffic, clock, clock.wait)
    send(throttle, clock, 0.3)
    traffic.running = True
    send(throttle, clock, 0.3)
    assert throttle.is_busy


def test_the_server_is_asked_five_times_a_second_at_most(clock):
    traffic = Traffic(clock)
    throttle = Throttle(traffic, clock, clock.wait)
    for _ in range(100):
        send(throttle, clock, 0.01)
    assert traffic.looks <= 6


class Meeting:
    """Two threads that each take a turn; `most` counts those that had one at once."""

    def __init__(self, throttle):
        self.throttle = throttle
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def hold(self, seconds):
        """Takes one turn for so long, or until both threads have one."""
        with self.throttle.turn():
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            deadline = time.monotonic() + seconds
            while self.most < 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            with self.lock:
                self.inside -= 1

    def run(self, seconds):
        threads = [threading.Thread(target=self.hold, args=(seconds,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.most


def test_only_one_request_is_under_way_while_others_use_the_server(clock):
    assert Meeting(Throttle(lambda: (0, True), clock, clock.wait)).run(seconds=0.1) == 1


def test_several_requests_are_under_way_while_nobody_else_uses_the_server(clock):
    assert Meeting(Throttle(lambda: (0, False), clock, clock.wait)).run(seconds=60) == 2
