"""A link in place of a socket: what goes through is late, and it can be cut so that nothing is refused."""

import asyncio
import threading
from contextlib import contextmanager
from pathlib import Path


class Link:
    """Listens on a TCP port of loopback and leads to a Unix socket. `seconds`: that each way takes.

    cut: packets are dropped, as it looks to both ends: no byte, no end, no refusal. heal: connections of before
    are reset, as after a time-out. trips: how often the client's side spoke after the other had been silent.
    """

    def __init__(self, target, seconds):
        self.target, self.seconds = str(target), seconds
        self.port, self.trips = 0, 0
        self._is_cut, self._writers = False, set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _lead(self, reader, writer):
        self._writers.add(writer)
        try:
            # The handshake of TCP goes there and back once.
            await asyncio.sleep(2 * self.seconds)
            await self._while_cut()
            theirs, ours = await asyncio.open_unix_connection(self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(ours)
        try:
            await asyncio.gather(self._carry(reader, ours, counts=True), self._carry(theirs, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, ours):
                one.transport.abort()
                self._writers.discard(one)

    async def _carry(self, reader, writer, counts=False):
        queue = asyncio.Queue()

        async def send():
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - self._loop.time())
                await self._while_cut()
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        try:
            while True:
                data = await reader.read(65536)
                self.trips += counts and bool(data)
                queue.put_nowait((self._loop.time() + self.seconds, data))
                if not data:
                    break
            await sending
        finally:
            sending.cancel()

    async def _while_cut(self):
        while self._is_cut:
            await asyncio.sleep(0.01)

    def cut(self):
        self._is_cut = True

    def heal(self):
        def reset():
            for writer in tuple(self._writers):
                writer.transport.abort()
            self._is_cut = False

        self._loop.call_soon_threadsafe(reset)


@contextmanager
def link(target, seconds=0.0):
    """A Link to the Unix socket `target` within the block."""
    made = Link(Path(target), seconds)
    made._thread.start()
    made._ready.wait()
    try:
        yield made
    finally:
        made._loop.call_soon_threadsafe(made._stop.set)
        made._thread.join()
