"""The console's static files: read once, at start, and answered from a table, so that no path is ever walked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from trireme.errors import NotFoundError
from trireme.gateway.bodies import Receive
from trireme.gateway.exchange import Exchange
from trireme.gateway.ports import Ports
from trireme.gateway.replies import EmptyReply, JsonReply, Reply
from trireme.gateway.wire.openai_chat import OPENAI

INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing runs, is loaded, framed or asked but what this gateway serves; texts of documents can never become code.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
SAFETY = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file. tag: its ETag, of its bytes."""

    body: bytes
    content_type: str
    tag: str


def read_files(folder: Traversable) -> dict[str, StaticFile]:
    """Every file below `folder` of a known type, by its path from there, with / between its parts."""
    found: dict[str, StaticFile] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= {f"{entry.name}/{path}": file for path, file in read_files(entry).items()}
            continue
        suffix = f".{entry.name.rpartition('.')[2]}"
        if suffix in TYPES:
            body = entry.read_bytes()
            digest = hashlib.sha256(body).hexdigest()
            found[entry.name] = StaticFile(body, TYPES[suffix], f'"{digest[:32]}"')
    return found


FILES: Mapping[str, StaticFile] = read_files(files("trireme.gateway.console") / "static")


async def console_root(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /console: its files are named from the folder on, so the slash must be there."""
    if not ports.file.console.on:
        return _missing(exchange)
    return EmptyReply(308, (("location", "/console/"), *SAFETY))


async def console_file(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /console/{path}: one of FILES; 304 for who has it."""
    file = FILES.get(exchange.path_params.get("path", "") or INDEX)
    if file is None or not ports.file.console.on:
        return _missing(exchange)
    # Each file is asked for again at every load, so that a new version of the gateway is seen at once.
    headers = (("etag", file.tag), ("cache-control", "no-cache"), *SAFETY)
    if _has(exchange.headers.get("if-none-match", ""), file.tag):
        return EmptyReply(304, headers)
    return JsonReply(file.body, 200, headers, file.content_type)


def _missing(exchange: Exchange) -> Reply:
    error = NotFoundError("no such file of the console; it is at /console/, unless gateway.toml turns it off")
    failure = OPENAI.fail(error, exchange.request_id)
    exchange.error, exchange.outcome = error.code, "refused"
    return JsonReply(failure.body, failure.status, (*failure.headers, *SAFETY))


def _has(said: str, tag: str) -> bool:
    """Whether a client's If-None-Match names `tag`; a proxy may have made it a weak one."""
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in said.split(","))
