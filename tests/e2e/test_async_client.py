"""The asynchronous client against the running server: the same answers as its synchronous twin's."""

import asyncio

import numpy as np
import pytest

from trireme.errors import NotFoundError
from trireme.triton.async_client import AsyncTritonClient

pytestmark = pytest.mark.e2e

QUERY = "what does the dynamic batcher wait for?"


def with_client(stack, act):
    async def run():
        async with AsyncTritonClient(stack.settings.grpc_url) as client:
            return await act(client)

    return asyncio.run(run())


def test_vectors_and_passages_are_those_of_the_synchronous_client(stack, client):
    async def act(other):
        return await asyncio.gather(other.embed([QUERY, "oars"], "query"), other.search(QUERY, 3))

    vectors, hits = with_client(stack, act)
    np.testing.assert_array_equal(vectors, client.embed([QUERY, "oars"], "query"))
    assert [hit.id for hit in hits] == [hit.id for hit in client.search(QUERY, 3)]


def test_many_searches_run_side_by_side(stack, client):
    async def act(other):
        return await asyncio.gather(*(other.search(QUERY, 1) for _ in range(20)))

    assert {hits[0].id for hits in with_client(stack, act)} == {client.search(QUERY, 1)[0].id}


def test_an_error_comes_back_typed(stack):
    async def act(other):
        await other.search(QUERY, collection="none")

    with pytest.raises(NotFoundError, match="no collection 'none'"):
        with_client(stack, act)


def test_an_answer_streams_to_its_last_part(stack):
    async def act(other):
        return [part async for part in other.ask(QUERY, mode="extractive")]

    parts = with_client(stack, act)
    assert parts[-1].usage.answer_mode == "extractive"
    assert [part.usage is None for part in parts[:-1]] == [True] * (len(parts) - 1)


def test_a_stream_that_is_left_leaves_the_server_well(stack, client):
    async def act(other):
        async for _ in other.generate("Once upon a time", sampling={"max_tokens": 64, "ignore_eos": True}):
            break

    for _ in range(3):
        with_client(stack, act)
    assert client.is_ready("llm")
