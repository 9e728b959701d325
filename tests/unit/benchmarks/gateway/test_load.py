import asyncio

import pytest

from benchmarks.gateway.clock import Clock
from benchmarks.gateway.load import NUMBER, LoadJob, Requests, Sent, encode_request, report, run_load
from benchmarks.gateway.upstream import HOST, TEXT, WORDS, Connection, Pace, Upstream, make_response


def run_against(protocol, **changes):
    """What a short job finds at a server whose connections `protocol`, given a clock, makes."""

    async def run():
        loop = asyncio.get_running_loop()
        clock = Clock(loop)
        make = protocol(clock)
        server = await loop.create_server(make, HOST, 0)
        given = {"rate": 200.0, "seconds": 0.2, "seed": 1, "body": {}, "expected": TEXT, "warmup_s": 0.1}
        job = LoadJob(server.sockets[0].getsockname()[1], **{**given, **changes})
        found = await run_load(job)
        server.close()
        await server.wait_closed()
        clock.close()
        return found

    return asyncio.run(run())


def fake(delay_s=0.01, gap_s=0.001):
    def make(clock):
        upstream = Upstream(Pace(delay_s, chunks=5, gap_s=gap_s), clock)
        return lambda: Connection(upstream)

    return make


def test_whole_answers_are_timed_from_when_they_were_due():
    found = run_against(fake(delay_s=0.02))
    assert found["failed"] == 0 and found["errors"] == {}
    assert found["requests"] == len(found["total_ms"]) > 10
    assert found["sent"] > found["requests"]
    assert min(found["total_ms"]) >= 20
    assert found["first_ms"] == []


def test_the_first_content_of_a_stream_comes_before_its_end():
    found = run_against(fake(delay_s=0.02, gap_s=0.05), body={"stream": True}, expected=WORDS[4])
    assert found["failed"] == 0
    assert 20 <= min(found["first_ms"]) < 220 <= min(found["total_ms"])


def test_a_stream_without_its_last_words_fails():
    found = run_against(fake(), body={"stream": True}, expected=WORDS[-1])
    assert found["errors"] == {"the answer lacks what it should hold": found["requests"]}
    assert set(found["total_ms"]) == {10_000.0}


def test_who_has_no_answer_in_time_counts_as_slow_as_a_timeout():
    found = run_against(fake(delay_s=30.0), timeout_s=0.3)
    assert found["timeouts"] == found["failed"] == found["requests"]
    assert set(found["total_ms"]) == {300.0}


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (make_response(b'{"error":"busy"}', "503 Service Unavailable"), 'HTTP 503: {"error":"busy"}'),
        (b"", "connection closed"),
    ],
)
def test_a_fault_is_named_and_makes_no_percentile_better(raw, fault):
    class Broken(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(raw)
            if not raw:
                self.transport.close()

    found = run_against(lambda _: Broken)
    assert found["errors"] == {fault: found["requests"]}
    assert set(found["total_ms"]) == {10_000.0}


def test_more_requests_than_connections_wait_and_are_counted_as_late():
    found = run_against(fake(delay_s=0.05), connections=1)
    assert found["connections"] == 1
    assert found["failed"] == 0
    assert found["late"] > 0
    assert max(found["total_ms"]) > 100


def test_a_server_that_is_not_there_is_named():
    job = LoadJob(1, 100.0, 0.1, 1, {}, TEXT, warmup_s=0.0)
    found = asyncio.run(run_load(job))
    assert found["failed"] == found["requests"] > 0
    assert list(found["errors"]) == ["cannot connect: Connect call failed ('127.0.0.1', 1)"]


def test_requests_of_the_warm_up_do_not_count():
    requests = [
        Sent(due=0.0, counts=False, at=0.1, first=0.2, done=9.0),
        Sent(due=1.0, counts=True, at=1.001, first=1.02, done=1.05),
        Sent(due=2.0, counts=True, at=2.02, first=2.03, done=2.06),
    ]
    found = report(requests, 10.0, is_streamed=True)
    assert (found["requests"], found["sent"], found["late"]) == (2, 3, 1)
    assert found["total_ms"] == [50.0, 60.0]
    assert found["first_ms"] == [20.0, 30.0]


def test_a_request_says_its_length_and_the_jobs_headers():
    head, _, body = encode_request(
        LoadJob(80, 1, 1, 1, {"a": 1}, "", {"authorization": "Bearer x"})
    ).partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert b"authorization: Bearer x" in head.splitlines()
    assert f"content-length: {len(body)}".encode() in head.splitlines()
    assert body == b'{"a": 1}'


def test_a_number_makes_every_request_another_one_of_the_same_length():
    body = {"messages": [{"role": "user", "content": f"What? {NUMBER}"}]}
    job = LoadJob(80, 1.0, 1.0, 1, body, "x")
    one, other = Requests(job), Requests(job)
    sent = [next(one), next(one), next(other)]
    assert len(set(sent)) == 3 and {len(each) for each in sent} == {len(encode_request(job))}


def test_requests_without_a_number_are_equal():
    job = LoadJob(80, 1.0, 1.0, 1, {"messages": []}, "x")
    requests = Requests(job)
    assert next(requests) == next(requests) == encode_request(job)
