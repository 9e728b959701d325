import time

from benchmarks.search.stages import measure_search


class FakeChain:
    """Each search takes 4 ms, of them 3 ms in two stages."""

    def __init__(self):
        self.asked = 0

    def ask(self, query):
        self.asked += 1
        time.sleep(0.004)

    def read_times(self):
        milliseconds = 1_000_000
        return {
            "embedding": (self.asked * 2 * milliseconds, self.asked * milliseconds),
            "search__retrieve": (self.asked * milliseconds, 0),
        }


def test_the_chains_own_time_is_what_no_stage_took():
    chain = FakeChain()
    found = measure_search(chain.ask, chain.read_times, [f"q{i}" for i in range(9)], 10_000, warm_up=4)
    assert chain.asked == 9
    assert (found.requests, found.passages) == (5, 10_000)
    assert found.stages_ms == {"embedding": 2.0, "search__retrieve": 1.0}
    assert found.queue_ms == {"embedding": 1.0, "search__retrieve": 0.0}
    assert found.total_ms >= 4.0
    # A mean: between what the sleep takes at least and the slowest request.
    assert 0.9 < found.rest_ms <= found.total_p95_ms - 3.0 + 0.1


def test_an_encoder_whose_times_triton_does_not_know_counts_with_its_mean():
    chain = FakeChain()
    read = {"embedding": 0.0}

    def read_encoders():
        read["embedding"] = chain.asked * 0.0025
        return dict(read)

    found = measure_search(
        chain.ask, chain.read_times, [f"q{i}" for i in range(9)], 10, read_encoders=read_encoders, warm_up=4
    )
    assert abs(found.stages_ms["embedding"] - 2.5) < 1e-6
    assert 0.4 < found.rest_ms <= found.total_p95_ms - 3.5 + 0.1
