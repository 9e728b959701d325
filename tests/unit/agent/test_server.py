"""A whole agent over a fake server: health checks, load reports, HTTP, and what a drain does to them."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from fakes.ports import free_ports
from fakes.triton_replica import serving_replica
from trireme.agent.client import drain, read_readiness
from trireme.agent.options import AgentOptions
from trireme.agent.routes import build_app
from trireme.agent.server import Agent
from trireme.errors import SettingError, UnavailableError
from trireme.scale.orca import METHOD, SERVICE, message_classes

SERVING, NOT_SERVING = 1, 2
BACKLOG = 'trireme_backlog_seconds{model="a"} 3\nvllm:num_requests_running{model="a"} 1\n'


@pytest.fixture
def replica():
    with serving_replica("a", "b") as running:
        yield running


@asynccontextmanager
async def agent_over(replica, **changes):
    port, http_port = free_ports(2)
    # A machine that does other things must not look like a server that hangs.
    given = {"poll": 0.05, "answer": 20.0, "health_interval": 0.05, "settle": 0.1, "target": 2.0}
    options = AgentOptions(
        server=replica.address,
        metrics_url=replica.metrics_url,
        port=port,
        http_port=http_port,
        **given | changes,
    )
    agent = Agent(options)
    await agent.start()
    agent.http = f"127.0.0.1:{http_port}"
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield agent, channel
    finally:
        await agent.close()


async def status(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)).status


async def until(check, seconds=60):
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.02)


async def reach(channel, wanted):
    async def has():
        return await status(channel) == wanted

    await until(has)


def get(agent, path, method="GET"):
    request = urllib.request.Request(f"http://{agent.http}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def read_metrics(agent):
    _, text = get(agent, "/metrics")
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_health_follows_the_server_and_says_why_not(replica):
    async def run():
        async with agent_over(replica) as (agent, channel):
            await reach(channel, SERVING)
            code, body = await asyncio.to_thread(get, agent, "/ready")
            assert (code, json.loads(body)["reasons"]) == (200, [])
            replica.unready.add("b")
            await reach(channel, NOT_SERVING)
            code, body = await asyncio.to_thread(get, agent, "/ready")
            said = json.loads(body)
            assert (code, said["ready"], said["draining"]) == (503, False, False)
            assert [(one["kind"], one["model"]) for one in said["reasons"]] == [("model_not_ready", "b")]
            replica.unready.clear()
            await reach(channel, SERVING)
            replica.stop_grpc()
            await reach(channel, NOT_SERVING)
            found = await asyncio.to_thread(read_metrics, agent)
            assert found["trireme_replica_ready",] == 0
            assert found["trireme_replica_fault", "server_away"] == 1
            assert found["trireme_replica_fault_seconds", "server_away"] > 0
            assert found["trireme_replica_polls_total", "server_away"] >= 1
            assert found["trireme_replica_polls_total", "ok"] >= 1

    asyncio.run(run())


def test_a_server_that_hangs_is_out_after_as_many_looks_as_were_told(replica):
    async def run():
        async with agent_over(replica, misses=3, answer=0.5) as (agent, channel):
            await reach(channel, SERVING)
            replica.hangs.set()
            await reach(channel, NOT_SERVING)
            # On a slow machine there may have been more looks by now.
            assert agent.replica.polls["server_silent"] >= 3
            replica.hangs.clear()
            await reach(channel, SERVING)

    asyncio.run(run())


def test_whoever_watches_hears_of_each_change(replica):
    async def run():
        async with agent_over(replica) as (agent, channel):
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
            heard = [(await watch.read()).status]
            while heard[-1] != SERVING:
                heard.append((await watch.read()).status)
            agent.drain.begin()
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()

    asyncio.run(run())


def test_load_reports_tell_waiting_work_by_the_target(replica):
    request_class, report_class = message_classes()
    replica.page = BACKLOG

    async def run():
        async with agent_over(replica) as (_, channel):
            await reach(channel, SERVING)
            call = channel.unary_stream(
                f"/{SERVICE}/{METHOD}",
                request_serializer=request_class.SerializeToString,
                response_deserializer=report_class.FromString,
            )(request_class(), timeout=60)
            report = await call.read()
            call.cancel()
            assert report.application_utilization == 1.5
            assert report.named_metrics["requests_in_flight"] == 1.0

    asyncio.run(run())


def test_a_drain_waits_for_the_last_request_and_is_one_for_all_who_ask(replica):
    replica.page = BACKLOG

    async def run():
        async with agent_over(replica) as (agent, channel):
            await reach(channel, SERVING)
            first = await asyncio.to_thread(drain, agent.http, 0.3)
            assert (first.is_empty, first.running, first.was_draining) == (False, 1, False)
            assert await status(channel) == NOT_SERVING
            waiting = asyncio.create_task(asyncio.to_thread(drain, agent.http, 60.0))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            replica.page = ""
            second = await waiting
            assert (second.is_empty, second.running, second.was_draining) == (True, 0, True)
            said = await asyncio.to_thread(read_readiness, agent.http)
            assert (said.is_ready, said.is_draining) == (False, True)
            found = await asyncio.to_thread(read_metrics, agent)
            assert found["trireme_replica_draining",] == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/drain", 405),
        ("POST", "/drain?seconds=-1", 400),
        ("POST", "/drain?seconds=nan", 400),
        ("POST", "/drain?seconds=soon", 400),
        ("GET", "/else", 404),
    ],
)
def test_what_is_no_call_of_the_agent_drains_nothing(replica, method, path, expected):
    async def run():
        async with agent_over(replica) as (agent, _):
            code, _ = await asyncio.to_thread(get, agent, path, method)
            assert code == expected
            assert not agent.replica.is_draining

    asyncio.run(run())


async def post_drain(agent, caller):
    """Status of POST /drain as from that address."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/drain", "query_string": b"seconds=0"}
    app = build_app(agent.replica, agent.drain, None, agent._options)
    await app({**scope, "headers": [(b"x-forwarded-for", b"127.0.0.1")], "client": caller}, receive, send)
    return sent[0]["status"]


def test_only_its_own_machine_drains_an_agent(replica):
    async def run():
        async with agent_over(replica) as (agent, _):
            for host in ("10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1", "localhost", ""):
                assert await post_drain(agent, (host, 1)) == 403
            assert await post_drain(agent, None) == 403
            assert not agent.replica.is_draining
            for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
                assert await post_drain(agent, (host, 1)) == 200
            assert agent.replica.is_draining

    asyncio.run(run())


def test_a_port_in_use_is_named_by_its_flag(replica):
    async def start(**ports):
        await Agent(AgentOptions(server=replica.address, metrics_url=replica.metrics_url, **ports)).start()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = free_ports(1)[0]
        with pytest.raises(SettingError, match="--port"):
            asyncio.run(start(port=port, http_port=free))
        with pytest.raises(SettingError, match="--http-port"):
            asyncio.run(start(port=free, http_port=port))


def test_an_agent_that_can_look_no_more_says_so(replica, monkeypatch):
    async def run():
        async with agent_over(replica) as (agent, _):

            async def fail():
                raise RuntimeError("blind")

            monkeypatch.setattr(agent._probe, "look", fail)
            async with asyncio.timeout(60):
                with pytest.raises(RuntimeError, match="blind"):
                    await agent.failed()

    asyncio.run(run())


def test_where_no_agent_answers_the_client_says_so():
    [port] = free_ports(1)
    with pytest.raises(UnavailableError, match="trireme agent"):
        read_readiness(f"127.0.0.1:{port}")
    with pytest.raises(UnavailableError, match="trireme agent"):
        drain(f"127.0.0.1:{port}", 1.0)
