"""What needs no database: one that is not there, does not answer, or has a malformed URL."""

import socket
import struct
import threading
import traceback
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

from fakes.ports import free_ports
from trireme.errors import InvalidInputError, SettingError, TriremeError, UnavailableError
from trireme.postgres.pool import as_trireme_error
from trireme.postgres.store import PostgresStore
from trireme.types import Embedder, Passage, StoreQuery

EMBEDDER = Embedder("a" * 64, 2)
ONE = np.ones((1, 2), np.float32)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def store(port: int) -> PostgresStore:
    return PostgresStore(f"postgresql://someone:secret@127.0.0.1:{port}/x", 1, 0, 100)


def free_port() -> int:
    return free_ports(1)[0]


def test_no_database_is_needed_to_make_the_store():
    made = store(free_port())
    made.close()
    made.close()


def test_every_verb_says_that_the_database_does_not_answer_and_keeps_the_password():
    down = store(free_port())
    for verb in (
        lambda: down.search(StoreQuery(ONE[0], EMBEDDER, 1)),
        lambda: down.put("t", "c", EMBEDDER, [Passage("x", "y")], ONE),
        lambda: down.collections(None),
        lambda: down.drop("t", "c"),
    ):
        with pytest.raises(UnavailableError, match="check TRIREME_DATABASE_URL or start it") as caught:
            verb()
        assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert not down.is_ready()


def test_a_database_that_never_answers_ends_in_the_same_error(silent_port):
    with pytest.raises(UnavailableError):
        store(silent_port).search(StoreQuery(ONE[0], EMBEDDER, 1))


@pytest.mark.parametrize(
    "words",
    [
        "sorry, too many clients already",
        'too many connections for role "trireme"',
        "remaining connection slots are reserved for roles with the SUPERUSER attribute",
    ],
)
def test_a_database_that_has_no_connection_left_says_so_and_not_that_it_is_away(words):
    said = f"SFATAL\0VFATAL\0C53300\0M{words}\0\0".encode()
    refusal = b"E" + struct.pack("!i", len(said) + 4) + said

    def refuse(server):
        with server.accept()[0] as connection:
            # No TLS, no GSS; then the refusal.
            while struct.unpack("!ii", connection.recv(8))[1] in (80877103, 80877104):
                connection.sendall(b"N")
            connection.sendall(refusal)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse, args=(server,))
        thread.start()
        full = store(server.getsockname()[1])
        with pytest.raises(UnavailableError, match="no connection left; raise its max_connections"):
            full.collections(None)
        full.close()
        thread.join()


def test_is_ready_does_not_wait_for_a_database_that_never_answers(silent_port):
    assert not store(silent_port).is_ready()


def test_a_malformed_url_is_refused_without_repeating_it():
    with pytest.raises(SettingError, match="TRIREME_DATABASE_URL") as caught:
        PostgresStore("postgresql://user:secret@[broken", 1, 0, 100)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("numbers", [(0, 0, 100), (1, -1, 100), (1, 0, 0), (1, 0, 1001)])
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(InvalidInputError):
        PostgresStore("postgresql://localhost/x", *numbers)


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (psycopg.errors.QueryCanceled("x"), UnavailableError, "too long"),
        (psycopg.errors.DiskFull("x"), UnavailableError, "disk is full"),
        (psycopg.errors.AdminShutdown("x"), UnavailableError, "does not answer"),
        (psycopg.errors.CharacterNotInRepertoire("x"), InvalidInputError, "cannot store"),
        (psycopg.errors.UndefinedTable("x"), TriremeError, "refused"),
        (psycopg.OperationalError("could not connect to 'secret'"), UnavailableError, "does not answer"),
    ],
)
def test_database_errors_become_typed_ones(error, expected, words):
    translated = as_trireme_error(error)
    assert type(translated) is expected
    assert words in str(translated)
    assert "secret" not in str(translated)
