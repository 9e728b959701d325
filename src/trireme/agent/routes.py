"""The agent's HTTP: /ready, /healthz, /drain and /metrics."""

from __future__ import annotations

import ipaddress
from time import time
from typing import TYPE_CHECKING, Any

from trireme.agent.drain import Drain, DrainReport
from trireme.agent.metrics import AgentMetrics
from trireme.agent.options import MOST_SECONDS, AgentOptions
from trireme.agent.replica import Replica

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_app(replica: Replica, drain: Drain, metrics: AgentMetrics, options: AgentOptions) -> Starlette:
    """The ASGI application. POST /drain is taken from this machine alone, as a preStop hook of the pod is."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def ready(_: Request) -> Response:
        body = _readiness(replica)
        return JSONResponse(body, 200 if body["ready"] else 503)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def page(_: Request) -> Response:
        return Response(metrics.page(), media_type=METRICS_TYPE)

    async def begin_drain(request: Request) -> Response:
        if request.client is None or not _is_own(request.client.host):
            return JSONResponse({"error": "POST /drain is taken from this machine alone"}, 403)
        try:
            seconds = _read_seconds(request.query_params.get("seconds"), options.drain)
        except ValueError:
            return JSONResponse({"error": f"seconds must be a number from 0 to {MOST_SECONDS:.0f}"}, 400)
        return JSONResponse(_drained(await drain.wait(seconds)))

    return Starlette(
        routes=[
            Route("/ready", ready, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/drain", begin_drain, methods=["POST"]),
            Route("/metrics", page, methods=["GET"]),
        ]
    )


def _readiness(replica: Replica) -> dict[str, Any]:
    faults = replica.faults()
    age = time() - replica.polled_at if replica.polled_at else None
    return {
        "ready": not faults,
        "draining": replica.is_draining,
        "reasons": [{"kind": one.kind, "model": one.model, "text": one.text} for one in faults],
        "polled_seconds_ago": None if age is None else round(age, 3),
    }


def _drained(report: DrainReport) -> dict[str, Any]:
    return {
        "draining": True,
        "was_draining": report.was_draining,
        "empty": report.is_empty,
        "waited_seconds": round(report.waited, 3),
        "left": {"pending": report.pending, "waiting": report.waiting, "running": report.running},
    }


def _read_seconds(text: str | None, default: float) -> float:
    seconds = default if text is None else float(text)
    if not 0 <= seconds <= MOST_SECONDS:
        raise ValueError(text)
    return seconds


def _is_own(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
