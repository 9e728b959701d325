"""What our HTTP servers, gateway and agent, have in common: the socket, and uvicorn's settings."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING, Any

from trireme.errors import SettingError

if TYPE_CHECKING:
    import uvicorn


def listen(
    host: str, port: int, *, port_setting: str, host_setting: str, backlog: int = 128
) -> socket.socket:
    """A listening socket. backlog: connections that may wait.

    Raises SettingError, naming the setting to change, where the port is taken or the address another machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            text = f"port {port} of {host} is in use; set {port_setting} to a free one"
        else:
            text = f"port {port} of {host} cannot be bound ({error.strerror}); set {host_setting}"
        raise SettingError(text) from None
    listening.listen(backlog)
    return listening


def new_config(app: Any, **own: Any) -> uvicorn.Config:
    """Of a server that writes no log of its own and does not say what it is. own: a server's other settings."""
    import uvicorn

    # What it would say is in our own log, or a traceback, or as often as strangers send what is no HTTP.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **own,
    )
