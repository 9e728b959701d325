"""The HTTP server over the gateway's app, which tells what never ends by itself that it stops."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import uvicorn

from trireme.gateway.app import build_app
from trireme.gateway.connections import BoundedProtocol
from trireme.gateway.file import Limits
from trireme.gateway.ports import Ports
from trireme.http_server import new_config

# Requests that run when the gateway is told to stop may take so long to end.
DRAIN_SECONDS = 10


class DrainingServer(uvicorn.Server):
    """Waits for the requests that run, as uvicorn does, but not for those who watch."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        ports: Ports | None = self.lifespan.state.get("ports")
        if ports is not None:
            ports.live.stop()
        await super().shutdown(sockets)


def new_server(opened: Callable[[], AbstractAsyncContextManager[Ports]], limits: Limits) -> DrainingServer:
    """The HTTP server over what `opened` gives; `run(sockets=[...])` starts it."""
    config = new_config(
        build_app(opened),
        http=BoundedProtocol,
        loop="uvloop",
        lifespan="on",
        timeout_keep_alive=int(limits.idle_seconds),
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return DrainingServer(config)
