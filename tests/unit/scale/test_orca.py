"""ORCA on the wire: the bytes are those that xds-protos 1.62.3 makes of the same report."""

import asyncio

import grpc.aio

from trireme.scale.orca import METHOD, SERVICE, LoadReport, add_load_reports, message_classes, to_message

# By xds-protos: cpu .125, memory .25, request_cost a 1, utilization b 2, 20.25 requests and .5 errors a second,
# named_metrics backlog_seconds 3, application_utilization 1.5.
OFFICIAL_REPORT = bytes.fromhex(
    "09000000000000c03f11000000000000d03f220c0a016111000000000000f03f2a0c0a0162110000000000000040"
    "31000000000040344039000000000000e03f421a0a0f6261636b6c6f675f7365636f6e6473110000000000000840"
    "49000000000000f83f"
)
# 1.5 s, request_cost_names a.
OFFICIAL_REQUEST = bytes.fromhex("0a0808011080cab5ee01120161")


def test_a_report_has_the_bytes_of_the_official_messages():
    message = to_message(LoadReport(1.5, 20.25, 0.5, {"backlog_seconds": 3.0}))
    message.cpu_utilization, message.mem_utilization = 0.125, 0.25
    message.request_cost["a"], message.utilization["b"] = 1.0, 2.0
    assert message.SerializeToString(deterministic=True) == OFFICIAL_REPORT


def test_a_request_is_read_as_the_official_messages_write_it():
    request_class, _ = message_classes()
    request = request_class.FromString(OFFICIAL_REQUEST)
    assert request.report_interval.ToMilliseconds() == 1500
    assert list(request.request_cost_names) == ["a"]


def test_an_unknown_utilization_is_left_out():
    _, report_class = message_classes()
    assert to_message(LoadReport()) == report_class()


def test_reports_come_until_the_client_has_enough_and_each_is_read_anew():
    request_class, report_class = message_classes()

    async def collect():
        values = iter([0.25, 0.5, 0.75])
        server = grpc.aio.server()
        add_load_reports(server, lambda: LoadReport(next(values)), least_seconds=0.01)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.unary_stream(
                    f"/{SERVICE}/{METHOD}",
                    request_serializer=request_class.SerializeToString,
                    response_deserializer=report_class.FromString,
                )(request_class(), timeout=30)
                found = [(await call.read()).application_utilization for _ in range(3)]
                call.cancel()
                return found
        finally:
            await server.stop(None)

    assert asyncio.run(collect()) == [0.25, 0.5, 0.75]
