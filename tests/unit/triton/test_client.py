"""Both clients, the synchronous and the asynchronous one, against a server that a person can predict."""

import asyncio
import contextvars
import dataclasses
import inspect
import json
import threading
import time
from contextlib import closing

import grpc
import pytest

from fakes.grpc_server import response_of, serving
from trireme.errors import (
    InvalidInputError,
    NotFoundError,
    PromptTooLongError,
    TriremeError,
    UnavailableError,
    UnsupportedError,
)
from trireme.rag.ports import Citation
from trireme.triton.async_client import AsyncTritonClient
from trireme.triton.call_route import CallRoute, route_calls
from trireme.triton.client import TritonClient
from trireme.types import Hit

TIMEOUT = 5.0


class Sync:
    """One call of a client of its own; of a stream at most `most` parts."""

    def __init__(self, url, timeout=TIMEOUT):
        self.url, self.timeout, self.route = url, timeout, None

    def call(self, verb, *args, most=None, **options):
        with TritonClient(self.url, self.timeout, self.route) as client:
            answer = getattr(client, verb)(*args, **options)
            if not inspect.isgenerator(answer):
                return answer
            with closing(answer):
                return [one for one, _ in zip(answer, range(most or 100), strict=False)]


class Async(Sync):
    def call(self, verb, *args, most=None, **options):
        async def run():
            async with AsyncTritonClient(self.url, self.timeout, self.route) as client:
                answer = getattr(client, verb)(*args, **options)
                if not inspect.isasyncgen(answer):
                    return await answer
                found = []
                async for one in answer:
                    found.append(one)
                    if len(found) == most:
                        break
                await answer.aclose()
                return found

        return asyncio.run(run())


@pytest.fixture
def server():
    with serving() as (scripted, url):
        scripted.url = url
        yield scripted


@pytest.fixture(params=[Sync, Async])
def client(request, server):
    return request.param(server.url)


def test_texts_go_out_in_batches_and_their_vectors_come_back_in_order(client, server):
    def infer(request, context):
        count = request.inputs[0].shape[0]
        first = request.raw_input_contents[0][4:5].decode()
        return response_of({"embedding": [[float(ord(first) + n)] for n in range(count)]})

    server.infer = infer
    vectors = client.call("embed", list("abcde"), "query", batch_size=2)
    assert vectors[:, 0].tolist() == [97, 98, 99, 100, 101]
    assert client.call("embed", [], "query").shape == (0, 0)
    assert {tuple(request.inputs[1].shape) for request in server.requests} == {(2, 1), (1, 1)}


def test_of_a_model_with_several_outputs_who_wants_vectors_is_sent_no_others(client, server):
    server.infer = lambda request, context: response_of({"embedding": [[1.0]]})
    client.call("embed", ["a"], "query")
    (request,) = server.requests
    # All that a model of vectors alone has: Triton's cache must not keep an answer that lacks one of them.
    assert [one.name for one in request.outputs] == ["embedding", "token_count", "truncated_tokens"]


def test_a_model_that_makes_no_vector_of_a_text_is_named(client, server):
    said = "[request id: <id_unknown>] unexpected inference output 'embedding' for model 'splade'"
    server.infer = lambda request, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, said)
    with pytest.raises(UnsupportedError, match="model 'splade' makes no vector of a text"):
        client.call("embed", ["a"], "query", "splade")


def test_every_call_of_a_model_names_it_to_a_balancer(client, server):
    named = []

    def infer(request, context):
        named.append(dict(context.invocation_metadata()).get("trireme-model"))
        return response_of({"embedding": [[1.0]]})

    def stream(request, context):
        named.append(dict(context.invocation_metadata()).get("trireme-model"))
        return iter([response_of({"x": [[1]]})])

    server.infer, server.stream = infer, stream
    client.call("embed", ["a"], "query")
    client.call("stream", "llm", {"stream": True})
    assert named == ["embedding", "llm"]


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (None, {}),
        (CallRoute("high"), {"trireme-priority": "high"}),
        (CallRoute("batch", stays_near=True), {"trireme-priority": "batch", "trireme-residency": "near"}),
    ],
)
def test_every_call_says_what_its_route_is(client, server, route, said):
    heard = metadata_heard(server)
    client.route = route
    client.call("embed", ["a"], "query")
    client.call("stream", "llm", {"stream": True})
    client.call("is_ready", "embedding")
    assert [ours_of(one) for one in heard] == [said] * 2


def test_the_route_of_a_request_takes_the_place_of_the_clients(client, server):
    heard = metadata_heard(server)
    client.route = CallRoute("high")

    def ask():
        route_calls(CallRoute("normal", stays_near=True))
        client.call("embed", ["a"], "query")
        client.call("embed", ["a"], "query", bulk=True)
        client.call("stream", "llm", {"stream": True})

    contextvars.copy_context().run(ask)
    client.call("embed", ["a"], "query")
    near, bulk = {"trireme-residency": "near"}, {"trireme-priority": "batch", "trireme-residency": "near"}
    assert [ours_of(one) for one in heard] == [near, bulk, near, {"trireme-priority": "high"}]


def metadata_heard(server):
    """What the server hears of each call, from now on."""
    heard = []

    def infer(request, context):
        heard.append(dict(context.invocation_metadata()))
        return response_of({"embedding": [[1.0]]})

    def stream(request, context):
        heard.append(dict(context.invocation_metadata()))
        return iter([response_of({"x": [[1]]})])

    server.infer, server.stream = infer, stream
    return heard


def ours_of(metadata):
    return {name: metadata[name] for name in ("trireme-priority", "trireme-residency") if name in metadata}


def test_bulk_has_its_id_and_its_priority(client, server):
    server.infer = lambda request, context: response_of({"embedding": [[1.0]]})
    client.call("embed", ["a"], "passage", bulk=True)
    client.call("embed", ["a"], "passage")
    bulk, other = server.requests
    assert (bulk.id, bulk.parameters["priority"].uint64_param) == ("bulk", 2)
    assert (other.id, "priority" in other.parameters) == ("", False)


def test_a_search_sends_what_was_given_and_reads_the_passages(client, server):
    columns = {"id": [["1", "2"]], "text": [["a", "b"]], "metadata": [["{}", "{}"]], "score": [[0.5, 0.25]]}
    server.infer = lambda request, context: response_of(columns)
    assert client.call("search", "oars", 2, filter='{"a": 1}') == [
        Hit("1", "a", "{}", 0.5),
        Hit("2", "b", "{}", 0.25),
    ]
    assert [tensor.name for tensor in server.requests[0].inputs] == ["query", "top_k", "filter"]


def test_an_answer_streams_and_its_last_part_has_the_citations(client, server):
    usage = '{"answer_mode": "generative", "prompt_tokens": 3, "of_a_newer_server": 1}'
    citation = Citation(1, "7", "a.md", 0, 1, 0.5, 1.0, "t", "a")
    citations = json.dumps([{**dataclasses.asdict(citation), "of_a_newer_server": 1}])
    last = {"text_output": [""], "citations": [citations], "usage": [usage], "finish_reason": ["stop"]}
    server.stream = lambda request, context: iter(
        [response_of({"text_output": ["Three"]}, is_last=False), response_of(last)]
    )
    first, end = client.call("ask", "how many?", mode="auto", sampling={"max_tokens": 5})
    assert (first.text, first.usage) == ("Three", None)
    assert (end.usage.prompt_tokens, end.finish_reason, end.citations) == (3, "stop", (citation,))
    named = {tensor.name for tensor in server.requests[0].inputs}
    assert named == {"text_input", "stream", "answer_mode", "sampling_parameters"}


def test_generated_text_streams_with_its_counts_at_the_end(client, server):
    parts = [
        {"text_output": ["a"], "finish_reason": [""]},
        {
            "text_output": ["b"],
            "finish_reason": ["stop"],
            "num_input_tokens": [4],
            "num_output_tokens": [2],
            "num_cached_tokens": [3],
            "logprobs": [json.dumps([{"token": "b", "logprob": -0.5, "bytes": [98], "top_logprobs": []}])],
        },
    ]
    server.stream = lambda request, context: iter(
        [response_of(part, is_last=number == 1) for number, part in enumerate(parts)]
    )
    found = client.call("generate", [{"role": "user", "content": "hi"}], "tenant")
    assert [(one.text, one.finish_reason, one.output_tokens, one.cached_tokens) for one in found] == [
        ("a", "", 0, None),
        ("b", "stop", 2, 3),
    ]
    assert [[entry["token"] for entry in one.logprobs] for one in found] == [[], ["b"]]
    assert "return_num_cached_tokens" not in {tensor.name for tensor in server.requests[0].inputs}


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (
            ("INVALID_ARGUMENT", "[request id: <id_unknown>] unexpected shape"),
            InvalidInputError,
            "unexpected",
        ),
        (("INTERNAL", "[NOT_FOUND] no collection 'x'"), NotFoundError, "no collection 'x'"),
        (("INTERNAL", "[INVALID_ARG] [PROMPT_TOO_LONG] 99 tokens"), PromptTooLongError, "99 tokens"),
        (("INTERNAL", "broken"), TriremeError, "broken"),
        (("INTERNAL", "the stub is not healthy"), UnavailableError, "lost a process"),
        (("UNAVAILABLE", "Socket closed"), UnavailableError, "did not answer"),
    ],
)
def test_an_error_comes_back_typed(client, server, fault, kind, said):
    server.infer = lambda request, context: context.abort(grpc.StatusCode[fault[0]], fault[1])
    with pytest.raises(kind, match=said) as caught:
        client.call("infer", "search", {"query": [["a"]]})
    assert type(caught.value) is kind
    assert not str(caught.value).startswith("[")


def test_an_error_within_a_stream_ends_it_typed(client, server):
    server.stream = lambda request, context: iter(
        [response_of({"x": [1]}, is_last=False), "[UNAVAILABLE] the engine ended"]
    )
    with pytest.raises(UnavailableError, match="the engine ended"):
        client.call("stream", "llm", {"text_input": "a"})


def test_a_stream_that_ends_before_its_last_response_is_no_answer(client, server):
    server.stream = lambda request, context: iter([response_of({"x": [1]}, is_last=False)])
    with pytest.raises(UnavailableError, match="before its last response"):
        client.call("stream", "llm", {"text_input": "a"})


@pytest.mark.parametrize(
    ("begins", "said"), [(True, "was lost after the answer had begun"), (False, "did not answer")]
)
def test_a_server_that_is_lost_before_the_first_part_of_a_stream_is_told_from_one_lost_behind_it(
    client, server, begins, said
):
    def stream(request, context):
        if begins:
            yield response_of({"x": [1]}, is_last=False)
        context.abort(grpc.StatusCode.UNAVAILABLE, "as told")

    server.stream = stream
    with pytest.raises(UnavailableError, match=said):
        client.call("stream", "llm", {"text_input": "a"})


def test_a_stream_that_is_silent_is_given_up(server):
    goes_on = threading.Event()

    def wait(request, context):
        goes_on.wait(60)
        yield response_of({"x": [1]})

    server.stream = wait
    for kind in (Sync, Async):
        with pytest.raises(UnavailableError, match="model llm sent nothing for 0 s"):
            kind(server.url, timeout=0.2).call("stream", "llm", {"text_input": "a"})
    goes_on.set()


def test_leaving_a_stream_ends_it_at_the_server(client, server):
    left = threading.Event()

    def write(request, context):
        context.add_callback(left.set)
        while context.is_active() and not left.wait(0.01):
            yield response_of({"x": [1]}, is_last=False)

    server.stream = write
    assert len(client.call("stream", "llm", {"text_input": "a"}, most=2)) == 2
    assert left.wait(60)


def test_a_stream_that_was_read_to_its_end_is_not_cancelled(client, server):
    """The server learns of a cancel that a client sends with or after the last response."""
    codes = []

    def write(request, context):
        yield response_of({"x": [1]}, is_last=False)
        yield response_of({"x": [2]})
        # A client that cancels now is seen here; one that waits for the status is not.
        time.sleep(0.05)
        codes.append(context.is_active())

    server.stream = write
    assert len(client.call("stream", "llm", {"text_input": "a"})) == 2
    deadline = time.monotonic() + 60
    while not codes and time.monotonic() < deadline:
        time.sleep(0.001)
    assert codes == [True]


def test_an_empty_answer_of_the_cache_is_refused(client, server):
    server.infer = lambda request, context: response_of({})
    with pytest.raises(InvalidInputError, match="TRIREME_RESPONSE_CACHE_BYTES"):
        client.call("infer", "search", {"query": [["a"]]})


def test_readiness_is_asked_of_the_server_and_of_a_model(client):
    assert client.call("is_ready")
    assert client.call("is_ready", "embedding")
    assert not client.call("is_ready", "other")


@pytest.mark.parametrize("kind", [Sync, Async])
def test_where_no_server_is_the_error_says_how_to_start_one(kind):
    nobody = kind("127.0.0.1:1")
    assert not nobody.call("is_ready")
    with pytest.raises(UnavailableError, match=r"no server answers at 127\.0\.0\.1:1; start one with: make"):
        nobody.call("infer", "search", {"query": [["a"]]})
    with pytest.raises(UnavailableError, match="no server answers"):
        nobody.call("stream", "llm", {"text_input": "a"})


def test_many_calls_share_one_loop(server):
    async def run():
        async with AsyncTritonClient(server.url, TIMEOUT) as client:
            answers = [client.infer("m", {"text": [[str(n)]]}) for n in range(50)]
            return await asyncio.gather(*answers)

    server.infer = lambda request, context: response_of({"x": [[int(request.raw_input_contents[0][4:])]]})
    assert [one["x"][0, 0] for one in asyncio.run(run())] == list(range(50))


def test_a_cancelled_task_cancels_its_stream(server):
    left, begun = threading.Event(), threading.Event()

    def write(request, context):
        context.add_callback(left.set)
        yield response_of({"x": [1]}, is_last=False)
        begun.set()
        left.wait(60)

    server.stream = write

    async def run():
        async with AsyncTritonClient(server.url, TIMEOUT) as client:

            async def read():
                async for _ in client.stream("llm", {"text_input": "a"}):
                    pass

            task = asyncio.create_task(read())
            await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert left.wait(60)
