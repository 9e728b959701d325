import asyncio
import json

import pytest

from benchmarks.gateway.clock import Clock
from benchmarks.gateway.upstream import HOST, MODEL, TEXT, WORDS, Connection, Pace, Upstream


def talk(work, pace, answers=None):
    """What `work` gives of a reader, a writer and the upstream."""

    async def run():
        loop = asyncio.get_running_loop()
        clock = Clock(loop)
        upstream = Upstream(pace, clock, answers)
        server = await loop.create_server(lambda: Connection(upstream), HOST, 0)
        reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
        found = await work(reader, writer, upstream)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        clock.close()
        return found

    return asyncio.run(run())


def post(body, path="/v1/chat/completions"):
    raw = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw


async def read_response(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "chunked" not in head:
        size = int(head.split("content-length: ")[1].split("\r\n")[0])
        return head, await reader.readexactly(size)
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return head, body


def test_a_whole_answer_and_the_next_one_come_over_one_connection():
    async def work(reader, writer, upstream):
        bodies = []
        for _ in range(2):
            writer.write(post({"model": MODEL}))
            bodies.append(json.loads((await read_response(reader))[1]))
        return bodies, upstream.stats

    bodies, stats = talk(work, Pace(0.001))
    assert [body["choices"][0]["message"]["content"] for body in bodies] == [TEXT, TEXT]
    assert bodies[0]["usage"]["completion_tokens"] == len(WORDS)
    assert (stats.requests, stats.running, stats.left) == (2, 0, 0)


@pytest.mark.parametrize("chunks", [1, 2, 20])
@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_has_its_role_its_chunks_its_end_and_usage_if_asked(chunks, options):
    async def work(reader, writer, upstream):
        writer.write(post({"stream": True, **options}))
        return (await read_response(reader))[1]

    body = talk(work, Pace(0.001, chunks, 0.0001))
    frames = [frame.removeprefix(b"data: ") for frame in body.split(b"\n\n")[:-1]]
    assert frames[-1] == b"[DONE]"
    values = [json.loads(frame) for frame in frames[:-1]]
    deltas = [value["choices"][0]["delta"] for value in values if value["choices"]]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert len(deltas) == chunks + 2
    assert sum("usage" in value for value in values) == bool(options)


def test_a_client_that_goes_is_counted_and_its_answer_is_not_sent_on():
    async def work(reader, writer, upstream):
        writer.write(post({"stream": True}))
        await reader.readuntil(b"\r\n\r\n")
        running = upstream.stats.running
        writer.transport.abort()
        while upstream.stats.connections:
            await asyncio.sleep(0)
        return running, upstream.stats

    running, stats = talk(work, Pace(0.001, 20, 30.0))
    assert running == 1
    assert (stats.running, stats.left) == (0, 1)


def test_its_counts_and_what_is_not_there_are_told():
    async def work(reader, writer, upstream):
        writer.write(b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n")
        stats = json.loads((await read_response(reader))[1])
        writer.write(post({}, "/v1/other"))
        return stats, (await read_response(reader))[0]

    stats, head = talk(work, Pace())
    assert stats == {"connections": 1, "requests": 0, "running": 0, "left": 0}
    assert head.startswith("http/1.1 404")


def test_a_known_question_gets_its_answer_and_its_tokens():
    async def work(reader, writer, _upstream):
        bodies = []
        for text in ("Who rows?", "Who else?"):
            writer.write(post({"model": MODEL, "messages": [{"role": "user", "content": text}]}))
            bodies.append(json.loads((await read_response(reader))[1]))
        return bodies

    known, other = talk(work, Pace(0.001), {"Who rows?": "The rowers"})
    assert known["choices"][0]["message"]["content"] == "The rowers"
    assert (known["usage"]["prompt_tokens"], known["usage"]["completion_tokens"]) == (3, 3)
    assert other["choices"][0]["message"]["content"] == TEXT
