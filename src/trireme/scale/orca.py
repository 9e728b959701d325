"""ORCA load reports, out of band: the messages and the service of xds/service/orca/v3/orca.proto.

Its fields are described here and not imported: the last xds-protos that takes our protobuf is of 2024, and has 400
modules, among them a package `opentelemetry` that hides other people's. The pool is this module's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
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
    from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)

    data = descriptor_pb2.FileDescriptorProto(
        name="xds/data/orca/v3/orca_load_report.proto", package="xds.data.orca.v3", syntax="proto3"
    )
    report = data.message_type.add(name="OrcaLoadReport")
    for name, number in _DOUBLES.items():
        report.field.add(
            name=name, number=number, type=field_type.TYPE_DOUBLE, label=field_type.LABEL_OPTIONAL
        )
    for name, number in _MAPS.items():
        entry = report.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=field_type.TYPE_STRING, label=field_type.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=field_type.TYPE_DOUBLE, label=field_type.LABEL_OPTIONAL)
        report.field.add(
            name=name,
            number=number,
            type=field_type.TYPE_MESSAGE,
            type_name=f".{_REPORT}.{entry.name}",
            label=field_type.LABEL_REPEATED,
        )
    pool.Add(data)

    service = descriptor_pb2.FileDescriptorProto(
        name="xds/service/orca/v3/orca.proto",
        package="xds.service.orca.v3",
        syntax="proto3",
        dependency=["google/protobuf/duration.proto"],
    )
    request = service.message_type.add(name="OrcaLoadReportRequest")
    request.field.add(
        name="report_interval",
        number=1,
        type=field_type.TYPE_MESSAGE,
        type_name=".google.protobuf.Duration",
        label=field_type.LABEL_OPTIONAL,
    )
    request.field.add(
        name="request_cost_names",
        number=2,
        type=field_type.TYPE_STRING,
        label=field_type.LABEL_REPEATED,
    )
    pool.Add(service)
    request_class, report_class = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in (_REQUEST, _REPORT)
    )
    return request_class, report_class


def to_message(report: LoadReport) -> Any:
    """The OrcaLoadReport of a report."""
    _, report_class = message_classes()
    message = report_class(rps_fractional=report.requests_per_second, eps=report.errors_per_second)
    if report.utilization is not None:
        message.application_utilization = report.utilization
    for name, value in report.named.items():
        message.named_metrics[name] = value
    return message


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
