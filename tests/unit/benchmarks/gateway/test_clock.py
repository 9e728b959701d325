import asyncio
import time

from benchmarks.gateway.clock import Clock


def call_all(offsets, cancelled=()):
    """Places in the order of their calls, and whether one was called before its moment."""

    async def run():
        clock = Clock(asyncio.get_running_loop())
        called, early, done = [], [], asyncio.Event()
        now = time.monotonic()

        def note(place):
            called.append(place)
            early.append(time.monotonic() < now + offsets[place])
            if len(called) == len(offsets) - len(cancelled):
                done.set()

        made = [
            clock.call_at(now + offset, lambda place=place: note(place))
            for place, offset in enumerate(offsets)
        ]
        for place in cancelled:
            made[place].cancel()
        await done.wait()
        clock.close()
        return called, any(early)

    return asyncio.run(run())


def test_calls_come_in_the_order_of_their_moments_and_none_too_early():
    assert call_all([0.03, 0.01, 0.02]) == ([1, 2, 0], False)


def test_what_is_past_is_called_in_order():
    assert call_all([-1.0, -2.0, 0.0]) == ([1, 0, 2], False)


def test_a_cancelled_call_is_left_out_and_the_others_come():
    assert call_all([0.001, 0.002, 0.003], cancelled=(0, 1)) == ([2], False)


def test_a_call_may_ask_for_the_next_one():
    async def run():
        clock = Clock(asyncio.get_running_loop())
        left, done = [3], asyncio.Event()

        def step():
            left[0] -= 1
            if left[0]:
                clock.call_at(time.monotonic() + 0.001, step)
            else:
                done.set()

        clock.call_at(time.monotonic(), step)
        await done.wait()
        clock.close()
        return left[0]

    assert asyncio.run(run()) == 0
