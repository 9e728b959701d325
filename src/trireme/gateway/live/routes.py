"""GET /v1/live: server-sent events for as long as somebody watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trireme.errors import InvalidInputError, TriremeError
from trireme.gateway.bodies import Receive, read_body
from trireme.gateway.budget_routes import allowed_scope
from trireme.gateway.exchange import Exchange, secret_of
from trireme.gateway.gate import Gate
from trireme.gateway.live.hub import Watcher, frame
from trireme.gateway.live.scopes import new_scope
from trireme.gateway.parameters import read_parameters, require_known
from trireme.gateway.ports import Ports
from trireme.gateway.replies import EVENT_STREAM, Reply, Send, start_of
from trireme.gateway.wire.openai_chat import OPENAI


async def get_live(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/live?tenant=&user=."""
    if exchange.scope["method"] == "HEAD":
        # Nothing is sent of it: nobody would see that its client is gone.
        raise InvalidInputError("this path answers a stream, which HEAD does not show; send GET")
    query = read_parameters(exchange)
    require_known(query, ("tenant", "user"))
    scope = new_scope(exchange.caller, *allowed_scope(exchange, query))
    # Whose body was read is seen to leave.
    await read_body(receive, ports.file.limits)
    secret = secret_of(exchange.headers)
    return LiveReply(ports.live.watch(scope, lambda: ports.keys.holds(secret)), ports, secret)


@dataclass(frozen=True, slots=True)
class LiveReply:
    """A stream until its client leaves, its key is revoked, or the gateway stops: the last event says which."""

    watcher: Watcher
    ports: Ports
    secret: str = field(repr=False)

    async def send(self, exchange: Exchange, send: Send) -> None:
        """See Reply."""
        exchange.status = 200
        with self.watcher as watcher:
            # Nothing else may come on this connection, whose buffers are small from now on.
            headers = (*EVENT_STREAM, *exchange.reply_headers(), ("connection", "close"))
            await send(start_of(200, headers))
            _shorten(exchange.scope)
            while True:
                if frames := await watcher.next():
                    await send(_body(frames))
                elif not watcher.is_doubted:
                    break
                elif (fault := await self._find_fault()) is not None:
                    exchange.error, exchange.outcome = fault.code, "refused"
                    watcher.end(frame("error", OPENAI.fail(fault, exchange.request_id).body))
                    break
                else:
                    watcher.trust()
        await send(_body(watcher.last, is_last=True))
        exchange.outcome = exchange.outcome or "ok"

    async def _find_fault(self) -> TriremeError | None:
        """Why the key is not taken any more."""
        try:
            await self.ports.keys.identify(self.secret)
        except TriremeError as error:
            return error
        return None


def _body(frames: bytes, *, is_last: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": frames, "more_body": not is_last}


def _shorten(scope: Any) -> None:
    # By name: its module needs uvicorn.
    shorten = scope.get("extensions", {}).get("trireme.shorten")
    if shorten is not None:
        shorten["call"]()


# Method, path and gate.
LIVE_ROUTES: tuple[tuple[str, str, Gate], ...] = (
    ("GET", "/v1/live", Gate("usage", get_live, OPENAI.fail, is_endless=True)),
)
