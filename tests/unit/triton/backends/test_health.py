"""What is told to the counters, and when."""

from trireme.triton.backends.health import UsageCounters, UsageMeter
from trireme.types import BatchStats


class Counter:
    """Adds up, and counts the calls."""

    def __init__(self):
        self.value = 0.0
        self.calls = 0

    def increment(self, value):
        self.value += value
        self.calls += 1


def make_meter():
    counters = UsageCounters(*(Counter() for _ in range(4)))
    return UsageMeter(counters), counters


def test_many_micro_batches_are_told_together():
    meter, counters = make_meter()
    for _ in range(100):
        meter.add(BatchStats(10, 2, 1))
    meter.flush()
    assert (counters.tokens.value, counters.pad_tokens.value, counters.micro_batches.value) == (
        1000,
        200,
        100,
    )
    assert counters.tokens.calls < 10


def test_the_seconds_of_requests_are_told_with_the_next_flush():
    meter, counters = make_meter()
    meter.add_request(0.25)
    meter.add_request(0.5)
    assert counters.request_seconds.calls == 0
    meter.flush()
    meter.flush()
    assert (counters.request_seconds.value, counters.request_seconds.calls) == (0.75, 1)
    assert counters.tokens.calls == 0
