"""How often an attempt goes to the home of its budget, over links with a delay; pytest -s shows the times."""

import asyncio
import contextlib
import re
import statistics
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from delayed import link
from trireme.budget.caps import Cap
from trireme.budget.ledger import LedgerRow
from trireme.gateway.budget_rows import BudgetRow
from trireme.gateway.spending.admission import Admitted, Cost
from trireme.gateway.spending.counting import NOTHING
from trireme.gateway.spending.home import Home, HomeStores
from trireme.gateway.spending.rows import new_attempt_id
from trireme.redis.budgets import RedisBudgets
from trireme.redis.connection import RedisStore
from trireme.storage import open_budgets, open_caps, open_ledger
from valkeys import valkey

PAGE = (Path(__file__).parents[2] / "docs" / "regions-state.md").read_text()
# One way.
DELAY = 0.041
ATTEMPTS = 10


@pytest.fixture
def home(monkeypatch, two_servers, new_database):
    """A Home over links, its links, and the caps of the home."""
    monkeypatch.setattr("trireme.gateway.spending.home.LOOK_SECONDS", 3600.0)
    # Asked for in the background else.
    monkeypatch.setattr("trireme.redis.budgets.CHECK_SECONDS", 3600.0)
    with contextlib.ExitStack() as stack:
        own = urlsplit(new_database(two_servers[0][0]))
        socket = Path(parse_qs(own.query)["host"][0]) / ".s.PGSQL.5432"
        database = stack.enter_context(link(socket, DELAY))
        there, here = (stack.enter_context(valkey(maxmemory_policy="noeviction")) for _ in range(2))
        store = stack.enter_context(link(there.socket, DELAY))
        url = f"postgresql://gateway@127.0.0.1:{database.port}{own.path}"
        with contextlib.closing(open_caps(own.geturl())) as caps:
            caps.put(Cap("acme", "", "day", tokens=10**6))
        with psycopg.connect(own.geturl()) as connection:
            # The rights that the page names are enough.
            connection.execute(
                re.search(r"```sql\n(CREATE ROLE gateway .+?)```", PAGE, re.DOTALL)[1].encode()
            )
        caps, ledger = open_caps(url, is_own=False), open_ledger(url, is_own=False)
        stack.callback(caps.close)
        stack.callback(ledger.close)
        stores = HomeStores(
            caps,
            ledger,
            # A busy machine is late.
            lambda: RedisBudgets(RedisStore(f"redis://127.0.0.1:{store.port}", timeout=60.0)),
            lambda: open_budgets(here.url, "eu"),
        )
        yield lambda: Home("eu", stores, BudgetRow()), store, database


async def attempt(home):
    """Seconds until it may run; its bill is sent and not waited for."""
    began = time.monotonic()
    caps = home.caps("acme", "ann")
    row = LedgerRow(new_attempt_id(), "r", "acme", "ann", "k", "chat", "p", "m", "p:m", 0)
    held = await home.hold(row, caps, Cost(10, 10, None))
    assert isinstance(held, Admitted)
    took = time.monotonic() - began
    held.end("ok", NOTHING)
    return took, held


def test_an_attempt_waits_for_one_round_trip_and_its_bill_is_another_one(home):
    open_home, store, database = home

    async def scenario():
        opened = open_home()
        await opened.start()
        # The look at the start.
        while opened._used or not opened._far.reconciler._sure:
            await asyncio.sleep(0.01)
        before = store.trips, database.trips
        first, held = await attempt(opened)
        await held.settled()
        between = store.trips, database.trips
        times = []
        for _ in range(ATTEMPTS):
            took, held = await attempt(opened)
            times.append(took)
            await held.settled()
        # Connected by now; what it compares is compared.
        after = store.trips, database.trips
        await opened._far.draining.drain()
        await opened.close()
        return before, between, after, first, times

    before, between, after, first, times = asyncio.run(scenario())
    print(
        f"\nround trip {2000 * DELAY:.0f} ms: an attempt waits {statistics.median(times) * 1000:.0f} ms (median of"
        f" {ATTEMPTS}, most {max(times) * 1000:.0f}); the first of a tenant {first * 1000:.0f} ms, with"
        f" {between[0] - before[0]} messages to the store and {between[1] - before[1]} to the database"
    )
    assert after[0] - between[0] == 2 * ATTEMPTS
