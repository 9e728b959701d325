import threading

import pytest

from trireme.triton.backends.instruments import Instrument


class Fragile:
    """As Triton's metric: two calls at once are its end."""

    def __init__(self):
        self.calls = 0
        self.broke = False
        self._inside = threading.Lock()

    def _call(self, value):
        if not self._inside.acquire(blocking=False):
            self.broke = True
            return
        # Others run meanwhile.
        threading.Event().wait(0.0005)
        self.calls += 1
        self._inside.release()

    increment = set = observe = _call


@pytest.mark.parametrize("verbs", [("increment", "increment"), ("set", "observe"), ("increment", "set")])
def test_a_metric_has_one_caller_at_a_time(verbs):
    metric = Fragile()
    instrument = Instrument(metric)
    threads = [
        threading.Thread(target=lambda verb=verb: [getattr(instrument, verb)(1.0) for _ in range(50)])
        for verb in verbs * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not metric.broke
    assert metric.calls == 200


def test_a_metric_that_was_let_go_is_called_no_more():
    metric = Fragile()
    instrument = Instrument(metric)
    instrument.increment(1)
    instrument.release()
    for verb in ("increment", "set", "observe"):
        getattr(instrument, verb)(1)
    assert metric.calls == 1
