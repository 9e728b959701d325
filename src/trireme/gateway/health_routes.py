"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import ipaddress

from trireme.errors import TriremeError
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Receive
from trireme.gateway.key_ring import DATABASE_SECONDS
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.steps import admit, identify

# Of proxies: one on this machine speaks for clients that are elsewhere.
FORWARDING = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def healthz(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """The process lives and its event loop turns."""
    return JsonReply({"status": "ok"})


async def readyz(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """Whether Triton's models are ready, and the database and a budget store that is needed answer; if not, 503
    and why. details: what works less well than it should; degraded: another region serves models of ours."""
    reasons: list[str] = []
    far: list[str] = []
    if ports.keys.age > DATABASE_SECONDS:
        reasons.append("the database does not answer")
    reasons += ports.spending.faults()
    try:
        models = await ports.served.read()
    except TriremeError as error:
        reasons.append(str(error))
    else:
        reasons += [f"model {model.name} is not ready" for model in models.values() if not model.is_ready]
        if not models:
            reasons.append("Triton serves no model")
        far = ports.served.far
    said = {"ready": not reasons, "reasons": reasons}
    # Requests are answered all the same: by a dearer step, from farther away.
    details = ports.cascades.versions.details()
    if far:
        said["degraded"] = True
        regions = " or ".join(ports.file.local.other_regions)
        details.insert(0, f"no server of this region has {', '.join(far)}: {regions} answers")
    if details:
        said["details"] = details
    return JsonReply(said, 503 if reasons else 200)


async def metrics(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """Prometheus's text. From this machine without a key: labels name tenants, so others need one."""
    client = exchange.scope.get("client")
    is_forwarded = any(name in exchange.headers for name in FORWARDING)
    if client is None or is_forwarded or not ipaddress.ip_address(client[0]).is_loopback:
        await identify(exchange, ports)
        await admit(exchange, ports)
    if ports.spans.is_on:
        ports.metrics.count_spans(ports.spans.counts())
    return JsonReply(ports.metrics.render(ports.attempts.snapshot()), content_type=METRICS_TYPE)
