"""Which path is which handler, and what a path is told that nobody serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.routing import Route, Router

from trireme.errors import InvalidInputError, NotFoundError
from trireme.gateway.account_routes import ACCOUNT_ROUTES
from trireme.gateway.admin_routes import ADMIN_ROUTES
from trireme.gateway.budget_routes import BUDGET_ROUTES
from trireme.gateway.card_routes import CARD_ROUTES
from trireme.gateway.chat_routes import chat_handler, count_tokens
from trireme.gateway.completion_routes import post_completions
from trireme.gateway.console.files import console_file, console_root
from trireme.gateway.cost_routes import COST_ROUTES
from trireme.gateway.document_routes import DOCUMENT_ROUTES
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Gate, Handler, Receive
from trireme.gateway.health_routes import healthz, metrics, readyz
from trireme.gateway.holding_routes import HOLDING_ROUTES
from trireme.gateway.live.routes import LIVE_ROUTES
from trireme.gateway.model_routes import MODEL_ROUTES
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.wire.anthropic import ANTHROPIC
from trireme.gateway.wire.openai_chat import OPENAI
from trireme.gateway.wire.responses import RESPONSES

App = Callable[..., Awaitable[None]]
OpenPorts = Callable[[], AbstractAsyncContextManager[Ports]]


def build_app(open_ports: OpenPorts) -> App:
    """The ASGI app. `open_ports` is entered when the server starts and left when it stops."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with open_ports() as ports:
            yield {"ports": ports}

    return Router(ROUTES, redirect_slashes=False, default=NOT_FOUND, lifespan=lifespan)


async def _no_such_path(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    raise NotFoundError("no such path; docs/gateway.md lists those there are")


def _no_such_method(taken: Iterable[str]) -> Handler:
    """Of a path that takes these methods."""
    allowed = ", ".join(dict.fromkeys(taken))

    async def refuse(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
        error = InvalidInputError(f"this path takes {allowed}, and not {exchange.scope['method']}")
        return JsonReply(OPENAI.fail(error, exchange.request_id).body, 405, (("allow", allowed),))

    return refuse


NOT_FOUND = Gate("none", _no_such_path, OPENAI.fail, is_open=True)

_GATES: tuple[tuple[str, str, Gate], ...] = (
    ("POST", "/v1/chat/completions", Gate("chat", chat_handler(OPENAI), OPENAI.fail)),
    ("POST", "/v1/completions", Gate("completions", post_completions, OPENAI.fail)),
    ("POST", "/v1/responses", Gate("responses", chat_handler(RESPONSES), RESPONSES.fail)),
    ("POST", "/v1/messages", Gate("messages", chat_handler(ANTHROPIC), ANTHROPIC.fail)),
    ("POST", "/v1/messages/count_tokens", Gate("messages", count_tokens, ANTHROPIC.fail)),
    ("GET", "/healthz", Gate("healthz", healthz, OPENAI.fail, is_open=True)),
    ("GET", "/readyz", Gate("readyz", readyz, OPENAI.fail, is_open=True)),
    ("GET", "/metrics", Gate("metrics", metrics, OPENAI.fail, is_open=True)),
    ("GET", "/console", Gate("console", console_root, OPENAI.fail, is_open=True)),
    ("GET", "/console/{path:rest}", Gate("console", console_file, OPENAI.fail, is_open=True)),
    *((method, path, Gate(name, handler, fail)) for method, path, name, handler, fail in MODEL_ROUTES),
    *((method, path, Gate(name, handler, OPENAI.fail)) for method, path, name, handler in DOCUMENT_ROUTES),
    *((method, path, Gate(name, handler, OPENAI.fail)) for method, path, name, handler in HOLDING_ROUTES),
    *((method, path, Gate(name, handler, OPENAI.fail)) for method, path, name, handler in BUDGET_ROUTES),
    *((method, path, Gate(name, handler, OPENAI.fail)) for method, path, name, handler in COST_ROUTES),
    *((method, path, Gate(name, handler, OPENAI.fail)) for method, path, name, handler in ACCOUNT_ROUTES),
    *((method, path, Gate(name, handler, OPENAI.fail)) for method, path, name, handler in ADMIN_ROUTES),
    *((method, path, Gate(name, handler, OPENAI.fail)) for method, path, name, handler in CARD_ROUTES),
    *LIVE_ROUTES,
)


def _routes() -> list[Route]:
    """A route for each path and method, then one for each path with any other method."""
    taken = [Route(path, gate, methods=[method]) for method, path, gate in _GATES]
    methods: dict[str, list[str]] = {}
    for method, path, _ in _GATES:
        methods.setdefault(path, []).extend([method, "HEAD"] if method == "GET" else [method])
    return taken + [
        Route(path, Gate("none", _no_such_method(those), OPENAI.fail, is_open=True))
        for path, those in methods.items()
    ]


ROUTES = _routes()
