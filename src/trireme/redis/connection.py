"""One thin client of Valkey or Redis: a reply always belongs to the command that waits for it.

Cancelled callers of shared connections have handed one user's reply to another (CVE-2023-28858). Here a command
runs in a task of its own, which the caller's cancel does not reach, and a connection that did not read its whole
reply is closed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trireme.errors import SettingError, UnavailableError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

TIMEOUT_SECONDS = 1.0
MOST_CONNECTIONS = 32
# After a fault nobody asks the server for so long, then one command does: a request does not pay a timeout each.
REST_SECONDS = 0.5
SCHEMES = ("redis://", "rediss://", "unix://")

Word = str | bytes | int | float
Reply = Any


class Script:
    """A Lua script, found on the server by its SHA-1 after its first run."""

    def __init__(self, text: str) -> None:
        self.text = text
        # The server's own name for it, no signature.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """For one event loop. Connects when it is first used; up to `most` commands run at once, others wait.

    Every command ends within `timeout` seconds, waiting included. Nothing is sent twice: a command that failed may
    have run. Every verb raises UnavailableError, also for what the server answers with an error.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT_SECONDS, most: int = MOST_CONNECTIONS) -> None:
        """Raises SettingError for a URL that names no server; the message does not quote it."""
        self._timeout = timeout
        self._pool = _open_pool(normalize_url(url), timeout)
        self._places = asyncio.Semaphore(most)
        self._idle: list[AbstractConnection] = []
        self._tasks: set[asyncio.Task[list[Reply]]] = set()
        self._is_away = False
        self._rests_until = 0.0

    async def run(self, *command: Word) -> Reply:
        """The reply of one command; text comes as bytes."""
        (reply,) = await self._ask([command])
        return _checked(reply)

    async def pipeline(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        """The replies of several commands, sent together; others of the server may come between them."""
        return [_checked(reply) for reply in await self._ask(commands)] if commands else []

    async def run_script(self, script: Script, keys: Sequence[Word], words: Sequence[Word]) -> Reply:
        """The reply of a script, which the server runs as one step."""
        rest = (len(keys), *keys, *words)
        (reply,) = await self._ask([("EVALSHA", script.sha, *rest)])
        if isinstance(reply, Exception) and type(reply).__name__ == "NoScriptError":
            (reply,) = await self._ask([("EVAL", script.text, *rest)])
        return _checked(reply)

    async def policy(self) -> str:
        """What the server does when its memory is full: noeviction, allkeys-lfu, ..."""
        text = bytes(await self.run("INFO", "memory")).decode()
        rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return rows.get("maxmemory_policy", "").strip()

    async def close(self) -> None:
        """Wait for what runs, and close the connections. A later verb opens new ones."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._drop_idle()

    async def _ask(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        if self._is_away:
            self._let_one_through()
        task = asyncio.create_task(self._talk(_pack(commands), len(commands)))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _let_one_through(self) -> None:
        """Raises UnavailableError, but for the first command after a rest, which finds out for all others."""
        now = asyncio.get_running_loop().time()
        if now < self._rests_until:
            raise UnavailableError("the store of budgets and answers does not answer; try again")
        self._rests_until = now + self._timeout

    def _forget(self, task: asyncio.Task[list[Reply]]) -> None:
        self._tasks.discard(task)
        # Its caller may be gone: an exception that nobody reads would be printed.
        if not task.cancelled():
            task.exception()

    async def _talk(self, packed: bytes, count: int) -> list[Reply]:
        """Send and read on one connection. Never cancelled by callers."""
        has_place, connection = False, None
        try:
            async with asyncio.timeout(self._timeout):
                has_place = await self._places.acquire()
                connection = await self._connect()
                transport = connection._writer.transport  # type: ignore[union-attr]
                await connection.send_packed_command(packed, check_health=False)
                replies = [await _read(connection) for _ in range(count)]
        except BaseException as error:
            if connection is not None:
                # Replies may still come: nobody else must read them.
                await connection.disconnect(nowait=True)
                # A close alone would first wait until a server that hangs has taken what is unsent.
                transport.abort()
            if not isinstance(error, Exception):
                raise
            if not has_place:
                raise UnavailableError("the store of budgets and answers is busy; try again") from None
            await self._rest()
            # redis-py wraps what went wrong; its texts may quote the address.
            cause = type(error.__cause__ or error).__name__
            raise UnavailableError(
                f"the store of budgets and answers does not answer ({cause}); try again"
            ) from None
        else:
            self._idle.append(connection)
            self._is_away = False
            return replies
        finally:
            if has_place:
                self._places.release()

    async def _rest(self) -> None:
        """The server is away. Connections that nobody uses lead to the same one: close them."""
        self._is_away = True
        self._rests_until = asyncio.get_running_loop().time() + REST_SECONDS
        await self._drop_idle()

    async def _connect(self) -> AbstractConnection:
        """An idle connection whose server is still there, or a new one."""
        while self._idle:
            idle = self._idle.pop()
            # Data or an end where nobody asked: the server was restarted, say.
            if idle.is_connected and not await idle.can_read():
                return idle
            await idle.disconnect(nowait=True)
        connection: AbstractConnection = self._pool.make_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)


def normalize_url(url: str) -> str:
    """The URL as redis-py reads it. Raises SettingError that names the schemes."""
    for ours, theirs in (("valkey://", "redis://"), ("valkeys://", "rediss://")):
        if url.startswith(ours):
            url = theirs + url.removeprefix(ours)
    if not url.startswith(SCHEMES):
        raise SettingError(
            f"a URL of Valkey or Redis begins with one of {', '.join((*SCHEMES, 'valkey://', 'valkeys://'))}"
        )
    return url


def _open_pool(url: str, timeout: float) -> Any:
    """What makes connections; none is opened yet."""
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    try:
        pool = ConnectionPool.from_url(url)
    # Its message may quote the URL, which may hold a password.
    except Exception:
        raise SettingError("a URL of Valkey or Redis cannot be read; write redis://HOST:PORT/0") from None
    # Of RESP3 and TCP alone: with the protocol below such a connection cannot even be made.
    for name in [name for name in pool.connection_kwargs if name.startswith("maint_notifications")]:
        del pool.connection_kwargs[name]
    # After the URL, whose query may set them as well. Our own timeout covers the whole of a command.
    pool.connection_kwargs |= {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "health_check_interval": 0,
        # Telling the server who we are costs a round trip, and reading redis-py's own version more than that.
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
    }
    return pool


def _pack(commands: Sequence[Sequence[Word]]) -> bytes:
    """Commands as the protocol has them: arrays of strings with their lengths in bytes."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


async def _read(connection: AbstractConnection) -> Reply:
    """The next reply; an error of the server is one as well, and leaves the connection as it is."""
    from redis.exceptions import ResponseError

    try:
        return await connection.read_response(disconnect_on_error=False)
    except ResponseError as error:
        return error


def _checked(reply: Reply) -> Reply:
    """Raises UnavailableError for an error of the server, by its code alone: its text may quote values."""
    if isinstance(reply, Exception):
        # redis-py cuts the code off the text where it has a class for it.
        code = getattr(reply, "status_code", None) or str(reply).split(" ", 1)[0][:40]
        raise UnavailableError(f"the store of budgets and answers refuses a command ({code})")
    return reply
