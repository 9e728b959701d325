"""The queue of a link: when packets arrive, in which order, and which are lost."""

import pytest

from benchmarks.regions import delays
from benchmarks.regions.delays import DelayQueue, Path


def arrivals(queue, until=100.0):
    """(when, end, packet) of what arrives, looked at whenever something is due."""
    found = []
    while (due := queue.next_due()) is not None and due <= until:
        found += [(round(due, 6), to, packet) for to, packet in queue.take(due)]
    return found


def test_a_packet_arrives_after_the_delay_and_not_before():
    queue = DelayQueue(Path(delay_ms=50))
    queue.put(b"a", 1, now=10.0)
    assert queue.next_due() == pytest.approx(10.05)
    assert queue.take(10.049) == []
    assert queue.take(10.051) == [(1, b"a")]
    assert queue.next_due() is None


def test_both_ways_have_packets_under_way_at_once():
    queue = DelayQueue(Path(delay_ms=5))
    queue.put(b"there", 1, now=0.0)
    queue.put(b"back", 0, now=0.001)
    assert arrivals(queue) == [(0.005, 1, b"there"), (0.006, 0, b"back")]


def test_jitter_changes_delays_within_its_bounds_and_no_order_of_one_way():
    queue = DelayQueue(Path(delay_ms=20, jitter_ms=15), seed=3)
    sent = [(number / 1000, 1, bytes([number])) for number in range(200)]
    for now, to, packet in sent:
        queue.put(packet, to, now)
    came = arrivals(queue)
    assert [packet for _, _, packet in came] == [packet for _, _, packet in sent]
    late = [when - now for (when, _, _), (now, _, _) in zip(came, sent, strict=True)]
    assert min(late) >= 0.005 - 1e-6
    # One may wait for the one before it.
    assert max(late) <= 0.035 + 1e-6
    assert len(set(late)) > 20


def test_so_much_is_lost_as_is_said_and_counted():
    queue = DelayQueue(Path(loss_percent=20), seed=1)
    for number in range(5000):
        queue.put(b"x", 0, now=float(number))
    assert len(arrivals(queue, until=1e9)) == queue.carried == 5000 - queue.lost
    assert 900 < queue.lost < 1100
    unlike = DelayQueue(Path(loss_percent=20), seed=2)
    alike = DelayQueue(Path(loss_percent=20), seed=1)
    for number in range(5000):
        for one in (alike, unlike):
            one.put(b"x", 0, now=float(number))
    assert alike.lost == queue.lost
    assert unlike.lost != queue.lost


def test_a_link_without_loss_loses_nothing():
    queue = DelayQueue(Path(delay_ms=1, jitter_ms=1))
    for number in range(1000):
        queue.put(b"x", number % 2, now=0.0)
    assert len(arrivals(queue)) == 1000
    assert queue.lost == 0


def test_a_cut_link_loses_what_is_under_way_and_all_that_comes_until_it_is_healed():
    queue = DelayQueue(Path(delay_ms=50, jitter_ms=10))
    queue.put(b"under way", 1, now=0.0)
    queue.path = Path(delay_ms=50, loss_percent=100)
    for number in range(100):
        queue.put(b"lost", 1, now=number / 1000)
    assert queue.next_due() is None
    assert (queue.carried, queue.lost) == (0, 101)
    queue.path = Path(delay_ms=50)
    queue.put(b"passes", 1, now=1.0)
    assert arrivals(queue) == [(1.05, 1, b"passes")]


def test_a_change_of_the_delay_is_for_packets_that_are_sent_after_it_and_keeps_their_order():
    queue = DelayQueue(Path(delay_ms=50))
    queue.put(b"slow", 1, now=0.0)
    queue.path = Path(delay_ms=1)
    queue.put(b"quick", 1, now=0.01)
    queue.put(b"other way", 0, now=0.01)
    assert arrivals(queue) == [(0.011, 0, b"other way"), (0.05, 1, b"slow"), (0.05, 1, b"quick")]


def test_what_does_not_fit_is_lost(monkeypatch):
    monkeypatch.setattr(delays, "MOST_WAITING", 3)
    queue = DelayQueue(Path(delay_ms=1))
    for number in range(5):
        queue.put(bytes([number]), 0, now=0.0)
    assert [packet for _, _, packet in arrivals(queue)] == [b"\0", b"\1", b"\2"]
    assert queue.lost == 2


@pytest.mark.parametrize(
    "numbers", [{"delay_ms": -1}, {"jitter_ms": -0.1}, {"loss_percent": 101}, {"loss_percent": -1}]
)
def test_numbers_that_no_link_has_are_refused(numbers):
    with pytest.raises(ValueError, match="from 0 to 100"):
        Path(**numbers)
