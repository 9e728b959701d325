"""Runs an agent: looks at its server, answers health checks, sends load reports, drains."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from trireme.agent.drain import Drain
from trireme.agent.metrics import AgentMetrics
from trireme.agent.options import AgentOptions
from trireme.agent.replica import Replica
from trireme.agent.reports import LoadReports
from trireme.agent.routes import build_app
from trireme.errors import SettingError, TriremeError, UnavailableError, UnsupportedError
from trireme.observe.build_info import read_build
from trireme.scale.orca import add_load_reports
from trireme.triton.probe import Probe

if TYPE_CHECKING:
    import uvicorn

# The service name that stands for the whole replica.
WHOLE = ""
# For answers under way when the agent ends.
END_SECONDS = 2


class Agent:
    """One agent in the running event loop, from `start` to `close`."""

    def __init__(self, options: AgentOptions) -> None:
        self._options = options
        self.replica = Replica(options)
        self._reports = LoadReports(options.target)
        self.drain = Drain(self.replica, options, self._publish)
        self._resources = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Binds both ports and begins to look. Raises SettingError for a port in use, UnsupportedError."""
        self._failed = asyncio.get_running_loop().create_future()
        options = self._options
        try:
            await self._serve_grpc()
            await self._serve_http()
        except BaseException:
            await self.close()
            raise
        self._probe = Probe(options.server, options.metrics_address, options.models, options.answer)
        self._resources.push_async_callback(self._probe.close)
        self._spawn(self._keep_looking())

    async def close(self) -> None:
        """Ends everything. Safe to call twice."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._resources.aclose()

    async def failed(self) -> None:
        """Waits for ever, or raises what ended one of its tasks: an agent that has gone blind must end."""
        assert self._failed is not None  # noqa: S101 - `start` was called
        await asyncio.shield(self._failed)

    async def _serve_grpc(self) -> None:
        import grpc.aio

        try:
            from grpc_health.v1 import health, health_pb2, health_pb2_grpc
        except ImportError:
            raise UnsupportedError(
                "the agent needs grpcio-health-checking; install it with: pip install 'trireme[agent]'"
            ) from None
        self._statuses: Any = health_pb2.HealthCheckResponse
        self._health: Any = health.aio.HealthServicer()
        await self._health.set(WHOLE, self._statuses.NOT_SERVING)
        # Without it a second agent would share the port and get every other call.
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_load_reports(server, self._reports.read, self._options.poll)
        address = self._options.grpc_address
        try:
            server.add_insecure_port(address)
        except RuntimeError:
            raise SettingError(
                f"cannot listen on {address}; set --port to a free port, or --host to an address of this machine"
            ) from None
        await server.start()
        self._resources.push_async_callback(server.stop, 0)

    async def _serve_http(self) -> None:
        listening = _listen(self._options.host.strip("[]"), self._options.own_http_port)
        self._resources.callback(listening.close)
        metrics = AgentMetrics(self.replica, self._reports, read_build(self._options.release))
        app = build_app(self.replica, self.drain, metrics, self._options)
        server = _new_http(app)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            if serving.done():
                raise UnavailableError("the agent's HTTP does not start")
            await asyncio.sleep(0.01)

        async def end() -> None:
            server.should_exit = True
            await serving

        self._resources.push_async_callback(end)

    async def _keep_looking(self) -> None:
        while True:
            started = monotonic()
            look = await self._probe.look()
            self.replica.look_seconds = monotonic() - started
            self.replica.see(look)
            if look.fault == "server_away" or look.load is not None:
                self._reports.see(look.load, monotonic())
            await self._set_health()
            for model, turn in self.replica.due():
                self._spawn(self._ask(model, turn))
            await asyncio.sleep(max(0.0, started + self._options.poll - monotonic()))

    async def _ask(self, model: str, turn: int) -> None:
        self.replica.hear(model, turn, await self._probe.ask(model, self._options.hung))
        await self._set_health()

    async def _set_health(self) -> None:
        is_ready = self.replica.is_ready
        await self._health.set(WHOLE, self._statuses.SERVING if is_ready else self._statuses.NOT_SERVING)

    def _publish(self) -> None:
        self._spawn(self._set_health())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end_task)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self._failed is None or self._failed.done():
            return
        if (error := task.exception()) is not None:
            self._failed.set_exception(error)


async def run_agent(options: AgentOptions, notice: Callable[[str], None], parent: int = 0) -> None:
    """Serves until SIGTERM or SIGINT: then it drains, and ends with the drain. A second signal ends it at once.

    parent: the process without which it ends too, 0 for none. Raises TriremeError. For the main thread.
    """
    agent, ended = Agent(options), asyncio.Event()
    await agent.start()
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []

    async def drain() -> None:
        report = await agent.drain.wait(options.drain)
        left = f"{report.pending} pending, {report.waiting} waiting, {report.running} running"
        notice("Drained." if report.is_empty else f"Not drained within {report.waited:.0f} s: {left}.")
        ended.set()

    def on_signal() -> None:
        if draining:
            ended.set()
            return
        # Before anything else: whoever asks from now on hears that it serves no more.
        agent.drain.begin()
        draining.append(loop.create_task(drain()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    waits = [loop.create_task(ended.wait()), loop.create_task(agent.failed())]
    if parent:
        waits.append(loop.create_task(_wait_for_end(parent)))
    notice(f"Agent of {options.server}: gRPC {options.grpc_address}, HTTP {options.own_http_port}.")
    try:
        await _first_of(waits)
    finally:
        for task in (*waits, *draining):
            task.cancel()
        await asyncio.gather(*waits, *draining, return_exceptions=True)
        await agent.close()


async def _first_of(waits: Sequence[asyncio.Task[Any]]) -> None:
    """Waits for the first one to end. Raises what it raises as a TriremeError."""
    done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        error = task.exception()
        if isinstance(error, Exception) and not isinstance(error, TriremeError):
            # One that goes on and looks no more would keep saying what it saw last.
            raise UnavailableError(f"the agent cannot go on: {type(error).__name__}: {error}") from None
        task.result()


async def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(1.0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingError(
            f"cannot listen on {host}:{port} ({error.strerror}); set --http-port to a free port, or --host"
        ) from None
    listening.listen()
    return listening


def _new_http(app: Any) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # Signals are the agent's: it drains first.
            yield

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=END_SECONDS,
    )
    return Server(config)
