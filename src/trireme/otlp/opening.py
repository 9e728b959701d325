"""Opens what sends spans, for any process."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from trireme.errors import SettingError
from trireme.observe.build_info import Build
from trireme.observe.spans import NoSpans, SpanSink
from trireme.otlp.collector import Collector
from trireme.otlp.sender import OtlpSpans


def open_spans(
    process: str, build: Build, *, url: str, headers: Mapping[str, str], percent: int, more: str = ""
) -> SpanSink:
    """Sends spans to the collector at `url`; "" sends none.

    process: gateway, server or worker. more: which of them, such as a model's name. percent: see SpanSink. Raises
    SettingError where the extra is not installed.
    """
    if not url:
        return NoSpans()
    check_extra(url)
    return OtlpSpans(Collector(url, headers), resource_of(process, build, more), build.version, percent)


def check_extra(url: str) -> None:
    """Raises SettingError where spans are to be sent and the extra is not installed."""
    if not url:
        return
    try:
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
    except ImportError:
        raise SettingError(
            "TRIREME_OTLP_URL or OTEL_EXPORTER_OTLP_ENDPOINT is set: pip install 'trireme[otlp]', or set"
            " TRIREME_OTLP_URL to off"
        ) from None


def resource_of(process: str, build: Build, more: str = "") -> dict[str, str]:
    """Who sends, in OpenTelemetry's names."""
    host, pid = socket.gethostname(), os.getpid()
    said = {
        "service.namespace": "trireme",
        "service.name": f"trireme-{process}",
        "service.version": build.version,
        "service.instance.id": f"{host}:{pid}" + (f":{more}" if more else ""),
        "host.name": host,
        "trireme.release": build.release,
        "vcs.ref.head.revision": build.revision,
        "telemetry.sdk.name": "trireme",
        "telemetry.sdk.language": "python",
    }
    return {name: value for name, value in said.items() if value}
