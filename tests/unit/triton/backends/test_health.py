"""What is told to the counters, and when."""

from trireme.triton.backends.health import UsageMeter
from trireme.types import BatchStats


class Counter:
    """Adds up, and counts the calls."""

    def __init__(self):
        self.value = 0.0
        self.calls = 0

    def increment(self, value):
        self.value += value
        self.calls += 1


class Metrics:
    """Counters by name."""

    def __init__(self):
        self.made = {}

    def make(self, metric, **labels):
        return self.made.setdefault(
            metric.name.removeprefix("trireme_encoder_").removesuffix("_total"), Counter()
        )


class Runs:
    """What a queue has run since it was asked."""

    def __init__(self):
        self.cost = BatchStats()

    def take(self):
        cost, self.cost = self.cost, BatchStats()
        return cost


def make_meter():
    metrics, runs = Metrics(), Runs()
    return UsageMeter(metrics, runs.take), metrics.made, runs


def test_many_micro_batches_are_told_together():
    meter, counters, runs = make_meter()
    for _ in range(100):
        runs.cost += BatchStats(10, 2, 1)
        meter.add_request(0.01)
    meter.flush()
    assert [counters[name].value for name in ("tokens", "pad_tokens", "micro_batches")] == [1000, 200, 100]
    assert counters["tokens"].calls < 10


def test_the_seconds_of_requests_are_told_with_the_next_flush():
    meter, counters, _ = make_meter()
    meter.flush()
    meter.add_request(0.25)
    meter.add_request(0.5)
    assert counters["request_seconds"].calls == 0
    meter.flush()
    meter.flush()
    assert (counters["request_seconds"].value, counters["request_seconds"].calls) == (0.75, 1)
    assert counters["tokens"].calls == 0
