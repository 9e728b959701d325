"""The rate from which on a p95 bends, of servers whose times are known."""

import asyncio

import pytest

from benchmarks.scaling.target import HALVINGS, Step, find_bend, run_open_loop
from trireme.errors import UnavailableError


def make(bends_at, quiet_ms=10.0, fails_at=1e9):
    """A measurement of a server that is slow from a rate on; and the rates that were run."""
    ran = []

    async def run(rate):
        ran.append(rate)
        p95 = quiet_ms if rate < bends_at else 10 * quiet_ms
        return Step(rate, 100, quiet_ms, p95, int(rate >= fails_at), 20.0, 0.0)

    return run, ran


def test_rates_are_doubled_until_the_p95_bends_and_then_halved_in_between():
    run, ran = make(bends_at=50.0)
    found = asyncio.run(find_bend("search", run, 2.0, 2))
    assert ran[:6] == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    assert len(ran) == 6 + HALVINGS
    assert 46.0 <= found.target < 50.0
    assert [step.rate for step in found.steps] == sorted(ran)
    # 20 ms of processor time for each request, on two cores.
    assert found.busy == pytest.approx(found.target * 0.020 / 2, abs=0.01)


def test_a_few_milliseconds_more_are_no_bend():
    run, _ = make(bends_at=8.0, quiet_ms=2.0, fails_at=32.0)
    assert 28 <= asyncio.run(find_bend("embedding", run, 4.0, 2)).target < 32


def test_requests_come_at_their_moments_whatever_becomes_of_them():
    seen = []

    async def ask(text):
        seen.append(text)
        if text == "b":
            raise UnavailableError("full")

    times, failed = asyncio.run(run_open_loop(ask, ["a", "b"], [0.0, 0.001, 0.002]))
    assert sorted(seen) == ["a", "a", "b"]
    assert (len(times), failed) == (3, 1)
