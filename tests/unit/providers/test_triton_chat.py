"""The provider over our own server, against a server that a person can predict."""

import asyncio
import json
import threading

import pytest

from fakes.grpc_server import config_of, response_of, serving
from trireme.errors import InvalidInputError, UnsupportedError
from trireme.providers.chat import (
    ChatCall,
    Findings,
    Finished,
    Message,
    Source,
    Sources,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolDelta,
    ToolResult,
    ToolStart,
    ToolUse,
    Usage,
)
from trireme.providers.models import ServedModel
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.triton_chat import GRACE_SECONDS, TritonChat, provider_error
from trireme.triton.async_client import AsyncTritonClient

LIMITS = AttemptLimits()
CITATION = {
    "number": 1,
    "id": "a#0",
    "source": "a.md",
    "start": 0,
    "end": 4,
    "score": 0.5,
    "support": 1.0,
    "text": "Oars",
}
USAGE = {"answer_mode": "extractive", "prompt_tokens": 0, "completion_tokens": 0, "newer": 1}  # fmt: skip


@pytest.fixture
def server():
    with serving() as (scripted, url):
        scripted.url = url
        scripted.configs = {
            "llm": config_of("llm", backend="generator"),
            "rag": config_of("rag", backend="rag", inputs=["text_input", "rerank_depth"]),
            "old_rag": config_of("old_rag", backend="rag", inputs=["text_input"]),
            "caller": config_of("caller", backend="generator", inputs=["messages", "return_tool_calls"]),
            "embedding": config_of("embedding", backend="text_encoder", inputs=["text"]),
            "search__sort": config_of("search__sort", backend="sort"),
        }
        yield scripted


def piece(text, reason="", counts=(5, 2), index=None, is_last=True):
    outputs = {"text_output": [text], "finish_reason": [reason]}
    if reason:
        outputs |= {"num_input_tokens": [counts[0]], "num_output_tokens": [counts[1]]}
    if index is not None:
        outputs["index"] = [index]
    return response_of(outputs, is_last=bool(reason) and is_last)


def call_of(text="hello", **changes):
    values = {"surface": "openai", "model": "llm", "messages": (Message("user", (Text(text),)),)}
    return ChatCall(**{**values, "tenant": "acme", "user": "ann", **changes})


async def with_provider(server, act, models=()):
    provider = TritonChat(AsyncTritonClient(server.url, 10.0))
    if models:
        provider.learn(models)
    try:
        return await act(provider)
    finally:
        await provider.close()


def chat(server, call, model="llm", limits=LIMITS):
    async def act(provider):
        return [event async for event in provider.chat(call, model, limits)]

    return asyncio.run(with_provider(server, act))


def error_of(server, call, model="llm", limits=LIMITS):
    """The error, and the events before it."""
    seen = []

    async def act(provider):
        async for event in provider.chat(call, model, limits):
            seen.append(event)

    with pytest.raises(ProviderError) as found:
        asyncio.run(with_provider(server, act))
    return found.value, seen


def inputs_of(request):
    return {
        tensor.name: raw[4:].decode() if tensor.datatype == "BYTES" else bool(raw[0])
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        if tensor.datatype in ("BYTES", "BOOL")
    }


def test_a_streamed_chat_becomes_events(server):
    server.stream = lambda request, context: iter([piece("Hel"), piece("lo"), piece("", "stop")])
    assert chat(server, call_of(stream=True)) == [
        Started("llm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        Usage(5, 2),
        Finished("stop"),
    ]
    assert inputs_of(server.requests[0])["stream"] is True


def test_a_whole_chat_is_one_piece_of_text(server):
    server.stream = lambda request, context: iter([piece("Hello", "length")])
    assert chat(server, call_of()) == [Started("llm"), TextDelta("Hello"), Usage(5, 2), Finished("length")]
    assert inputs_of(server.requests[0])["stream"] is False


def test_several_answers_keep_their_numbers_and_have_one_usage(server):
    said = [
        piece("a", index=1),
        piece("b", index=0),
        piece("c", "stop", index=1, is_last=False),
        piece("d", "length", index=0),
    ]
    server.stream = lambda request, context: iter(said)
    assert chat(server, call_of(stream=True, choices=2)) == [
        Started("llm"),
        TextDelta("a", 1),
        TextDelta("b"),
        TextDelta("c", 1),
        Usage(5, 2),
        Finished("stop", 1),
        TextDelta("d"),
        Usage(5, 4),
        Finished("length"),
    ]
    assert json.loads(inputs_of(server.requests[0])["sampling_parameters"])["n"] == 2


def test_of_several_answers_one_that_has_no_end_is_cut(server):
    server.stream = lambda request, context: iter([piece("b", index=0), piece("a", "stop", index=1)])
    error, _ = error_of(server, call_of(stream=True, choices=2))
    assert error.kind == "cut"


@pytest.mark.parametrize(
    ("last", "reason", "text", "finished"),
    [
        ("lo##", "stop", "lo", Finished("stop_sequence", stop_sequence="##")),
        ("#", "stop", "", Finished("stop_sequence", stop_sequence="#")),
        ("lo", "stop", "lo", Finished("stop")),
        ("lo#", "length", "lo#", Finished("length")),
    ],
)
def test_a_stop_string_is_named_and_is_no_part_of_the_text(server, last, reason, text, finished):
    server.stream = lambda request, context: iter([piece("Hel"), piece(last, reason)])
    events = chat(server, call_of(stream=True, stop=("#", "##")))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hel" + text
    assert events[-1] == finished


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (
            "response_format.json_schema.schema has 'not', which an answer cannot be held to",
            "response_format",
        ),
        ("structured_outputs.regex must be a string", "structured_outputs"),
        ("tools: their schema has 'not'", "tools"),
        ("stop_token_ids holds 9", ""),
        ("the prompt of messages is empty", ""),
    ],
)
def test_an_error_that_begins_with_a_field_names_it(text, param):
    assert provider_error(InvalidInputError(text), has_content=False).param == param


def test_the_call_goes_out_with_its_tenant_its_user_and_every_parameter(server):
    server.stream = lambda request, context: iter([piece("x", "stop")])
    turns = (
        Message("system", (Text("be brief"),)),
        Message("assistant", (Thinking("hm"), Thinking("theirs", "signed"), Text("hi"))),
        Message("user", (Text("a"), Text("b")), name="bob"),
    )
    chat(server, call_of(messages=turns, max_tokens=9, temperature=0.5, top_p=0.9, top_k=3, seed=1, stop=("x", "y"),
                         presence_penalty=0.1, frequency_penalty=0.2))  # fmt: skip
    (request,) = server.requests
    sent = inputs_of(request)
    assert json.loads(sent["messages"]) == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "hi", "reasoning_content": "hm"},
        {"role": "user", "content": "a\nb", "name": "bob"},
    ]
    assert json.loads(sent["sampling_parameters"]) == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 1,
        "stop": ["x", "y"],
        "include_stop_str_in_output": True,
    }
    assert sent["tenant"] == "acme"
    assert request.parameters["trireme_user"].string_param == "ann"


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        ({"type": "json_object"}, {"response_format": {"type": "json_object"}}),
        (
            {"type": "structured_outputs", "structured_outputs": {"regex": "a+"}},
            {"structured_outputs": {"regex": "a+"}},
        ),
    ],
)
def test_the_form_of_an_answer_goes_out_under_the_name_that_it_came_with(server, form, sent):
    server.stream = lambda request, context: iter([piece("x", "stop")])
    chat(server, call_of(response_format=form))
    assert json.loads(inputs_of(server.requests[0])["sampling_parameters"]) == sent


def test_a_completion_sends_its_prompt_as_it_is(server):
    server.stream = lambda request, context: iter([piece("x", "stop")])
    chat(server, ChatCall("completions", "llm", prompt="once", tenant="acme"))
    sent = inputs_of(server.requests[0])
    assert (sent["text_input"], sent["exclude_input_in_output"]) == ("once", True)
    assert "messages" not in sent


FLAG = "return_num_cached_tokens"
NEWER = ["text_input", "messages", FLAG]


def is_flagged(request):
    return inputs_of(request).get(FLAG, False)


@pytest.mark.parametrize("is_learned", [False, True])
def test_a_model_that_takes_the_question_says_what_its_prefix_cache_had(server, is_learned):
    server.configs["llm"] = config_of("llm", backend="generator", inputs=NEWER)
    counts = {"num_input_tokens": [5], "num_output_tokens": [2], "num_cached_tokens": [4]}
    last = {"text_output": ["x"], "finish_reason": ["stop"], **counts}
    server.stream = lambda request, context: iter([response_of(last)])

    async def act(provider):
        return [event async for event in provider.chat(call_of(), "llm", LIMITS)]

    known = [ServedModel("llm", "chat", True, takes_cached_flag=True)] if is_learned else ()
    assert Usage(5, 2, 4) in asyncio.run(with_provider(server, act, known))
    assert is_flagged(server.requests[0])


@pytest.mark.parametrize("is_learned", [False, True])
def test_an_older_model_is_not_asked_for_what_it_does_not_know(server, is_learned):
    server.stream = lambda request, context: iter([piece("x", "stop")])

    async def act(provider):
        return [event async for event in provider.chat(call_of(), "llm", LIMITS)]

    known = [ServedModel("llm", "chat", True)] if is_learned else ()
    assert Usage(5, 2, None) in asyncio.run(with_provider(server, act, known))
    assert not is_flagged(server.requests[0])


def test_a_model_that_was_replaced_by_an_older_one_is_asked_no_more(server):
    server.stream = lambda request, context: iter([piece("x", "stop")])

    async def act(provider):
        for takes in (True, False):
            provider.learn([ServedModel("llm", "chat", True, takes_cached_flag=takes)])
            assert [event async for event in provider.chat(call_of(), "llm", LIMITS)]

    asyncio.run(with_provider(server, act))
    assert [is_flagged(request) for request in server.requests] == [True, False]


def logged(*tokens, top=()):
    rows = [
        {"token": one, "logprob": -0.5, "bytes": list(one.encode()), "top_logprobs": list(top)}
        for one in tokens
    ]
    return tuple(rows)


def logged_piece(text, *tokens, reason=""):
    outputs = {"text_output": [text], "finish_reason": [reason], "logprobs": [json.dumps(logged(*tokens))]}
    return response_of(outputs, is_last=bool(reason))


@pytest.fixture
def newer(server):
    """A server whose generator says log-probabilities, with alternatives."""
    server.configs["llm"] = config_of("llm", backend="generator", outputs=["logprobs"], engine="vllm")
    return server


@pytest.mark.parametrize("most", [0, 3])
def test_log_probabilities_are_asked_for_and_come_with_their_text(newer, most):
    newer.stream = lambda request, context: iter(
        [logged_piece("ab", "a", "b"), logged_piece("c", "c", reason="stop")]
    )
    found = chat(newer, call_of(stream=True, logprobs=most))
    assert found[1:3] == [TextDelta("ab", logprobs=logged("a", "b")), TextDelta("c", logprobs=logged("c"))]
    sent = json.loads(inputs_of(newer.requests[0])["sampling_parameters"])
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, most)


def test_a_stop_string_that_is_taken_from_the_text_takes_its_entries_along(newer):
    last = logged_piece("one# end", "one", "# e", "nd", reason="stop")
    newer.stream = lambda request, context: iter([last])
    found = chat(newer, call_of(logprobs=0, stop=(" end",)))
    assert found[1] == TextDelta("one#", logprobs=logged("one", "#"))
    assert found[-1] == Finished("stop_sequence", stop_sequence=" end")


@pytest.mark.parametrize("is_learned", [False, True])
def test_more_alternatives_than_the_engine_names_are_a_fault_by_name(server, is_learned):
    server.configs["llm"] = config_of("llm", backend="generator", outputs=["logprobs"], engine="openvino")
    server.stream = lambda request, context: iter([logged_piece("a", "a", reason="stop")])

    async def act(provider):
        taken = [event async for event in provider.chat(call_of(logprobs=0), "llm", LIMITS)]
        assert TextDelta("a", logprobs=logged("a")) in taken
        with pytest.raises(
            ProviderError, match="top_logprobs: the engine of model 'llm' names no alternatives"
        ):
            [event async for event in provider.chat(call_of(logprobs=1), "llm", LIMITS)]

    known = [ServedModel("llm", "chat", True, alternatives=0)] if is_learned else ()
    asyncio.run(with_provider(server, act, known))
    assert len(server.requests) == 1


def test_an_older_model_is_not_asked_for_log_probabilities(server):
    error, events = error_of(server, call_of(logprobs=0))
    assert (error.remedy, error.kind, events, server.requests) == ("next", "invalid", [], [])
    assert "older" in str(error)


def test_an_answer_says_the_log_probabilities_of_its_llm_in_its_details(server):
    usage = USAGE | {"token_logprobs": [-0.5, -1.25]}
    last = {
        "text_output": ["x"],
        "citations": ["[]"],
        "usage": [json.dumps(usage)],
        "finish_reason": ["stop"],
    }
    server.stream = lambda request, context: iter([response_of(last)])
    found = chat(server, call_of(logprobs=0), "rag")
    assert [event.details["token_logprobs"] for event in found if isinstance(event, Sources)] == [
        [-0.5, -1.25]
    ]
    assert json.loads(inputs_of(server.requests[0])["sampling_parameters"])["logprobs"] is True


@pytest.mark.parametrize("cached", [None, 3])
def test_an_answer_says_what_the_prefix_cache_of_its_llm_had(server, cached):
    usage = USAGE | {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": cached}
    last = {
        "text_output": ["x"],
        "citations": ["[]"],
        "usage": [json.dumps(usage)],
        "finish_reason": ["stop"],
    }
    server.stream = lambda request, context: iter([response_of(last)])
    assert Usage(5, 2, cached) in chat(server, call_of(), "rag")


def test_an_answer_has_its_sources_and_its_usage_as_rag_says_it(server):
    cited = [CITATION, {**CITATION, "number": 2, "document": "a"}]
    last = {"text_output": [""], "citations": [json.dumps(cited)], "usage": [json.dumps(USAGE)],
            "finish_reason": ["stop"]}  # fmt: skip
    server.stream = lambda request, context: iter(
        [response_of({"text_output": ["Oars."]}, is_last=False), response_of(last)]
    )
    call = call_of(
        stream=True, collection="docs", passages=3, answer_mode="extractive", max_tokens=4, stop=("#",)
    )
    assert chat(server, call, "rag") == [
        Started("rag"),
        TextDelta("Oars."),
        Sources(
            (
                # Of an older rag, and of this one.
                Source(1, "a#0", "a.md", 0, 4, 0.5, 1.0, "Oars"),
                Source(2, "a#0", "a.md", 0, 4, 0.5, 1.0, "Oars", "a"),
            ),
            USAGE,
        ),
        Usage(0, 0),
        Finished("stop"),
    ]
    sent = inputs_of(server.requests[0])
    assert (sent["text_input"], sent["tenant"], sent["collection"]) == ("hello", "acme", "docs")
    assert (sent["answer_mode"], json.loads(sent["sampling_parameters"])) == (
        "extractive",
        {"max_tokens": 4, "stop": ["#"]},
    )
    assert server.requests[0].parameters["trireme_user"].string_param == "ann"


def test_an_answer_is_told_how_many_passages_it_may_rerank_and_a_chat_is_not(server):
    last = {"text_output": [""], "citations": ["[]"], "usage": [json.dumps(USAGE)], "finish_reason": ["stop"]}
    server.stream = lambda request, context: iter([response_of(last)])
    for depth in (0, 7, None):
        chat(server, call_of(rerank_depth=depth), "rag")
    depths = [
        [
            int.from_bytes(raw, "little")
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            if tensor.name == "rerank_depth"
        ]
        for request in server.requests
    ]
    assert depths == [[0], [7], []]
    server.stream = lambda request, context: iter([piece("x", "stop")])
    chat(server, call_of(rerank_depth=0))
    assert "rerank_depth" not in {tensor.name for tensor in server.requests[-1].inputs}


@pytest.mark.parametrize("is_told", [False, True])
def test_a_rag_model_that_takes_no_depth_is_sent_none_though_another_of_its_chain_does(server, is_told):
    last = {"text_output": [""], "citations": ["[]"], "usage": [json.dumps(USAGE)], "finish_reason": ["stop"]}
    server.stream = lambda request, context: iter([response_of(last)])
    models = [
        ServedModel("rag", "answer", True, takes_rerank_depth=True),
        ServedModel("old_rag", "answer", True),
    ]

    async def act(provider):
        for model in ("rag", "old_rag"):
            async for _ in provider.chat(call_of(rerank_depth=0), model, LIMITS):
                pass

    asyncio.run(with_provider(server, act, models if is_told else ()))
    names = [{tensor.name for tensor in request.inputs} for request in server.requests]
    assert ["rerank_depth" in one for one in names] == [True, False]


def test_the_server_is_told_how_long_an_answer_may_take(server):
    left = []

    def stream(request, context):
        left.append(context.time_remaining())
        yield piece("x", "stop")

    server.stream = stream
    chat(server, call_of(), limits=AttemptLimits(first=5.0, between=5.0, total=7.0))
    # gRPC rounds up.
    assert 0 < left[0] <= 7.0 + GRACE_SECONDS + 0.2


def test_what_a_model_can_do_is_asked_once_and_what_was_learned_is_not_asked(server):
    server.stream = lambda request, context: iter([piece("x", "stop")])

    async def act(provider):
        for _ in range(2):
            assert [event async for event in provider.chat(call_of(), "llm", LIMITS)]

    asyncio.run(with_provider(server, act))
    assert server.config_questions == ["llm"]
    asyncio.run(with_provider(server, act, [ServedModel("llm", "chat", True)]))
    assert server.config_questions == ["llm"]


def test_a_fault_is_found_without_asking_anybody(server):
    async def act(provider):
        assert provider.find_fault(call_of(choices=17), "llm").startswith("n:")
        assert provider.find_fault(call_of(), "llm") == ""
        assert "exactly one message" in provider.find_fault(call_of(messages=()), "rag")
        assert "embeds texts" in provider.find_fault(call_of(), "embedding")

    abilities = {"llm": "chat", "rag": "answer", "embedding": "embed"}
    known = [ServedModel(name, ability, True) for name, ability in abilities.items()]
    asyncio.run(with_provider(server, act, known))
    assert server.config_questions == server.requests == []


def test_a_call_that_cannot_be_done_is_not_sent(server):
    error, events = error_of(server, call_of(choices=17))
    assert (error.remedy, error.kind, events, server.requests) == ("next", "invalid", [], [])
    error, _ = error_of(server, call_of(), "embedding")
    assert (error.remedy, error.kind) == ("next", "invalid")
    for name in ("none", "search__sort"):
        error, _ = error_of(server, call_of(), name)
        assert (error.remedy, error.kind, str(error)) == (
            "next",
            "not_found",
            f"no model {name!r} is served here",
        )


@pytest.mark.parametrize(
    ("said", "remedy", "kind"),
    [
        ("[INVALID_ARG] max_tokens must be a number", "give_up", "invalid"),
        ("[INVALID_ARG] [PROMPT_TOO_LONG] the prompt has 9 tokens", "larger", "too_long"),
        ("[UNSUPPORTED] no", "give_up", "invalid"),
        ("[NOT_FOUND] no collection 'x'", "give_up", "not_found"),
        ("[UNAVAILABLE] the queue is full", "again", "overloaded"),
        ("Stub process 'llm_0' is not healthy.", "again", "overloaded"),
        ("[INTERNAL] internal error in model llm", "next", "internal"),
    ],
)
def test_an_error_says_what_may_be_done(server, said, remedy, kind):
    server.stream = lambda request, context: iter([said])
    error, events = error_of(server, call_of())
    assert (error.remedy, error.kind, events) == (remedy, kind, [])
    assert "[" not in str(error)


def test_an_answer_that_breaks_off_is_cut(server):
    server.stream = lambda request, context: iter([piece("half"), "[UNAVAILABLE] the engine died"])
    error, events = error_of(server, call_of(stream=True))
    assert (error.remedy, error.kind) == ("again", "cut")
    assert events == [Started("llm"), TextDelta("half")]


def test_a_stream_without_its_last_response_is_cut(server):
    server.stream = lambda request, context: iter([piece("half")])
    error, _ = error_of(server, call_of(stream=True))
    assert error.kind == "cut"


@pytest.mark.parametrize("last", [piece("lf", "cancelled"), response_of({})])
def test_an_answer_that_the_server_ends_without_a_reason_of_its_own_is_cut(server, last):
    server.stream = lambda request, context: iter([piece("ha"), last])
    error, _ = error_of(server, call_of(stream=True))
    assert (error.remedy, error.kind) == ("again", "cut")


def test_where_no_server_is_the_next_target_may_answer():
    async def act():
        provider = TritonChat(AsyncTritonClient("127.0.0.1:1"))
        try:
            return [event async for event in provider.chat(call_of(), "llm", LIMITS)]
        finally:
            await provider.close()

    with pytest.raises(ProviderError) as found:
        asyncio.run(act())
    assert (found.value.remedy, found.value.kind) == ("next", "connect")


@pytest.mark.parametrize(
    ("first", "limits", "said"),
    [
        ((), AttemptLimits(first=0.2, between=30, total=60), "sent nothing for 0 s"),
        (("a",), AttemptLimits(first=30, between=0.2, total=60), "sent nothing for 0 s"),
        (("a",), AttemptLimits(first=30, between=30, total=3.0), "did not end its answer within 3 s"),
    ],
)
def test_each_limit_of_an_attempt_ends_it_and_cancels_the_request(server, first, limits, said):
    is_gone = threading.Event()

    def stream(request, context):
        context.add_callback(is_gone.set)
        yield from map(piece, first)
        is_gone.wait(60)

    server.stream = stream
    error, events = error_of(server, call_of(stream=True), limits=limits)
    assert (error.remedy, error.kind) == ("next", "timeout")
    assert said in str(error)
    assert [event.text for event in events[1:]] == list(first)
    assert is_gone.wait(60)


@pytest.mark.parametrize("way", ["closed", "cancelled"])
def test_a_chat_that_is_left_cancels_the_request(server, way):
    is_gone = threading.Event()

    def stream(request, context):
        context.add_callback(is_gone.set)
        yield piece("a")
        is_gone.wait(60)

    server.stream = stream

    async def act(provider):
        events = provider.chat(call_of(stream=True), "llm", LIMITS)
        assert [await anext(events), await anext(events)] == [Started("llm"), TextDelta("a")]
        if way == "closed":
            await events.aclose()
        else:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await asyncio.to_thread(is_gone.wait, 30)

    asyncio.run(with_provider(server, act))


def test_tokens_are_counted_by_the_model(server):
    server.stream = lambda request, context: iter([piece("", "stop", (17, 0))])
    count = asyncio.run(with_provider(server, lambda provider: provider.count_tokens(call_of(), "llm")))
    assert count == 17
    (request,) = server.requests
    assert request.parameters["count_tokens"].bool_param
    assert request.parameters["trireme_user"].string_param == "ann"
    assert json.loads(inputs_of(request)["messages"]) == [{"role": "user", "content": "hello"}]


def test_tokens_of_an_answer_cannot_be_counted_and_faults_are_a_providers(server):
    with pytest.raises(UnsupportedError, match="count with the model that writes"):
        asyncio.run(with_provider(server, lambda provider: provider.count_tokens(call_of(), "rag")))
    with pytest.raises(ProviderError, match="n:") as found:
        asyncio.run(with_provider(server, lambda provider: provider.count_tokens(call_of(choices=17), "llm")))
    assert found.value.kind == "invalid"
    server.stream = lambda request, context: iter(["[UNAVAILABLE] gone"])
    with pytest.raises(ProviderError) as found:
        asyncio.run(with_provider(server, lambda provider: provider.count_tokens(call_of(), "llm")))
    assert found.value.kind == "overloaded"


EVIDENCE_INPUTS = ["text_input", "return_evidence", "return_prompt"]
PROMPT = [{"role": "user", "content": "passages and question"}]


def answer_parts(_request, _context):
    evidence = {"token_logprobs": [-0.5], "best_score": None, "passage_score": 0.25, "passage_gap": None}
    first = {"text_output": ["Oars"], "evidence": [json.dumps(evidence)], "prompt": [json.dumps(PROMPT)]}
    last = {
        "text_output": ["."],
        "citations": ["[]"],
        "usage": [json.dumps(USAGE)],
        "finish_reason": ["stop"],
    }
    return iter([response_of(first, is_last=False), response_of(last)])


def test_what_a_rag_model_finds_comes_before_the_text_that_goes_with_it(server):
    server.configs["rag"] = config_of("rag", backend="rag", inputs=EVIDENCE_INPUTS)
    server.stream = answer_parts
    found = chat(server, call_of(stream=True, asks_evidence=True, asks_prompt=True), "rag")
    details = {"best_score": None, "passage_score": 0.25, "passage_gap": None}
    assert found[:3] == [Started("rag"), Findings((-0.5,), details, tuple(PROMPT)), TextDelta("Oars")]
    sent = inputs_of(server.requests[0])
    assert sent["return_evidence"] is sent["return_prompt"] is True


def test_nobody_is_asked_for_findings_unasked_nor_a_model_whose_configuration_is_older(server):
    server.stream = answer_parts
    chat(server, call_of(asks_evidence=True, asks_prompt=True), "rag")
    server.configs["rag"] = config_of("rag", backend="rag", inputs=EVIDENCE_INPUTS)
    chat(server, call_of(), "rag")
    for request in server.requests:
        assert not {"return_evidence", "return_prompt"} & inputs_of(request).keys()


@pytest.mark.parametrize("says", [False, True])
def test_whether_a_model_says_findings_is_learned_with_what_it_can_do(server, says):
    server.stream = answer_parts

    async def act(provider):
        call = call_of(asks_evidence=True, stream=True)
        return [event async for event in provider.chat(call, "rag", LIMITS)]

    asyncio.run(with_provider(server, act, [ServedModel("rag", "answer", True, says_findings=says)]))
    assert ("return_evidence" in inputs_of(server.requests[0])) is says
    assert server.config_questions == []


WEATHER = Tool("get_weather", "of a city", {"type": "object", "properties": {"city": {"type": "string"}}})


def calls_piece(text="", entries=(), reason="", reasoning=""):
    outputs = {"text_output": [text], "finish_reason": [reason]}
    if entries:
        outputs["tool_calls"] = [json.dumps(list(entries))]
    if reasoning:
        outputs["reasoning"] = [reasoning]
    if reason:
        outputs |= {"num_input_tokens": [5], "num_output_tokens": [2]}
    return response_of(outputs, is_last=bool(reason))


def entry(index, arguments, name=""):
    head = {"id": f"call_{index}", "type": "function"} if name else {}
    return {
        "index": index,
        **head,
        "function": {**({"name": name} if name else {}), "arguments": arguments},
    }


def test_a_stop_string_that_ends_reasoning_is_named_and_is_no_part_of_it(server):
    server.stream = lambda request, context: iter([calls_piece(reasoning="hm, oars##", reason="stop")])
    events = chat(server, call_of(stream=True, stop=("#", "##")), "caller")
    assert events[1:] == [
        ThinkingDelta("hm, oars"),
        Usage(5, 2),
        Finished("stop_sequence", stop_sequence="##"),
    ]


def test_calls_and_reasoning_become_events(server):
    server.stream = lambda request, context: iter(
        [
            calls_piece(reasoning="hm"),
            calls_piece("I look."),
            calls_piece(entries=[entry(0, "", "get_weather")]),
            calls_piece(entries=[entry(0, '{"city": 1}'), entry(1, "{}", "now")]),
            calls_piece(reason="tool_calls"),
        ]
    )
    call = call_of(stream=True, tools=(WEATHER,))

    events = chat(server, call, "caller")

    assert events == [
        Started("caller"),
        ThinkingDelta("hm"),
        TextDelta("I look."),
        ToolStart(0, "call_0", "get_weather"),
        ToolDelta(0, '{"city": 1}'),
        ToolStart(1, "call_1", "now"),
        ToolDelta(1, "{}"),
        Usage(5, 2),
        Finished("tool_use"),
    ]
    inputs = inputs_of(server.requests[0])
    assert (inputs["return_tool_calls"], inputs["return_reasoning"]) == (True, True)
    assert json.loads(inputs["tools"]) == [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "of a city", "parameters": WEATHER.schema},
        }
    ]
    alone = chat(server, call_of(stream=True, tools=(WEATHER,), parallel_tool_calls=False), "caller")
    assert [event.name for event in alone if isinstance(event, ToolStart)] == ["get_weather"]


def test_calls_and_results_of_earlier_turns_are_sent(server):
    server.stream = lambda request, context: iter([calls_piece("12 degrees", reason="stop")])
    turns = (
        Message("user", (Text("weather?"),)),
        Message("assistant", (ToolUse("1", "get_weather", '{"city": "Bonn"}'), ToolUse("2", "now", "{oh"))),
        Message("tool", (ToolResult("1", "12"),)),
        Message("tool", (ToolResult("2", "late"),)),
    )

    chat(server, call_of(messages=turns, tools=(WEATHER,), tool_choice="none"), "caller")

    inputs = inputs_of(server.requests[0])
    _, assistant, *results = json.loads(inputs["messages"])
    assert assistant["content"] is None
    assert [call["function"] for call in assistant["tool_calls"]] == [
        {"name": "get_weather", "arguments": {"city": "Bonn"}},
        {"name": "now", "arguments": {"_invalid_json": "{oh"}},
    ]
    assert results == [
        {"role": "tool", "tool_call_id": "1", "content": "12", "name": "get_weather"},
        {"role": "tool", "tool_call_id": "2", "content": "late", "name": "now"},
    ]
    assert "tools" not in inputs


def test_an_older_configuration_is_not_asked_for_parts(server):
    server.stream = lambda request, context: iter([piece("Hello", "stop")])
    chat(server, call_of())
    assert "return_reasoning" not in inputs_of(server.requests[0])

    error, _ = error_of(server, call_of(tools=(WEATHER,)))
    assert str(error).startswith("tools: the configuration of model 'llm' is older")


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", None),
        ("any", "required"),
        ("tool:get_weather", '{"type": "function", "function": {"name": "get_weather"}}'),
    ],
)
def test_the_choice_of_a_tool_is_sent(server, choice, sent):
    server.stream = lambda request, context: iter([calls_piece(reason="stop")])
    chat(server, call_of(tools=(WEATHER,), tool_choice=choice), "caller")
    assert inputs_of(server.requests[0]).get("tool_choice") == sent


def test_tools_count_with_the_prompt(server):
    server.stream = lambda request, context: iter([piece("", "stop")])

    async def act(provider):
        return await provider.count_tokens(call_of(tools=(WEATHER,)), "caller")

    assert asyncio.run(with_provider(server, act)) == 5
    assert "get_weather" in inputs_of(server.requests[0])["tools"]


@pytest.mark.parametrize("is_learned", [True, False])
def test_an_adapter_is_asked_of_its_model_by_name(server, is_learned):
    server.configs["tuned"] = config_of("tuned", backend="generator", adapters="law,art")
    server.stream = lambda request, context: iter([piece("Yes", "stop")])
    models = [ServedModel("tuned:art", "chat", is_ready=True)] if is_learned else ()

    async def act(provider):
        events = [event async for event in provider.chat(call_of(seed=7), "tuned:art", LIMITS)]
        return events, await provider.count_tokens(call_of(), "tuned:art")

    (started, *_), count = asyncio.run(with_provider(server, act, models))
    assert (started, count) == (Started("tuned:art"), 5)
    asked, counted = server.requests
    assert [asked.model_name, counted.model_name] == ["tuned", "tuned"]
    assert json.loads(inputs_of(asked)["sampling_parameters"]) == {"seed": 7, "lora_name": "art"}


@pytest.mark.parametrize("name", ["tuned:other", "tuned:", "llm:law", "nothing:law"])
def test_an_adapter_that_no_model_has_is_not_served(server, name):
    server.configs["tuned"] = config_of("tuned", backend="generator", adapters="law,art")
    error, events = error_of(server, call_of(), name)
    assert (error.kind, events, server.requests) == ("not_found", [], [])
    assert f"no model {name!r} is served here" in str(error)
