"""ORCA load reports, out of band: the messages and the service of xds/service/orca/v3/orca.proto.

Its fields are described here and not imported: the last xds-protos that takes our protobuf is of 2024, and has 400
modules, among them a package `opentelemetry` that hides other people's. The pool is this module's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

SERVICE = "xds.service.orca.v3.OpenRcaService"
METHOD = "StreamCoreMetrics"
_REPORT = "xds.data.orca.v3.OrcaLoadReport"
_REQUEST = "xds.service.orca.v3.OrcaLoadReportRequest"
# Field -> its number: cncf/xds, xds/data/orca/v3/orca_load_report.proto. rps, 3, is deprecated there.
_DOUBLES = {
    "cpu_utilization": 1,
    "mem_utilization": 2,
    "rps_fractional": 6,
    "eps": 7,
    "application_utilization": 9,
}
_MAPS = {"request_cost": 4, "utilization": 5, "named_metrics": 8}


@dataclass(frozen=True, slots=True)
class LoadReport:
    """One report of one replica. utilization: 1 is full, more is allowed; None: not known, the field is left out.

    requests_per_second, errors_per_second: requests ended. named: other figures by name.
    """

    utilization: float | None = None
    requests_per_second: float = 0.0
    errors_per_second: float = 0.0
    named: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@cache
def message_classes() -> tuple[Any, Any]:
    """The classes OrcaLoadReportRequest and OrcaLoadReport."""
    from google.protobuf import descriptor_pool, duration_pb2, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(_report_file())
    pool.Add(_request_file())
    request, report = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in (_REQUEST, _REPORT)
    )
    return request, report


def _report_file() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    package, _, name = _REPORT.rpartition(".")
    file = FileDescriptorProto(
        name="xds/data/orca/v3/orca_load_report.proto", package=package, syntax="proto3"
    )
    report = file.message_type.add(name=name)
    for field_name, number in _DOUBLES.items():
        _add(report, field_name, number, "TYPE_DOUBLE")
    for field_name, number in _MAPS.items():
        entry = report.nested_type.add(name=f"{field_name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "TYPE_STRING")
        _add(entry, "value", 2, "TYPE_DOUBLE")
        _add(report, field_name, number, f".{_REPORT}.{entry.name}", is_repeated=True)
    return file


def _request_file() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    package, _, name = _REQUEST.rpartition(".")
    file = FileDescriptorProto(name="xds/service/orca/v3/orca.proto", package=package, syntax="proto3")
    file.dependency.append("google/protobuf/duration.proto")
    request = file.message_type.add(name=name)
    _add(request, "report_interval", 1, ".google.protobuf.Duration")
    _add(request, "request_cost_names", 2, "TYPE_STRING", is_repeated=True)
    return file


def _add(message: Any, name: str, number: int, kind: str, *, is_repeated: bool = False) -> None:
    """One field. kind: a scalar's, or the full name of a message with a dot before it."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    message.field.add(
        name=name,
        number=number,
        type=Field.TYPE_MESSAGE if kind.startswith(".") else Field.Type.Value(kind),
        type_name=kind if kind.startswith(".") else None,
        label=Field.LABEL_REPEATED if is_repeated else Field.LABEL_OPTIONAL,
    )


def to_message(report: LoadReport) -> Any:
    """The OrcaLoadReport of a report."""
    _, report_class = message_classes()
    message = report_class(rps_fractional=report.requests_per_second, eps=report.errors_per_second)
    if report.utilization is not None:
        message.application_utilization = report.utilization
    for name, value in report.named.items():
        message.named_metrics[name] = value
    return message


def read_loads(channels: Iterable[Any], seconds: float) -> list[LoadReport | None]:
    """The newest report of each grpc channel, in order; None of one that gave none in `seconds`. Blocks so long."""
    import grpc

    request_class, report_class = message_classes()
    request = request_class()
    # A stream that is asked for one report: it comes at once.
    running = [
        channel.unary_stream(
            f"/{SERVICE}/{METHOD}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=report_class.FromString,
        )(request, timeout=seconds)
        for channel in channels
    ]
    found: list[LoadReport | None] = []
    for call in running:
        try:
            found.append(to_report(next(call)))
        except (grpc.RpcError, StopIteration):
            found.append(None)
        call.cancel()
    return found


def to_report(message: Any) -> LoadReport:
    """The report of an OrcaLoadReport. One without a utilization says 0, for the protocol has no word for it."""
    return LoadReport(
        message.application_utilization, message.rps_fractional, message.eps, dict(message.named_metrics)
    )


def add_load_reports(server: Any, read: Callable[[], LoadReport], least_seconds: float) -> None:
    """Adds OpenRcaService to a grpc.aio server: `read` is asked at once, and then as often as the client wishes.

    least_seconds: between two reports at least; also where a client names no interval.
    """
    import grpc

    request_class, report_class = message_classes()

    async def stream(request: Any, _: Any) -> AsyncIterator[Any]:
        wished = request.report_interval.seconds + request.report_interval.nanos / 1e9
        while True:
            yield to_message(read())
            await asyncio.sleep(max(wished, least_seconds))

    handler = grpc.unary_stream_rpc_method_handler(
        stream,
        request_deserializer=request_class.FromString,
        response_serializer=report_class.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
