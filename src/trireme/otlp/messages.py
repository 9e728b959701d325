"""Spans as OTLP's own messages (opentelemetry-proto)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trireme.observe.spans import Span, SpanKind, SpanValue

SCOPE = "trireme"
_KINDS: dict[SpanKind, int] = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_ERROR = 2


def encode_spans(spans: Sequence[Span], resource: Mapping[str, str], version: str) -> bytes:
    """An ExportTraceServiceRequest. resource: who sends them. version: of the package. Pure."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _write(group.resource.attributes, resource)
    scope = group.scope_spans.add()
    scope.scope.name, scope.scope.version = SCOPE, version
    for span in spans:
        _write_span(scope.spans.add(), span)
    body: bytes = request.SerializeToString()
    return body


def read_rejected(body: bytes) -> tuple[int, str] | None:
    """Of an ExportTraceServiceResponse how many spans were rejected, and why; None for what is no such message."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response = ExportTraceServiceResponse()
    try:
        response.ParseFromString(body)
    except DecodeError:
        return None
    partial = response.partial_success
    return partial.rejected_spans, partial.error_message


def _write_span(message: Any, span: Span) -> None:
    message.trace_id, message.span_id = bytes.fromhex(span.trace), bytes.fromhex(span.span)
    message.parent_span_id = bytes.fromhex(span.parent)
    message.name, message.kind = span.name, _KINDS[span.kind]
    message.start_time_unix_nano, message.end_time_unix_nano = span.began, max(span.began, span.ended)
    _write(message.attributes, span.attributes)
    if span.error:
        _write(message.attributes, {"error.type": span.error})
        message.status.code = _ERROR


def _write(attributes: Any, values: Mapping[str, SpanValue]) -> None:
    for key, value in values.items():
        one = attributes.add()
        one.key = key
        _write_value(one.value, value)


def _write_value(message: Any, value: SpanValue) -> None:
    # A bool is an int, too.
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, str):
        message.string_value = value
    else:
        for one in value:
            message.array_value.values.add().string_value = one
