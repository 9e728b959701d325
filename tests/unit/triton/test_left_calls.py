"""Calls that are left at every moment of their life: nothing of them stays, on either side."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest

from fakes.grpc_server import response_of, serving
from trireme.errors import DeadlineError, UnavailableError
from trireme.triton.async_client import AsyncTritonClient

# Steps of the event loop after which a call is left: before it is sent, while it is, while it is worked on.
STEPS = range(60)


class Held:
    """Counts the requests that the server works on; each waits until its client has gone, or `release`."""

    def __init__(self, scripted):
        self.open, self.changed = 0, threading.Condition()
        self.release = threading.Event()
        scripted.infer = self.infer
        scripted.stream = self.stream

    def wait(self, context):
        gone = threading.Event()
        if context.add_callback(gone.set):
            with self.changed:
                self.open += 1
            while not (gone.wait(0.01) or self.release.is_set()):
                pass
            with self.changed:
                self.open -= 1
                self.changed.notify_all()

    def infer(self, request, context):
        self.wait(context)
        return response_of({"x": [[1]]})

    def stream(self, request, context):
        self.wait(context)
        yield response_of({"x": [1]})

    def is_empty(self):
        with self.changed:
            return self.changed.wait_for(lambda: self.open == 0, 30)


@pytest.fixture
def server():
    with serving() as (scripted, url):
        scripted.url, scripted.held = url, Held(scripted)
        yield scripted
        scripted.held.release.set()


def remember(client, name, calls):
    """Every call that the client makes from now on is in `calls`, for as long as something holds it."""
    make = getattr(client._stub, name)

    def made(*args, **options):
        call = make(*args, **options)
        calls.append(weakref.ref(call))
        return call

    setattr(client._stub, name, made)


async def drain(client):
    async for _ in client.stream("m", {"x": "a"}):
        pass


async def ask(client):
    await client.infer("m", {"x": [["a"]]})


@pytest.mark.parametrize(("name", "act"), [("ModelStreamInfer", drain), ("ModelInfer", ask)])
def test_a_call_that_is_left_at_any_moment_is_freed(server, name, act):
    calls = []

    async def run():
        async with AsyncTritonClient(server.url, 30.0) as client:
            assert await client.is_ready()
            remember(client, name, calls)
            for steps in STEPS:
                task = asyncio.create_task(act(client))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            assert await asyncio.to_thread(server.held.is_empty)
            assert len(asyncio.all_tasks()) == 1
            gc.collect()
            return sum(call() is not None for call in calls)

    assert asyncio.run(run()) == 0
    assert len(calls) > len(STEPS) // 2


@pytest.mark.parametrize("act", [drain, ask])
def test_a_connection_that_is_closed_under_a_request_is_its_error(server, act):
    async def run():
        client = AsyncTritonClient(server.url, 30.0)
        assert await client.is_ready()
        task = asyncio.create_task(act(client))
        for _ in STEPS:
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(UnavailableError):
            await task

    asyncio.run(run())
    assert server.held.is_empty()


def test_a_stream_that_is_silent_is_ended_at_the_server(server):
    async def run():
        async with AsyncTritonClient(server.url, 30.0) as client:
            with pytest.raises(DeadlineError, match="model m sent nothing for 0 s"):
                async for _ in client.stream("m", {"x": "a"}, patience=lambda: 0.2):
                    pass
            assert await asyncio.to_thread(server.held.is_empty)

    asyncio.run(run())
