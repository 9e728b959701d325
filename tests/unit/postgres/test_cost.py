"""What PostgreSQL itself must hold to for cost: the way from older versions, rights, processes that die."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial

import psycopg
import pytest

from trireme.budget.ledger import LedgerRow, Recorded
from trireme.cost.port import Beat, CostQuery, Own
from trireme.cost.releases import Deploy
from trireme.postgres.cost import PostgresCosts
from trireme.postgres.cost_schema import REQUEST_INDEX, TABLES
from trireme.postgres.ledger import PostgresLedger
from trireme.postgres.pool import ConnectionPool
from trireme.postgres.releases import PostgresReleases
from trireme.postgres.schema import MIGRATIONS, TENANT_ROLE, migrate

pytestmark = pytest.mark.e2e
NOON = 1_796_000_000_000
VALUES = ("r", "t", "u", "key", "chat", "local", "llm", "local:llm", NOON)
BEFORE = MIGRATIONS[: MIGRATIONS.index(TABLES)]


def test_rows_of_a_version_before_are_kept_and_of_no_release(url):
    with closing(ConnectionPool(url, 1, partial(migrate, steps=BEFORE))) as old:
        old.run(
            lambda c: c.execute(
                "INSERT INTO trireme.ledger SELECT 'old', 'r', 't', 'u', 'k', 'chat', 'local', 'llm', 'local:llm',"
                " now(), '', '', 1, 0, 0, 2, 0, 'provider', '', 7, 0, 0, 0, 'ok', 1, 2, '', 0"
            ),
            60.0,
        )
    with closing(PostgresLedger(url)) as ledger, closing(PostgresCosts(url)) as book:
        ledger.record([Recorded(LedgerRow("new", *VALUES, nanos=5, outcome="ok", release="v1"))])
        query = CostQuery(0, 2 * NOON, "release", Own(("local",)))
        assert [(one.name, one.own_nanos) for one in book.groups(query)] == [("", 7), ("v1", 5)]
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT attempt, release FROM trireme.ledger ORDER BY 1 DESC").fetchall()
    assert found == [("old", None), ("new", "v1")]


def test_a_database_of_the_version_before_gets_the_index_by_which_a_request_is_found(url):
    before = MIGRATIONS[: MIGRATIONS.index(REQUEST_INDEX)]
    with closing(ConnectionPool(url, 1, partial(migrate, steps=before))) as old:
        old.run(
            lambda c: c.execute(
                "INSERT INTO trireme.ledger SELECT n::text, 'r' || n, 't', 'u', 'k', 'chat', 'local', 'llm', 'm',"
                " now(), '', '', 1, 0, 0, 2, 0, 'provider', '', 7, 0, 0, 0, 'ok', 1, 2, '', 0"
                " FROM generate_series(1, 5000) AS n"
            ),
            60.0,
        )
    with closing(PostgresLedger(url)) as ledger:
        assert [(one.attempt, one.release) for one in ledger.find("r77")] == [("77", "")]
    with psycopg.connect(url) as connection:
        connection.execute("ANALYZE trireme.ledger")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM trireme.ledger WHERE request = 'r77' ORDER BY reserved_at DESC LIMIT 10"
        )
        assert "ledger_request" in str(plan.fetchall())


def test_a_gateway_of_the_version_before_may_still_append_rows(url):
    """While a new version is rolled out, both write."""
    with closing(PostgresLedger(url)) as ledger:
        ledger.record([])
        ledger.record([Recorded(LedgerRow("new", *VALUES))])
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO trireme.ledger (attempt, request, tenant, caller, key_id, endpoint, provider, asked,"
            " served, reserved_at, tier, step, input_tokens, cached_tokens, cache_write_tokens, output_tokens,"
            " reasoning_tokens, counted_by, prices, nanos, saved_nanos, held_tokens, held_nanos, outcome,"
            " first_ms, total_ms, epoch, seq) SELECT 'old', request, tenant, caller, key_id, endpoint, provider,"
            " asked, served, reserved_at, tier, step, 0, 0, 0, 0, 0, '', '', 0, 0, 0, 0, '', 0, 0, '', 0"
            " FROM trireme.ledger"
        )


def test_releases_are_appended_and_never_changed_and_searches_see_nothing_of_cost(url):
    with closing(PostgresReleases(url)) as log:
        log.deploy(Deploy(0, "v1", "0.1", ""))
    with psycopg.connect(url, autocommit=True) as connection:
        for change in ("UPDATE {} SET note = 'x'", "DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="appended and never changed"):
                connection.execute(change.format("trireme.releases"))
        connection.execute(f"SET ROLE {TENANT_ROLE}")
        for table in ("releases", "machine_spans", "ledger"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM trireme.{table}")


BEATING = """
import sys, time
from trireme.cost.port import Beat
from trireme.storage import open_costs
book = open_costs(sys.argv[1])
while True:
    book.beat(Beat("m", "gpu", "v1"))
    time.sleep(0.01)
"""


def test_what_a_killed_process_noted_is_there_and_its_successor_goes_on(url):
    with closing(PostgresCosts(url)) as book:
        now = int(time.time() * 1000)

        def read():
            return book.spans(now - 3_600_000, now + 3_600_000)

        noted = []
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-c", BEATING, url])
            try:
                before = sum(one.end - one.start for one in read())
                deadline = time.monotonic() + 120
                while sum(one.end - one.start for one in read()) <= before:
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.02)
                noted = read()
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            (span,) = read()
            assert span.start == noted[0].start
            assert span.end >= noted[0].end


def test_beats_wait_for_nobody_who_reads(url):
    with closing(PostgresCosts(url)) as book:
        book.beat(Beat("m", "gpu", "v1", NOON))
        with psycopg.connect(url) as reading:
            reading.execute("SELECT * FROM trireme.machine_spans").fetchall()
            book.beat(Beat("m", "gpu", "v1", NOON + 60_000))
        assert [one.end - one.start for one in book.spans(0, 2 * NOON)] == [60_000]
