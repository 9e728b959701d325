import asyncio
import time

import pytest

from trireme.errors import DeadlineError
from trireme.gateway.caching.in_time import by, patience_of
from trireme.gateway.degrade.wants import read_deadlines
from trireme.gateway.exchange import Exchange


def exchange_of(stream=False, **headers):
    exchange = Exchange({}, "chat", {}, "r", stream=stream)
    exchange.deadlines = read_deadlines(
        {name.replace("_", "-"): value for name, value in headers.items()}, exchange.started
    )
    return exchange


def test_what_comes_in_time_is_given_and_what_does_not_is_cancelled():
    async def go():
        async def seven():
            return 7

        assert await by(None, seven()) == 7
        # What is there already is given also to who is late.
        assert await by(time.monotonic() - 1, seven()) == 7
        waiting = asyncio.get_running_loop().create_future()
        with pytest.raises(DeadlineError):
            await by(time.monotonic() + 0.01, waiting)
        assert waiting.cancelled()

    asyncio.run(go())


def test_equal_headers_are_equal_patience_and_nobody_has_more_than_the_gateway():
    assert {patience_of(exchange_of(x_trireme_timeout="2.7"), 600.0) for _ in range(50)} == {2.7}
    assert patience_of(exchange_of(), 600.0) == 600.0
    assert patience_of(exchange_of(x_trireme_timeout="1e308"), 600.0) == 600.0
    assert patience_of(exchange_of(x_stainless_timeout="5"), 600.0) == 5.0
    # Of a stream it is the time to its first byte.
    assert patience_of(exchange_of(stream=True, x_stainless_timeout="5"), 600.0) == 600.0
