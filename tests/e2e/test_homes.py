"""Two regions, each with a gateway, a Valkey and a PostgreSQL of its own; acme's budgets are kept in the first one.

The home is killed under load and comes back: each provider's call has its row, at the home and once, and the home's
counters are what its ledger says.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from stacks import environment_of, settings_on_free_ports, wait_until

from delayed import link
from fakes.upstreams import serving
from trireme.access.keys import Key, digest_of, new_secret
from trireme.budget.caps import Cap
from trireme.budget.ledger import SumQuery
from trireme.gateway.budget_rows import BudgetRow
from trireme.gateway.spending.books import Books, BooksParts
from trireme.gateway.spending.reconcile import window_end
from trireme.gateway_process import GatewayProcess
from trireme.storage import open_budgets, open_caps, open_keys, open_ledger
from valkeys import valkey

CLIENTS = 4
# One way, between the regions.
DELAY = 0.041
FILE = """
[local]
region = "{region}"
other_regions = ["{other}"]
[tenants.acme]
home = "eu"
[providers.fake]
kind = "openai"
url = "{url}/v1"
[models.echo]
chain = ["fake:echo"]
[prices."fake:echo"]
input = 1.0
output = 2.0
[budgets]
lease_seconds = 2.0
without_home = "share"
share = 0.01
"""
CAP = 10**7
TEXT = " ".join(f"word{n}" for n in range(30))


class Region:
    """One region: `url` of its database, `store` its Valkey, `process` its gateway."""

    def __init__(self, name, other, place, new_database, stack):
        self.name, self.other, (server, folder) = name, other, place
        self.server = server
        self.pid_file = folder / "postgres" / "cluster" / "postmaster.pid"
        self.url = new_database(server)
        self.socket = Path(parse_qs(urlsplit(server.url).query)["host"][0]) / ".s.PGSQL.5432"
        self.store = stack.enter_context(valkey(appendonly="yes", maxmemory_policy="noeviction"))
        self.secret = new_secret()
        with contextlib.closing(open_keys(self.url)) as keys:
            keys.create(Key(f"key_{name}", "acme", "ann"), digest_of(self.secret))

    def start(self, folder, upstream, stack, **urls):
        file = folder / f"{self.name}.toml"
        file.write_text(FILE.format(region=self.name, other=self.other, url=upstream.url))
        self.settings = settings_on_free_ports(
            folder / self.name, gateway_file=file, redis_url=self.store.url, **urls
        )
        environ = os.environ | environment_of(self.settings) | {"TRIREME_DATABASE_URL": self.url}
        self.log = folder / f"{self.name}.log"
        self.process = GatewayProcess(self.settings, environ, self.log)
        stack.callback(self.process.stop)
        wait_until(lambda: self.process.answers(1.0))

    def ask(self, **fields):
        """Status and body of a chat; 0 where the gateway went."""
        body = {"model": "echo", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 50, **fields}
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.gateway_port, timeout=60)
        with contextlib.closing(connection):
            try:
                headers = {"authorization": f"Bearer {self.secret}"}
                connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except (OSError, http.client.HTTPException):
                return 0, ""

    def kill_stores(self):
        self.store.kill()
        os.kill(int(self.pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        wait_until(lambda: not self.server.is_running())

    def start_stores(self):
        self.store.start()
        self.server.restart()

    def kill_gateway(self):
        self.process.kill()
        wait_until(lambda: not self.process.is_running())

    def start_gateway(self):
        self.process._start()
        wait_until(lambda: self.process.answers(1.0))

    def look(self, home=""):
        """Counters of acme's ann, and whether rows wait, in the store or in the space of `home` there."""

        async def read():
            store = open_budgets(self.store.url, home)
            try:
                return await store.read("acme", "ann"), bool(await store.peek(1))
            finally:
                await store.close()

        return asyncio.run(read())

    def is_settled(self, home=""):
        counters, has_rows = self.look(home)
        return not has_rows and all(one.held_tokens == one.held_nanos == 0 for one in counters)

    def differences(self):
        """Counters of days and months that the ledger has otherwise."""
        scopes = {"gateway": ("", ""), "tenant": ("acme", ""), "user": ("acme", "ann")}
        found = []
        with contextlib.closing(open_ledger(self.url)) as ledger:
            for one in self.look()[0]:
                if one.window != "minute":
                    query = SumQuery(*scopes[one.level], one.start, window_end(one.window, one.start), "", 0)
                    summed = ledger.sum(query)
                    if (summed.tokens, summed.nanos) != (one.spent_tokens, one.spent_nanos):
                        found.append((one, summed))
        return found

    def rows(self, condition="true"):
        with psycopg.connect(self.url) as connection:
            statement = f"SELECT count(*), count(DISTINCT attempt) FROM trireme.ledger WHERE {condition}"
            return connection.execute(statement).fetchone()


@pytest.fixture(scope="module")
def regions(two_servers, new_database, tmp_path_factory):
    """Home and the other region, and what both ask; the other one reaches the home through links."""
    folder = tmp_path_factory.mktemp("homes")
    with contextlib.ExitStack() as stack:
        home = Region("eu", "us", two_servers[0], new_database, stack)
        away = Region("us", "eu", two_servers[1], new_database, stack)
        upstream = stack.enter_context(serving())
        upstream.pace = 0.005
        with contextlib.closing(open_caps(home.url)) as caps:
            caps.put(Cap("acme", "", "day", tokens=CAP))
        store = stack.enter_context(link(home.store.socket, DELAY))
        database = stack.enter_context(link(home.socket, DELAY))
        away.links = (store, database)
        name = urlsplit(home.url).path
        home.start(folder, upstream, stack)
        away.start(
            folder,
            upstream,
            stack,
            region_redis_urls=f"eu=redis://127.0.0.1:{store.port}",
            region_database_urls=f"eu=postgresql://trireme@127.0.0.1:{database.port}{name}",
        )
        yield home, away, upstream


@contextlib.contextmanager
def load(*regions):
    """CLIENTS at each region, whole and streamed; gives the statuses so far by region."""
    stop, statuses = threading.Event(), {region.name: [] for region in regions}

    def run(region, number):
        dice = random.Random(number)
        while not stop.is_set():
            status, _ = region.ask(stream=dice.random() < 0.5)
            statuses[region.name].append(status)
            if status != 200:
                time.sleep(0.05)

    clients = [
        threading.Thread(target=run, args=(region, number)) for region in regions for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield statuses
    finally:
        stop.set()
        for client in clients:
            client.join(120)
            assert not client.is_alive(), "a client hangs"


def more(statuses, count=20, status=200):
    """Waits for so many further answers."""
    before = statuses.count(status)
    wait_until(lambda: statuses.count(status) >= before + count)


def compare(home):
    """The round that each gateway makes every minute."""

    async def round_of(store, caps, ledger):
        books = Books(BooksParts(store=store, queue=store, ledger=ledger, caps=caps, rules=BudgetRow()))
        try:
            await books.reconciler.compare_all()
        finally:
            await store.close()

    with (
        contextlib.closing(open_caps(home.url)) as caps,
        contextlib.closing(open_ledger(home.url)) as ledger,
    ):
        asyncio.run(round_of(open_budgets(home.store.url), caps, ledger))


def settle(home, away, upstream):
    """Wait until no hold runs and no row waits, and let the home compare."""
    upstream.wait_until(lambda upstream: upstream.answering == 0)
    wait_until(lambda: home.is_settled() and away.is_settled("eu"))
    compare(home)
    assert home.differences() == []


# What an expiry charged and its reversal are no calls, and neither is what was given up before its call.
CALLS = "attempt NOT LIKE '%.expired' AND attempt NOT LIKE '%.reversed' AND outcome <> 'unheld'"


def test_a_home_that_is_killed_under_load_and_comes_back_has_every_row_once(regions):
    home, away, upstream = regions
    with load(home, away) as statuses:
        more(statuses["us"])
        more(statuses["eu"])
        home.kill_stores()
        more(statuses["us"])
        # The home's own gateway refuses: its store is away.
        more(statuses["eu"], 3, 503)
        home.start_stores()
        more(statuses["us"])
        more(statuses["eu"])
    settle(home, away, upstream)
    # Nobody killed a gateway: a row for each call, and no other.
    assert home.rows(CALLS) == (len(upstream.calls), len(upstream.calls))
    # The other region's own ledger has none of them, and its own budgets were not touched.
    assert away.rows() == (0, 0)
    assert away.look()[0][0].spent_tokens == 0


def test_rows_of_a_gateway_that_dies_while_its_tenants_home_is_away_come_home_later(regions):
    """And no more than the share was spent meanwhile."""
    home, away, upstream = regions
    with load(away) as statuses:
        more(statuses["us"])
        for one in away.links:
            one.cut()
        more(statuses["us"])
        upstream.wait_until(lambda upstream: upstream.answering > 0)
        away.kill_gateway()
    counters, has_rows = away.look("eu")
    assert has_rows
    assert 0 < max(one.spent_tokens + one.held_tokens for one in counters) <= CAP // 100
    away.start_gateway()
    # It has read no budget of which a share could be.
    status, body = away.ask()
    assert (status, "kept in region eu" in json.loads(body)["error"]["message"]) == (503, True)
    for one in away.links:
        one.heal()
    wait_until(lambda: away.ask()[0] == 200)
    upstream.wait_until(lambda upstream: upstream.answering == 0)
    settle(home, away, upstream)
    rows, different = home.rows("attempt NOT LIKE '%.reversed' AND outcome <> 'unheld'")
    assert rows == different >= len(upstream.calls)
