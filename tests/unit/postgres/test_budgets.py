"""What PostgreSQL itself must hold to for caps and ledger: the way from version 6, rights, appending, faults."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial

import psycopg
import pytest

from fakes.ports import free_ports
from trireme.access.keys import Key, digest_of
from trireme.budget.caps import Cap
from trireme.budget.ledger import LedgerRow, Recorded, SumQuery, UsageQuery
from trireme.errors import UnavailableError
from trireme.postgres.caps import PostgresCaps
from trireme.postgres.keys import PostgresKeys
from trireme.postgres.ledger import CONNECTIONS, PostgresLedger
from trireme.postgres.pool import ConnectionPool
from trireme.postgres.schema import MIGRATIONS, TENANT_ROLE, migrate

CAP = Cap("t", "", "day", tokens=5)
ROW = LedgerRow("a1", "r", "t", "u", "key_a", "chat", "local", "llm", "local:llm", 1_800_000_000_000, nanos=7)
ALL = SumQuery("", "", 0, 2_000_000_000_000, "", 0)


def versions_of(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT version FROM trireme.migrations ORDER BY version").fetchall()
    return [version for (version,) in rows]


@pytest.mark.e2e
@pytest.mark.parametrize("version", [5, 6])
def test_a_database_of_a_version_before_is_brought_up_and_keeps_what_it_has(url, version):
    with closing(ConnectionPool(url, 1, partial(migrate, steps=MIGRATIONS[: version - 4]))) as old:
        old.run(
            lambda c: c.execute(
                "INSERT INTO trireme.collections (tenant, collection, passages) VALUES ('t', 'old', 7)"
            ),
            60.0,
        )
    assert versions_of(url)[-1] == version
    with closing(PostgresCaps(url)) as caps, closing(PostgresLedger(url)) as ledger:
        caps.put(CAP)
        assert caps.find() == [CAP]
        assert ledger.record([Recorded(ROW)]) == 1
    assert versions_of(url)[:3] == [5, 6, 7]
    with closing(PostgresKeys(url)) as keys:
        keys.create(Key("key_a", "t"), digest_of("a secret"))
        assert len(keys.read(-1).keys) == 1
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT passages FROM trireme.collections").fetchall() == [(7,)]


@pytest.mark.e2e
def test_a_searchs_role_sees_nothing_of_budgets_even_where_new_tables_are_given_to_it(url):
    with closing(ConnectionPool(url, 1, partial(migrate, steps=MIGRATIONS[:1]))) as old:
        old.run(
            lambda c: c.execute(
                f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {TENANT_ROLE}, PUBLIC".encode()
            ),
            60.0,
        )
    with closing(PostgresCaps(url)) as caps:
        caps.put(CAP)
    for table in ("caps", "cap_revision", "ledger"):
        for statement in (f"SELECT * FROM trireme.{table}", f"INSERT INTO trireme.{table} DEFAULT VALUES"):
            with psycopg.connect(url) as connection:
                connection.execute(f"SET ROLE {TENANT_ROLE}".encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                    connection.execute(statement.encode())


@pytest.mark.e2e
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trireme.ledger SET nanos = 0",
        "UPDATE trireme.ledger SET nanos = 0 WHERE attempt = 'nobody'",
        "DELETE FROM trireme.ledger",
        "TRUNCATE trireme.ledger",
        "INSERT INTO trireme.ledger SELECT * FROM trireme.ledger ON CONFLICT (attempt) DO UPDATE SET nanos = 0",
        "MERGE INTO trireme.ledger l USING trireme.caps c ON l.tenant = c.tenant WHEN MATCHED THEN DELETE",
    ],
)
def test_a_row_of_the_ledger_is_never_changed_not_even_by_the_owner_of_the_database(url, statement):
    with closing(PostgresLedger(url)) as ledger, closing(PostgresCaps(url)) as caps:
        caps.put(CAP)
        ledger.record([Recorded(ROW)])
        with psycopg.connect(url) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="appended and never changed"):
                connection.execute(statement.encode())
        assert ledger.sum(ALL).nanos == 7


@pytest.mark.e2e
def test_a_batch_is_recorded_whole_or_not_at_all(url):
    with closing(PostgresLedger(url)) as ledger:
        with psycopg.connect(url, autocommit=True) as connection:
            ledger.record([])
            assert ledger.sum(ALL).nanos == 0
            connection.execute("ALTER TABLE trireme.ledger ADD CONSTRAINT odd CHECK (nanos <> 13)")
        batch = [LedgerRow(*(f"a{n}", *ROW_VALUES), nanos=n) for n in range(20)]
        with pytest.raises(Exception, match="refused a statement"):
            ledger.record([Recorded(one) for one in batch])
        assert ledger.sum(ALL).nanos == 0


ROW_VALUES = ("r", "t", "u", "key_a", "chat", "local", "llm", "local:llm", 1_800_000_000_000)


@pytest.mark.e2e
@pytest.mark.parametrize("scope", [("", ""), ("t7", ""), ("t7", "u")])
def test_usage_of_a_day_is_found_by_an_index(url, scope):
    from trireme.postgres import ledger as adapter

    with closing(PostgresLedger(url)) as ledger:
        day = 86_400_000
        rows = [
            LedgerRow(f"a{n}", f"r{n}", f"t{n % 50}", "u", "k", "chat", "p", "m", "p:m", n * day // 100)
            for n in range(20_000)
        ]
        assert ledger.record([Recorded(one) for one in rows]) == 20_000
    with psycopg.connect(url) as connection:
        connection.execute("ANALYZE trireme.ledger")
        values = {
            "tenant": scope[0],
            "user": scope[1],
            "start": 100 * day,
            "end": 101 * day,
            "epoch": "",
            "seq": 0,
        }
        plan = str(connection.execute(f"EXPLAIN {adapter.SUM}".encode(), values).fetchall())
    assert "ledger_tenant" in plan if scope[0] else "ledger_time" in plan
    assert "Seq Scan" not in plan


@pytest.mark.e2e
def test_a_change_of_caps_waits_for_the_one_before_it_and_readers_wait_for_neither(url):
    with closing(PostgresCaps(url)) as caps:
        held = caps.read(-1)
        with psycopg.connect(url) as other:
            other.execute("SELECT FROM trireme.cap_revision FOR UPDATE")
            putting = threading.Thread(target=caps.put, args=(CAP,))
            putting.start()
            with psycopg.connect(url, autocommit=True) as watch:
                while watch.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is None:
                    assert putting.is_alive()
            assert caps.read(held.revision) is None
        putting.join()
        assert caps.read(held.revision).caps == (CAP,)


@pytest.mark.e2e
def test_a_database_that_was_put_back_has_no_revision_that_was_read_before(url):
    with closing(PostgresCaps(url)) as caps:
        caps.put(CAP)
        held = caps.read(-1)
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM trireme.caps")
            connection.execute("UPDATE trireme.cap_revision SET revision = 0")
        other = Cap("t", "", "month", tokens=1)
        caps.put(other)
        assert caps.read(held.revision).caps == (other,)


def test_every_verb_says_that_the_database_does_not_answer():
    (port,) = free_ports(1)
    url = f"postgresql://someone:secret@127.0.0.1:{port}/x"
    with closing(PostgresCaps(url)) as caps, closing(PostgresLedger(url)) as ledger:
        for verb in (
            lambda: caps.put(CAP),
            caps.find,
            lambda: caps.read(-1),
            lambda: ledger.record([Recorded(ROW)]),
            lambda: ledger.usage(UsageQuery(0, 1, "day")),
            lambda: ledger.sum(ALL),
        ):
            with pytest.raises(UnavailableError, match="check TRIREME_DATABASE_URL") as caught:
                verb()
            assert "secret" not in str(caught.value)


@pytest.mark.e2e
def test_rows_are_recorded_while_all_connections_of_those_who_ask_are_busy(url):
    with closing(PostgresLedger(url)) as ledger, ThreadPoolExecutor(CONNECTIONS) as pool:
        begun, release = threading.Barrier(CONNECTIONS + 1), threading.Event()

        def hold(connection):
            begun.wait(60)
            release.wait(60)

        busy = [pool.submit(ledger._pool.run, hold, 60.0) for _ in range(CONNECTIONS)]
        try:
            begun.wait(60)
            assert ledger.record([Recorded(ROW)]) == 1
            # As counters are compared with it.
            assert ledger.sum(replace(ALL, epoch="e")).nanos == 7
        finally:
            release.set()
        for one in busy:
            one.result()
