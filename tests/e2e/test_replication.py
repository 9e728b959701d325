"""Collections of one PostgreSQL followed by another one: searches are equal, writes are refused, either may die."""

import contextlib
import os
import re
import signal
import statistics
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import psycopg
import pytest
from stacks import wait_until

from delayed import link
from trireme.access.keys import Key, digest_of, new_secret
from trireme.cli import main
from trireme.errors import (
    FollowerError,
    InvalidInputError,
    NotFoundError,
    SettingError,
    UnavailableError,
    UnsupportedError,
)
from trireme.postgres.documents import PostgresDocuments
from trireme.postgres.index_builder import PostgresIndexBuilder
from trireme.postgres.pool import DeadlineConnection
from trireme.postgres.schema import MIGRATIONS, migrate, require_current
from trireme.storage import open_keys, open_queue, open_replication, open_store
from trireme.types import Document, Embedder, Passage, StoreQuery

PAGE = (Path(__file__).parents[2] / "docs" / "regions-state.md").read_text()
DIMENSIONS = 16
FIRST, SECOND = Embedder("a" * 64, DIMENSIONS), Embedder("b" * 64, DIMENSIONS)
PASSAGES = 300
EXACT_BELOW = 100
# One way, between the regions.
DELAY = 0.041
WORDS = ("river", "bridge", "stone", "winter", "harvest", "copper", "violin", "lantern", "meadow", "signal")


def vectors(count, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def passages(prefix, count, seed=0):
    dice = np.random.default_rng(seed)
    texts = [" ".join(dice.choice(WORDS, size=12)) + f" {prefix}{n}" for n in range(count)]
    return [Passage(f"{prefix}{n}", text, f'{{"n": {n}}}') for n, text in enumerate(texts)]


def query(embedder=FIRST, **fields):
    asked = {
        "embedding": vectors(1, 99)[0],
        "embedder": embedder,
        "top_k": 20,
        "text": "copper violin bridge",
    }
    return StoreQuery(**{**asked, "tenant": "acme", "collection": "notes", "mode": "hybrid", **fields})


class Place:
    """One region's PostgreSQL, with what is done there."""

    def __init__(self, server, folder, url, stack):
        self.folder, self.server, self.url = folder, server, url
        self.store = stack.enter_context(contextlib.closing(open_store(self.url, exact_below=EXACT_BELOW)))
        self.replication = stack.enter_context(contextlib.closing(open_replication(self.url)))
        self.keys = stack.enter_context(contextlib.closing(open_keys(self.url)))
        # Makes the schema.
        self.store.collections(None)

    def search(self, **fields):
        return self.store.search(query(**fields))

    def finds(self, passage):
        """Whether a passage is among the searched ones."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT 1 FROM trireme.passages WHERE id = %s", (passage,))
            return found.fetchone() is not None

    def kill(self):
        pid_file = self.folder / "postgres" / "cluster" / "postmaster.pid"
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        wait_until(lambda: not self.server.is_running())

    def link(self):
        (found,) = self.replication.read()
        return found


def same(home, follower, **fields):
    """Whether both answer alike: the same passages in the same order, their scores within a millionth."""
    ours, theirs = home.search(**fields), follower.search(**fields)
    assert [(hit.id, hit.text) for hit in ours] == [(hit.id, hit.text) for hit in theirs]
    np.testing.assert_allclose([hit.score for hit in ours], [hit.score for hit in theirs], atol=1e-6)
    return bool(ours)


@pytest.fixture(scope="module")
def places(two_servers, new_database):
    """A home with a collection, and a follower that has all of it."""
    with contextlib.ExitStack() as stack:
        home, follower = (Place(*one, new_database(one[0]), stack) for one in two_servers)
        home.store.put("acme", "notes", FIRST, passages("p", PASSAGES), vectors(PASSAGES))
        secret = new_secret()
        home.keys.create(Key("key_one", "acme", "ann"), digest_of(secret))
        home.digest = digest_of(secret)
        home.replication.publish()
        socket = Path(parse_qs(urlsplit(home.url).query)["host"][0]) / ".s.PGSQL.5432"
        between = stack.enter_context(link(socket, DELAY))
        with psycopg.connect(home.url) as connection:
            connection.execute(
                re.search(r"```sql\n(CREATE ROLE replicator .+?)```", PAGE, re.DOTALL)[1].encode()
            )
            connection.execute("CREATE ROLE blind LOGIN REPLICATION")
            connection.execute("GRANT USAGE ON SCHEMA trireme TO blind")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA trireme TO blind")
        # As the follower's server reaches it.
        home.away = f"postgresql://replicator@127.0.0.1:{between.port}{urlsplit(home.url).path}"
        follower.replication.follow(home.away, "eu-west", "us-east")
        wait_until(lambda: follower.link().state == "following" and follower.finds("p0"))
        yield home, follower


def test_a_follower_answers_as_its_home_does_and_builds_its_own_indexes(places):
    home, follower = places
    for mode in ("dense", "text", "hybrid"):
        assert same(home, follower, mode=mode)
    with contextlib.closing(PostgresIndexBuilder(follower.url, EXACT_BELOW)) as builder:
        assert builder.build_due() == 1
    assert same(home, follower)
    assert same(home, follower, filter='{"n": 7}')


def test_what_is_written_at_the_home_is_soon_at_the_follower_and_what_is_deleted_is_gone(places):
    home, follower = places
    with (
        contextlib.closing(open_queue(home.url, 15)) as queue,
        contextlib.closing(PostgresDocuments(home.url)) as documents,
    ):
        from trireme.ingest.documents import Indexed

        queue.publish("acme", "notes", [Document("doc", "title", ("text",), "source", digest="d")])
        (job,) = queue.take(1)
        documents.replace([Indexed(job, tuple(passages("d", 3, 5)), vectors(3, 5))], FIRST, "embedding")
        wait_until(lambda: follower.finds("d2"))
        assert same(home, follower)
        documents.delete("acme", "notes", ["doc"])
        wait_until(lambda: not follower.finds("d2"))
    home.store.put("acme", "notes", FIRST, [Passage("p0", "another text by far", "{}")], vectors(1, 8))
    found = {"text": "another text", "mode": "text"}
    wait_until(lambda: [hit.text for hit in follower.search(**found)] == ["another text by far"])
    assert same(home, follower)
    home.store.put("acme", "passing", FIRST, passages("x", 2), vectors(2))
    wait_until(lambda: follower.finds("x1"))
    home.store.drop("acme", "passing")
    wait_until(lambda: not follower.finds("x1"))
    assert [info.collection for info in follower.store.collections("acme")] == ["notes"]


def test_how_long_a_write_takes_to_reach_the_follower_is_shown(places):
    """Of docs/regions-state.md: pytest -s shows it."""
    home, follower = places
    took = []
    with psycopg.connect(follower.url, autocommit=True) as connection:
        for n in range(15):
            home.store.put("acme", "notes", FIRST, passages(f"t{n}-", 1), vectors(1, n))
            began = time.monotonic()
            while not connection.execute(
                "SELECT 1 FROM trireme.passages WHERE id = %s", (f"t{n}-0",)
            ).fetchone():
                time.sleep(0.001)
            took.append(time.monotonic() - began)
    print(
        f"\nfrom a commit at the home to its follower: median {statistics.median(took) * 1000:.0f} ms,"
        f" most {max(took) * 1000:.0f} ms, one way {DELAY * 1000:.0f} ms"
    )


def test_caches_at_the_follower_see_that_a_collection_has_changed(places):
    home, follower = places

    def revision(place):
        with psycopg.connect(place.url) as connection:
            return connection.execute("SELECT revision FROM trireme.collections").fetchone()

    before = revision(follower)
    home.store.put("acme", "notes", FIRST, passages("r", 1), vectors(1, 3))
    wait_until(lambda: revision(follower) != before and revision(follower) == revision(home))


def test_a_follower_refuses_writers_and_names_the_home(places):
    _, follower = places
    refused = pytest.raises(FollowerError, match="written in region eu-west alone")
    with refused:
        follower.store.put("acme", "notes", FIRST, passages("w", 1), vectors(1))
    with refused:
        follower.store.put("acme", "new", FIRST, passages("w", 1), vectors(1))
    with refused:
        follower.store.drop("acme", "notes")
    with refused:
        follower.store.versions.begin("acme", "notes", SECOND, "other")
    with contextlib.closing(open_queue(follower.url, 15)) as queue, refused:
        queue.publish("acme", "notes", [Document("doc", "title", ("text",), "source", digest="d")])
    with contextlib.closing(PostgresDocuments(follower.url)) as documents, refused:
        documents.delete("acme", "notes", ["p1"])


def test_a_new_version_of_the_schema_may_change_what_writers_may_not(places):
    """Followers are upgraded first; the home makes the same changes after them."""
    _, follower = places
    steps = (*MIGRATIONS, "UPDATE trireme.passages SET metadata = metadata")
    with contextlib.closing(DeadlineConnection.connect(follower.url)) as connection:
        migrate(connection, steps)
        connection.rollback()


def test_a_database_of_another_release_is_left_as_it_is(places):
    home, _ = places
    with contextlib.closing(DeadlineConnection.connect(home.url)) as connection:
        require_current(connection)
        with pytest.raises(UnavailableError, match="another schema version"):
            require_current(connection, (*MIGRATIONS, "SELECT 1"))


def test_a_reindex_switches_the_follower_too(places):
    home, follower = places
    versions = home.store.versions
    made = versions.begin("acme", "notes", SECOND, "other")
    while missing := versions.missing(made.number, 200):
        versions.fill(made.number, [one.key for one in missing], vectors(len(missing), missing[0].key))
    versions.switch(made.number)

    def active():
        (info,) = follower.store.collections("acme")
        return info.embedder

    wait_until(lambda: active() == SECOND)
    assert same(home, follower, embedder=SECOND)
    # Exact until somebody there builds the index.
    with contextlib.closing(PostgresIndexBuilder(follower.url, EXACT_BELOW)) as builder:
        assert builder.build_due() == 1
    assert same(home, follower, embedder=SECOND)


def test_a_key_that_is_revoked_at_the_home_dies_at_the_follower_and_one_may_be_revoked_there(places):
    home, follower = places
    known = follower.keys.read(-1)
    assert home.digest in known.keys
    assert home.keys.revoke(["key_one"]) == ["key_one"]
    # A gateway reads by revision.
    wait_until(
        lambda: (read := follower.keys.read(known.revision)) is not None and home.digest not in read.keys
    )
    secret = new_secret()
    home.keys.create(Key("key_two", "acme"), digest_of(secret))
    wait_until(lambda: digest_of(secret) in follower.keys.read(-1).keys)
    before = follower.keys.read(-1).revision
    assert follower.keys.revoke(["key_two"]) == ["key_two"]
    assert digest_of(secret) not in follower.keys.read(before).keys


def test_how_links_stand_is_told_at_both_ends(places, monkeypatch, capsys):
    home, follower = places
    wait_until(lambda: home.link().behind_bytes == 0)
    seen, theirs = follower.link(), home.link()
    assert (seen.role, seen.name, seen.is_connected, seen.state) == ("follower", "eu_west", True, "following")
    assert (theirs.role, theirs.name, theirs.is_connected, theirs.state) == (
        "home",
        "us_east",
        True,
        "followed",
    )
    # Kept for a follower that is away: 64 MiB, and what is of the same segment.
    assert 0 < theirs.left_bytes <= (64 << 20) + (16 << 20)
    monkeypatch.setenv("TRIREME_DATABASE_URL", follower.url)
    assert main(["replication", "status"]) == 0
    assert re.match(
        r"follows eu_west: following, [\d,]+ bytes behind, heard of \d+ s ago\n", capsys.readouterr().out
    )


def test_what_cannot_be_followed_is_refused_before_anything_is_changed(places, new_database):
    home, follower = places
    with pytest.raises(InvalidInputError, match="follows already"):
        follower.replication.follow(home.away, "eu-west", "us-east")
    with pytest.raises(SettingError, match="passfile") as raised:
        follower.replication.follow("postgresql://u:hidden@127.0.0.1:1/x", "eu-west", "us-east")
    assert "hidden" not in str(raised.value)
    with pytest.raises(UnavailableError, match="region eu-west does not answer"):
        follower.replication.follow("postgresql://u@127.0.0.1:1/x", "eu-west", "us-east")
    with pytest.raises(InvalidInputError, match="'acme' forbids this region"):
        follower.replication.follow(home.away, "eu-west", "us-east", forbidden=["acme", "beta"])
    with pytest.raises(UnsupportedError, match="BYPASSRLS"):
        follower.replication.follow(home.away.replace("replicator", "blind"), "eu-west", "us-east")
    # What came by replication goes no further, and a home that follows its follower would empty both.
    with pytest.raises(UnsupportedError, match="follows another one itself"):
        home.replication.follow(follower.url, "us-east", "eu-west", replaces=True)
    with pytest.raises(UnsupportedError, match="publish at its home"):
        follower.replication.publish()
    with contextlib.ExitStack() as stack:
        silent = Place(follower.server, follower.folder, new_database(follower.server), stack)
        with pytest.raises(UnsupportedError, match="publishes nothing"):
            home.replication.follow(silent.url, "us-east", "eu-west")
    with pytest.raises(NotFoundError):
        home.replication.stop()
    with pytest.raises(NotFoundError):
        home.replication.promote()
    assert follower.link().state == "following"


def test_a_database_that_could_not_follow_stays_open_to_writers(places, new_database):
    home, follower = places
    with contextlib.ExitStack() as stack:
        other = Place(follower.server, follower.folder, new_database(follower.server), stack)
        # Its name is taken at the home.
        with pytest.raises(UnavailableError, match=r"cannot follow the home: .*already exists"):
            other.replication.follow(home.away, "eu-west", "us-east")
        assert other.replication.read() == []
        assert other.store.put("acme", "notes", FIRST, passages("o", 1), vectors(1)) == 1
        other.replication.follow(home.away, "eu-west", "ap-south", replaces=True)
        other.replication.stop()
        with pytest.raises(UnavailableError):
            other.replication.follow(home.away, "eu-west", "us-east", replaces=True)
        # It followed before, and nobody has promoted it.
        with pytest.raises(FollowerError):
            other.store.put("acme", "notes", FIRST, passages("o", 1), vectors(1))


def test_keys_that_came_from_a_home_do_not_stop_their_next_copy(two_servers, new_database):
    with contextlib.ExitStack() as stack:
        home, follower = (Place(*one, new_database(one[0]), stack) for one in two_servers)
        theirs, own = digest_of(new_secret()), digest_of(new_secret())
        home.keys.create(Key("key_theirs", "acme"), theirs)
        follower.keys.create(Key("key_own", "acme"), own)
        home.replication.publish()
        for _ in range(2):
            # No collections, so that nothing has to be replaced.
            follower.replication.follow(home.url, "eu-west", "keys")
            wait_until(lambda: follower.link().state == "following")
            assert follower.keys.read(-1).keys.keys() == {theirs, own}
            follower.replication.stop()


def test_a_follower_that_dies_has_all_when_it_is_back(places):
    home, follower = places
    follower.kill()
    wait_until(lambda: not home.link().is_connected)
    home.store.put("acme", "notes", SECOND, passages("k", 20, 3), vectors(20, 3))
    follower.server.restart()
    wait_until(lambda: follower.finds("k19"))
    assert same(home, follower, embedder=SECOND)


def test_a_follower_too_far_behind_does_not_fill_the_disk_and_copies_anew(places):
    home, follower = places
    with psycopg.connect(follower.url, autocommit=True) as connection:
        connection.execute("ALTER SUBSCRIPTION trireme_eu_west DISABLE")
    wait_until(lambda: not home.link().is_connected)
    with psycopg.connect(home.url, autocommit=True) as connection:
        # 6 segments of 16 MiB, of which 64 MiB are kept.
        for _ in range(6):
            connection.execute("SELECT pg_logical_emit_message(false, 'test', 'x'), pg_switch_wal()")
        connection.execute("CHECKPOINT")
    wait_until(lambda: home.link().state == "lost")
    home.store.put("acme", "notes", SECOND, passages("l", 5, 4), vectors(5, 4))
    follower.replication.stop()
    with pytest.raises(InvalidInputError, match="--replace"):
        follower.replication.follow(home.away, "eu-west", "us-east")
    follower.replication.follow(home.away, "eu-west", "us-east", replaces=True)
    wait_until(lambda: follower.link().state == "following" and follower.finds("l4"))
    assert same(home, follower, embedder=SECOND)


def test_a_follower_that_has_more_columns_than_its_home_goes_on(places):
    """As after an upgrade, which followers get first."""
    home, follower = places
    wider = "ALTER TABLE trireme.collections ADD COLUMN later text NOT NULL DEFAULT 'none'"
    for n, place in enumerate((follower, home)):
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute(wider)
        home.store.put("acme", "notes", SECOND, passages(f"u{n}-", 1), vectors(1, n))
        wait_until(lambda n=n: follower.finds(f"u{n}-0"))


def test_a_planned_move_waits_for_all_of_the_log_and_the_other_way_copies_anew(places):
    home, follower = places
    home.store.put("acme", "notes", SECOND, passages("m", 50, 2), vectors(50, 2))
    follower.replication.promote()
    assert follower.finds("m49")
    assert home.replication.read() == []
    assert follower.store.put("acme", "notes", SECOND, passages("n", 1), vectors(1)) == 1
    follower.replication.follow(home.away, "eu-west", "us-east", replaces=True)
    wait_until(lambda: follower.link().state == "following" and follower.finds("m49"))
    assert not follower.finds("n0")
    assert same(home, follower, embedder=SECOND)


def test_a_follower_searches_without_its_home_and_takes_its_place_when_it_is_lost(places):
    """Last: the home is gone after it."""
    home, follower = places
    wait_until(lambda: home.link().behind_bytes == 0)
    with pytest.raises(InvalidInputError, match="region eu_west answers"):
        follower.replication.promote(is_lost=True)
    before = [(hit.id, hit.text) for hit in follower.search(embedder=SECOND)]
    home.kill()
    assert [(hit.id, hit.text) for hit in follower.search(embedder=SECOND)] == before
    wait_until(lambda: not follower.link().is_connected)
    with pytest.raises(UnavailableError, match="promote --lost"):
        follower.replication.promote()
    with pytest.raises(FollowerError):
        follower.store.put("acme", "notes", SECOND, passages("w", 1), vectors(1))
    follower.replication.promote(is_lost=True)
    assert follower.replication.read() == []
    assert follower.store.put("acme", "notes", SECOND, passages("w", 30, 6), vectors(30, 6)) == 30
    follower.store.put("acme", "fresh", FIRST, passages("f", 2), vectors(2))
    assert follower.finds("w29")
    assert {info.collection for info in follower.store.collections("acme")} == {"notes", "fresh"}
    follower.store.drop("acme", "notes")
