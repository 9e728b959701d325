"""What the suite of the key store shares: stores over the same keys, on a clock that the test moves."""

from urllib.parse import quote

import psycopg

from fakes.memory_keys import MemoryKeys
from trireme.access.keys import Key, digest_of
from trireme.storage import open_keys

# The beginning of a minute.
START = 1_800_000_000.0

CLOCK = """
    CREATE SCHEMA IF NOT EXISTS moved;
    CREATE TABLE IF NOT EXISTS moved.clock (at timestamptz NOT NULL);
    CREATE OR REPLACE FUNCTION moved.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT at FROM moved.clock';
    TRUNCATE moved.clock;
    """


class MemoryKeyWorld:
    """One store in memory stands for the stores of several processes."""

    def __init__(self):
        self.now = START
        self.store = MemoryKeys(clock=lambda: self.now)

    def open(self):
        return self.store

    def set_clock(self, seconds):
        """The clock that counts by shows so many seconds since the start."""
        self.now = START + seconds

    def close(self):
        pass


class PostgresKeyWorld:
    """Stores over one database that find a function of ours where they ask for the time of a statement."""

    def __init__(self, url):
        self.url = url
        self.opened = []
        with psycopg.connect(url) as connection:
            connection.execute(CLOCK)
            connection.execute("INSERT INTO moved.clock VALUES (to_timestamp(%s))", (START,))

    def open(self):
        path = quote("-c search_path=moved,pg_catalog,public")
        self.opened.append(open_keys(f"{self.url}&options={path}"))
        return self.opened[-1]

    def set_clock(self, seconds):
        with psycopg.connect(self.url) as connection:
            connection.execute("UPDATE moved.clock SET at = to_timestamp(%s)", (START + seconds,))

    def close(self):
        for store in self.opened:
            store.close()
        with psycopg.connect(self.url) as connection:
            if connection.execute("SELECT to_regclass('trireme.keys')").fetchone()[0]:
                connection.execute("DELETE FROM trireme.keys")
                connection.execute("DELETE FROM trireme.key_minutes")


def key(name, tenant="t", **changes):
    return Key(f"key_{name}", tenant, **changes)


def digest(name):
    return digest_of(f"secret of {name}")


def create(store, name, tenant="t", **changes):
    made = key(name, tenant, **changes)
    store.create(made, digest(name))
    return made
