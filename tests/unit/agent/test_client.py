"""What answers where an agent should: nobody, somebody else, or one that never comes to an end."""

import socket
import threading
from contextlib import contextmanager

import pytest

from trireme.agent.client import drain, read_readiness
from trireme.errors import UnavailableError

REPORT = (
    b'{"empty":true,"waited_seconds":0,"was_draining":false,"left":{"pending":%s,"waiting":0,"running":0}}'
)


@contextmanager
def answering(head, body=b"", *, is_endless=False):
    """The address of a server that says this once; an endless one goes on with spaces until it is left."""
    listening = socket.create_server(("127.0.0.1", 0))
    left = threading.Event()

    def serve():
        connection, _ = listening.accept()
        with connection:
            try:
                connection.recv(1 << 16)
                connection.sendall(head + body)
                while is_endless and not left.wait(0.01):
                    connection.sendall(b" ")
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        left.set()
        listening.close()
        thread.join()


def page(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"\xff",
        b"[" * 100_000,
        REPORT % b"1e999",
        REPORT % b"NaN",
        REPORT % b"null",
        b" " * (2 << 20) + b"{}",
    ],
    ids=["nothing", "list", "text", "no-utf-8", "deep", "infinite", "nan", "null", "large"],
)
def test_what_is_no_answer_of_an_agent_is_called_so(body):
    with answering(*page(body)) as address, pytest.raises(UnavailableError, match="agent"):
        drain(address, 30.0)


def test_an_answer_of_an_agent_is_read():
    with answering(*page(REPORT % b"2")) as address:
        assert drain(address, 30.0).pending == 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_one_that_sends_a_byte_now_and_then_is_not_waited_for_beyond_the_limit(head):
    # Each byte comes long before a time-out between two of them: only a limit of the whole answer ends this.
    with (
        answering(head, is_endless=True) as address,
        pytest.raises(UnavailableError, match="no agent answers"),
    ):
        read_readiness(address, 0.5)


def test_a_limit_beyond_all_clocks_is_one_of_a_day():
    with answering(*page(REPORT % b"0")) as address:
        assert drain(address, 1e300).is_empty
