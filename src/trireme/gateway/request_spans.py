"""The server span of a request to the gateway. No header, no body, no text of an answer stands in it."""

from __future__ import annotations

import time

from trireme.gateway.exchange import Exchange
from trireme.observe.spans import Span, SpanValue, bounded
from trireme.observe.trace import Trace


def span_of(exchange: Exchange, trace: Trace) -> Span:
    """Of a request that ends now. Pure but for the clock."""
    method, route = str(exchange.scope.get("method", "")), _route(exchange)
    said: dict[str, SpanValue] = {
        "http.request.method": method,
        "http.response.status_code": exchange.status,
        "url.scheme": str(exchange.scope.get("scheme", "http")),
        "trireme.request": exchange.request_id,
        "trireme.endpoint": exchange.endpoint,
        "trireme.outcome": exchange.outcome,
    }
    if route:
        said["http.route"] = route
    if exchange.key is not None:
        said["trireme.tenant"] = bounded(exchange.key.tenant)
    if exchange.model:
        said["trireme.model"] = bounded(exchange.model)
    if exchange.served_by:
        said["trireme.served_by"] = bounded(exchange.served_by)
    if exchange.attempts:
        said["trireme.attempts"] = exchange.calls
    if exchange.cache_tier:
        said["trireme.cache"] = exchange.cache_tier
    if exchange.degraded:
        said["trireme.degraded"] = exchange.degraded
    # A 4xx is the client's error, and none of ours.
    is_failed = exchange.status >= 500 or exchange.outcome == "cut"
    error = (exchange.error or exchange.outcome or str(exchange.status)) if is_failed else ""
    name = f"{method} {route}".strip()
    # Both by one clock, as those of the calls below it: none of these began before it.
    return Span(
        name, "server", trace.trace, trace.span, trace.parent, exchange.began, time.time_ns(), error, said
    )


def _route(exchange: Exchange) -> str:
    """The path as it is in the table of routes; "" of one that nobody serves: clients make those up."""
    route = exchange.scope.get("route")
    path = getattr(route, "path", "")
    return str(path) if exchange.endpoint != "none" else ""
