"""The official `openai` package."""

import asyncio
import base64
import io
import json
import struct

import openai
from cases import (
    KEY,
    LIMITED_KEY,
    NARROW_KEY,
    QUESTION,
    SOURCE,
    TOOL,
    URL,
    case,
    raises,
    run,
    same,
    until_refused,
)
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
EMBEDDINGS, MODELS, FILES, STORES = "/v1/embeddings", "/v1/models", "/v1/files", "/v1/vector_stores"
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "Says it.", "parameters": TOOL}}
    for name in ("say", "shout")
]


def ask(text):
    return [{"role": "user", "content": text}]


# What our own model with this answer says: it repeats what stands between two "~".
def told(text):
    return ask(f"say ~{text}~")


CALL = '<tool_call>{"name": "say", "arguments": {"text": "hello"}}</tool_call>'


def with_key(key):
    return openai.OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0)


@case(CHAT, "whole", "answer and usage")
def chat():
    answer = client.chat.completions.create(model="llm", messages=ask("What is a trireme?"), max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
    same(answer.model, "llm")


@case(CHAT, "whole", "several choices")
def chat_of_choices():
    answer = client.chat.completions.create(model="assistant", messages=ask("oars of fir"), n=2)
    same([choice.message.content for choice in answer.choices], ["oars of fir"] * 2)
    same(answer.usage.prompt_tokens, 3)


@case(CHAT, "whole", "parsed object")
def chat_parsed():
    class Ship(BaseModel):
        oars: int

    answer = client.chat.completions.parse(
        model="assistant", messages=ask('{"oars": 170}'), response_format=Ship
    )
    same(answer.choices[0].message.parsed, Ship(oars=170))


@case(CHAT, "whole", "log probabilities")
def chat_of_logprobs():
    answer = client.chat.completions.create(model="assistant", messages=ask("oars of fir"), logprobs=True)
    same([row.token for row in answer.choices[0].logprobs.content], ["oars", "of", "fir"])


@case(CHAT, "whole", "log probabilities of our own model")
def chat_of_own_logprobs():
    answer = client.chat.completions.create(
        model="llm", messages=ask("What is a trireme?"), max_tokens=8, logprobs=True
    )
    rows = answer.choices[0].logprobs.content
    same(
        b"".join(bytes(row.bytes) for row in rows).decode("utf-8", "replace"),
        answer.choices[0].message.content,
    )
    assert all(row.logprob <= 0 and row.top_logprobs == [] for row in rows)


@case(CHAT, "whole", "image beside text")
def chat_of_image():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    for model in ("assistant", "claude"):
        turn = {"role": "user", "content": [{"type": "text", "text": "row on"}, image]}
        answer = client.chat.completions.create(model=model, messages=[turn])
        same(answer.choices[0].message.content.strip(), "row on")


@case(CHAT, "whole", "rag with annotations and sources")
def chat_of_rag():
    answer = client.chat.completions.create(
        model="rag", messages=ask(QUESTION), extra_body={"trireme": {"answer_mode": "extractive"}}
    )
    message = answer.choices[0].message
    assert "half a millisecond" in message.content, message.content
    cited = message.annotations[0].url_citation
    same(cited.title, SOURCE)
    assert 0 <= cited.start_index < cited.end_index <= len(message.content)
    same(answer.model_extra["trireme"]["sources"][0]["source"], SOURCE)


@case(CHAT, "whole", "next provider after a fault")
def chat_of_chain():
    raw = client.chat.completions.with_raw_response.create(
        model="fallback", messages=ask("row on"), max_completion_tokens=9
    )
    same(raw.parse().choices[0].message.content, "row on")
    same(raw.headers["x-trireme-served-by"], "fakeanthropic:echo")


@case(CHAT, "whole", "asyncio")
def chat_async():
    async def go():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as one:
            calls = [one.chat.completions.create(model="assistant", messages=ask(t)) for t in ("a", "b")]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]

    same(asyncio.run(go()), ["a", "b"])


@case(CHAT, "streamed", "pieces, usage when asked")
def chat_streamed():
    chunks = list(
        client.chat.completions.create(
            model="llm",
            messages=ask("What is a trireme?"),
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    same(chunks[0].choices[0].delta.role, "assistant")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    same(chunks[-1].choices, [])
    assert chunks[-1].usage.completion_tokens > 0
    same({chunk.id for chunk in chunks}, {chunks[0].id})


@case(CHAT, "streamed", "no usage unless asked")
def chat_streamed_without_usage():
    chunks = list(
        client.chat.completions.create(model="assistant", messages=ask("one two three four"), stream=True)
    )
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "one two three four")
    assert not any(chunk.usage for chunk in chunks)


@case(CHAT, "streamed", "log probabilities of our own model")
def chat_of_own_logprobs_streamed():
    # At temperature 0 the second one comes from the gateway's cache.
    said = []
    for _ in range(2):
        chunks = client.chat.completions.create(
            model="llm", messages=ask("Who rows?"), max_tokens=8, temperature=0, logprobs=True, stream=True
        )
        deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
        for delta in deltas:
            rows = delta.logprobs.content if delta.logprobs else []
            same(
                b"".join(bytes(row.bytes) for row in rows).decode("utf-8", "replace"),
                delta.delta.content or "",
            )
        said.append([row.logprob for delta in deltas if delta.logprobs for row in delta.logprobs.content])
    assert said[0], said
    same(*said)


@case(CHAT, "streamed", "helper `stream`")
def chat_helper():
    with client.chat.completions.stream(model="claude", messages=ask("one two three four")) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta" and event.delta]
        same(stream.get_final_completion().choices[0].message.content, "one two three four")
    same(pieces, ["one two three", " four"])


@case(CHAT, "streamed", "rag with annotations and sources")
def chat_of_rag_streamed():
    chunks = list(
        client.chat.completions.create(
            model="rag",
            messages=ask(QUESTION),
            stream=True,
            extra_body={"trireme": {"answer_mode": "extractive"}},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "half a millisecond" in text, text
    (said,) = [chunk for chunk in chunks if "trireme" in chunk.model_extra]
    same(said.model_extra["trireme"]["sources"][0]["source"], SOURCE)
    same(said.choices[0].delta.model_extra["annotations"][0]["url_citation"]["title"], SOURCE)


@case(CHAT, "streamed", "next provider after a fault")
def chat_of_chain_streamed():
    chunks = client.chat.completions.create(
        model="fallback", messages=ask("row on"), stream=True, max_completion_tokens=9
    )
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "row on")


@case(CHAT, "streamed", "asyncio")
def chat_streamed_async():
    async def go():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as one:
            stream = await one.chat.completions.create(
                model="assistant", messages=ask("one two three four"), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    same(asyncio.run(go()), "one two three four")


@case(CHAT, "tools", "two calls at once")
def chat_of_tools():
    for model in ("assistant", "claude"):
        answer = client.chat.completions.create(model=model, messages=ask("hello"), tools=TOOLS)
        same(answer.choices[0].finish_reason, "tool_calls")
        calls = [
            (one.function.name, json.loads(one.function.arguments))
            for one in answer.choices[0].message.tool_calls
        ]
        same(calls, [("say", {"text": "hello"}), ("shout", {"text": "hello"})])


@case(CHAT, "tools", "in pieces")
def chat_of_tools_streamed():
    for model in ("assistant", "claude"):
        arguments, names = {}, {}
        chunks = list(
            client.chat.completions.create(model=model, messages=ask("hello"), tools=TOOLS, stream=True)
        )
        for chunk in chunks:
            for call in chunk.choices[0].delta.tool_calls or []:
                names.setdefault(call.index, call.function.name)
                arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
        same(names, {0: "say", 1: "shout"})
        same([json.loads(one) for one in arguments.values()], [{"text": "hello"}] * 2)
        same(chunks[-1].choices[0].finish_reason, "tool_calls")


@case(CHAT, "tools", "results sent back")
def chat_of_results():
    for model in ("assistant", "claude"):
        asked = ask("hello")
        first = client.chat.completions.create(model=model, messages=asked, tools=TOOLS[:1])
        message = first.choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "it is said"}
        turns = [*asked, message.model_dump(exclude_none=True), result]
        answer = client.chat.completions.create(model=model, messages=turns, tools=TOOLS[:1])
        same(answer.choices[0].message.content, "it is said")


@case(CHAT, "tools", "our own model: reasoning, call, result, answer")
def chat_of_calls_here():
    asked = told(f"<think>It wants it said.</think>I say it. {CALL}")
    first = client.chat.completions.create(model="caller", messages=asked, tools=TOOLS)
    message = first.choices[0].message
    same((message.content, message.reasoning_content), ("I say it.", "It wants it said."))
    same(first.choices[0].finish_reason, "tool_calls")
    (call,) = message.tool_calls
    same((call.function.name, json.loads(call.function.arguments)), ("say", {"text": "hello"}))
    result = {"role": "tool", "tool_call_id": call.id, "content": "done ~It is said.~"}
    turns = [*asked, message.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(model="caller", messages=turns, tools=TOOLS)
    same(second.choices[0].message.content, "It is said.")
    same(second.choices[0].finish_reason, "stop")


@case(CHAT, "tools", "our own model: two calls in pieces, or one")
def chat_of_calls_here_streamed():
    for at_once, names in ((None, ["say", "shout"]), (False, ["say"])):
        more = {} if at_once is None else {"parallel_tool_calls": at_once}
        with client.chat.completions.stream(
            model="caller", messages=told(CALL + CALL.replace("say", "shout")), tools=TOOLS, **more
        ) as stream:
            pieces = [one for one in stream if one.type == "tool_calls.function.arguments.delta"]
            (choice,) = stream.get_final_completion().choices
        same([one.function.name for one in choice.message.tool_calls], names)
        same(
            [json.loads(one.function.arguments) for one in choice.message.tool_calls],
            [{"text": "hello"}] * len(names),
        )
        same(choice.finish_reason, "tool_calls")
        assert len(pieces) > len(names)


@case(CHAT, "tools", "our own model: tool_choice required, and by name")
def chat_of_a_chosen_call_here():
    named = {"type": "function", "function": {"name": "shout"}}
    for choice, name in (("required", "say"), (named, "shout")):
        answer = client.chat.completions.create(
            model="caller", messages=ask("hello"), tools=TOOLS, tool_choice=choice
        )
        (call,) = answer.choices[0].message.tool_calls
        same((call.function.name, list(json.loads(call.function.arguments))), (name, ["text"]))


@case(CHAT, "tools", "our own model: a call that is broken is text")
def chat_of_a_broken_call_here():
    answer = client.chat.completions.create(model="caller", messages=told(CALL[:40]), tools=TOOLS)
    same((answer.choices[0].message.content, answer.choices[0].message.tool_calls), (CALL[:40], None))


@case(CHAT, "tools", "refused by name by a model of ours whose template takes none")
def chat_of_tools_here():
    error = raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="llm", messages=ask("hello"), tools=TOOLS),
        "tools",
    )
    same(error.param, "tools")


@case(CHAT, "error", "401 no such key")
def chat_without_key():
    error = raises(
        openai.AuthenticationError,
        lambda: with_key("tr-none").chat.completions.create(model="llm", messages=ask("a")),
    )
    same(error.code, "invalid_api_key")


@case(CHAT, "error", "403 key of another endpoint")
def chat_with_narrow_key():
    raises(
        openai.PermissionDeniedError,
        lambda: with_key(NARROW_KEY).chat.completions.create(model="llm", messages=ask("a")),
        "models",
    )


@case(CHAT, "error", "404 no such model")
def chat_of_nothing():
    raises(
        openai.NotFoundError,
        lambda: client.chat.completions.create(model="gpt-1", messages=ask("a")),
        "gpt-1",
    )


@case(CHAT, "error", "400 names the field")
def chat_of_bad_field():
    error = raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="llm", messages=ask("a"), max_tokens=0),
        "max_tokens",
    )
    same(error.param, "max_tokens")


@case(CHAT, "error", "400 alternatives that the engine does not name")
def chat_of_alternatives():
    asked = {"model": "llm", "messages": ask("a"), "logprobs": True, "top_logprobs": 3}
    raises(openai.BadRequestError, lambda: client.chat.completions.create(**asked), "top_logprobs", "send 0")


@case(CHAT, "error", "400 prompt too long")
def chat_too_long():
    raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="llm", messages=ask("oar " * 20_000)),
        "tokens",
    )


@case(CHAT, "error", "429 with retry-after")
def chat_over_limit():
    error = until_refused(
        openai.RateLimitError,
        lambda: with_key(LIMITED_KEY).chat.completions.create(model="assistant", messages=ask("a")),
    )
    same(error.code, "rate_limit_exceeded")
    assert 0 < int(error.response.headers["retry-after"]) <= 60


@case(CHAT, "error", "502 is not repeated by the client")
def chat_of_failing_provider():
    one = client.with_options(max_retries=2)
    error = raises(
        openai.InternalServerError,
        lambda: one.chat.completions.create(model="failing", messages=ask("a")),
    )
    same(error.status_code, 502)
    same(error.response.headers["x-should-retry"], "false")
    same(error.response.request.headers.get("x-stainless-retry-count"), "0")


@case(CHAT, "error", "fault in mid stream")
def chat_cut():
    said = []

    def go():
        for chunk in client.chat.completions.create(
            model="fakeopenai:fault-end-middle", messages=ask("one two three four five six"), stream=True
        ):
            said.append(chunk.choices[0].delta.content or "")

    raises(openai.APIError, go)
    same("".join(said), "one two three")


@case(RESPONSES, "whole", "answer and usage")
def response():
    answer = client.responses.create(
        model="llm", input="What is a trireme?", max_output_tokens=8, store=False
    )
    assert answer.output_text
    assert answer.status in ("completed", "incomplete")
    same(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)


@case(RESPONSES, "whole", "across formats")
def response_across():
    for model in ("assistant", "claude"):
        answer = client.responses.create(model=model, instructions="Be brief.", input=ask("row on"))
        same((answer.output_text, answer.usage.input_tokens), ("row on", 4))


@case(RESPONSES, "whole", "rag with annotations and sources")
def response_of_rag():
    answer = client.responses.create(
        model="rag", input=QUESTION, extra_body={"trireme": {"answer_mode": "extractive"}}
    )
    assert "half a millisecond" in answer.output_text, answer.output_text
    same(answer.output[0].content[0].annotations[0].filename, SOURCE)
    same(answer.model_extra["trireme"]["sources"][0]["source"], SOURCE)


@case(RESPONSES, "streamed", "events in their order")
def response_streamed():
    for model in ("assistant", "claude"):
        events = list(client.responses.create(model=model, input="one two three four", stream=True))
        kinds = [event.type.removeprefix("response.") for event in events]
        begin = ["created", "in_progress", "output_item.added", "content_part.added"]
        end = ["output_text.done", "content_part.done", "output_item.done", "completed"]
        same(kinds, [*begin, *["output_text.delta"] * 2, *end])
        same([event.sequence_number for event in events], list(range(len(events))))
        same(events[-1].response.output_text, "one two three four")


@case(RESPONSES, "streamed", "helper `stream`")
def response_helper():
    with client.responses.stream(model="claude", input="one two three four") as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        same(stream.get_final_response().output_text, "one two three four")
    same(pieces, ["one two three", " four"])


@case(RESPONSES, "streamed", "our own model, cut at max_output_tokens")
def response_incomplete():
    *events, last = client.responses.create(
        model="llm", input="What is a trireme?", max_output_tokens=8, stream=True
    )
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    same((last.type, last.response.output_text), ("response.incomplete", said))
    same(last.response.incomplete_details.reason, "max_output_tokens")


@case(RESPONSES, "tools", "call, result sent back")
def response_of_tools():
    tools = [{"type": "function", "name": "say", "parameters": TOOL, "strict": False}]
    for model in ("assistant", "claude"):
        first = client.responses.create(model=model, input=ask("hello"), tools=tools)
        (call,) = first.output
        same((call.type, call.name, json.loads(call.arguments)), ("function_call", "say", {"text": "hello"}))
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "it is said"}
        turns = [*ask("hello"), call.model_dump(exclude_none=True), result]
        same(client.responses.create(model=model, input=turns, tools=tools).output_text, "it is said")


@case(RESPONSES, "tools", "in pieces")
def response_of_tools_streamed():
    tools = [
        {"type": "function", "name": name, "parameters": TOOL, "strict": False} for name in ("say", "shout")
    ]
    for model in ("assistant", "claude"):
        events = list(client.responses.create(model=model, input="hello", tools=tools, stream=True))
        pieces = {}
        for event in events:
            if event.type == "response.function_call_arguments.delta":
                pieces[event.output_index] = pieces.get(event.output_index, "") + event.delta
        same([json.loads(one) for one in pieces.values()], [{"text": "hello"}] * 2)
        same([item.name for item in events[-1].response.output], ["say", "shout"])


@case(RESPONSES, "tools", "our own model: call, result, answer")
def response_of_calls_here():
    tools = [{"type": "function", "name": "say", "parameters": TOOL, "strict": False}]
    first = client.responses.create(model="caller", input=told(CALL), tools=tools)
    (call,) = first.output
    same((call.type, call.name, json.loads(call.arguments)), ("function_call", "say", {"text": "hello"}))
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "done ~It is said.~"}
    turns = [*told(CALL), call.model_dump(exclude_none=True), result]
    same(client.responses.create(model="caller", input=turns, tools=tools).output_text, "It is said.")


@case(RESPONSES, "error", "400 what would have to be kept")
def response_of_kept():
    error = raises(
        openai.BadRequestError,
        lambda: client.responses.create(model="llm", input="a", previous_response_id="resp_1"),
        "previous_response_id",
    )
    same(error.param, "previous_response_id")


@case(RESPONSES, "error", "404 no such model")
def response_of_nothing():
    raises(openai.NotFoundError, lambda: client.responses.create(model="gpt-1", input="a"), "gpt-1")


@case(RESPONSES, "error", "fault in mid stream")
def response_cut():
    def go():
        return list(
            client.responses.create(
                model="fakeopenai:fault-error_in_200-middle", input="one two three four five six", stream=True
            )
        )

    raises(openai.APIError, go)


@case(TEXT, "whole", "answer and usage")
def text():
    answer = client.completions.create(model="llm", prompt="A trireme is", max_tokens=8)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens > 0


@case(TEXT, "whole", "several prompts")
def texts():
    answer = client.completions.create(model="assistant", prompt=["oars", "sails of flax"])
    same([(one.index, one.text) for one in answer.choices], [(0, "oars"), (1, "sails of flax")])
    same(answer.usage.prompt_tokens, 4)


@case(TEXT, "whole", "log probabilities of our own model")
def text_of_own_logprobs():
    answer = client.completions.create(model="llm", prompt="A trireme is", max_tokens=8, logprobs=0)
    [choice] = answer.choices
    same("".join(choice.logprobs.tokens), choice.text)
    same(choice.logprobs.text_offset[:2], [0, len(choice.logprobs.tokens[0])])
    assert all(one <= 0 for one in choice.logprobs.token_logprobs)


@case(TEXT, "streamed", "pieces, usage when asked")
def text_streamed():
    chunks = list(
        client.completions.create(
            model="llm",
            prompt="A trireme is",
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1])
    assert chunks[-1].usage.completion_tokens > 0


@case(TEXT, "error", "404 no such model")
def text_of_nothing():
    raises(openai.NotFoundError, lambda: client.completions.create(model="gpt-1", prompt="a"), "gpt-1")


@case(TEXT, "error", "fault in mid stream")
def text_cut():
    def go():
        return list(
            client.completions.create(
                model="fakeopenai:fault-malformed-middle", prompt="one two three four five six", stream=True
            )
        )

    raises(openai.APIError, go)


@case(EMBEDDINGS, "whole", "base64, as the client asks by default")
def embeddings():
    answer = client.embeddings.create(model="embedding", input=["oars", "sails"])
    same([row.index for row in answer.data], [0, 1])
    assert abs(sum(x * x for x in answer.data[0].embedding) - 1) < 1e-3
    assert answer.usage.prompt_tokens > 0


@case(EMBEDDINGS, "whole", "the same as floats")
def embeddings_as_floats():
    floats = client.embeddings.create(model="embedding", input="oars", encoding_format="float")
    default = client.embeddings.create(model="embedding", input="oars")
    raw = client.embeddings.create(model="embedding", input="oars", encoding_format="base64")
    given = base64.b64decode(raw.data[0].embedding)
    same(list(struct.unpack(f"<{len(given) // 4}f", given)), default.data[0].embedding)
    assert all(
        abs(a - b) < 1e-6 for a, b in zip(floats.data[0].embedding, default.data[0].embedding, strict=True)
    )


@case(EMBEDDINGS, "whole", "dimensions")
def embeddings_of_dimensions():
    answer = client.embeddings.create(model="embedding", input="oars", dimensions=64)
    same(len(answer.data[0].embedding), 64)
    assert abs(sum(x * x for x in answer.data[0].embedding) - 1) < 1e-3


@case(EMBEDDINGS, "whole", "token arrays")
def embeddings_of_tokens():
    one = client.embeddings.create(model="embedding", input=[2000, 2001])
    two = client.embeddings.create(model="embedding", input=[[2000, 2001], [2003]])
    same((len(one.data), len(two.data)), (1, 2))
    close = zip(one.data[0].embedding, two.data[0].embedding, strict=True)
    assert sum(a * b for a, b in close) > 0.99


@case(EMBEDDINGS, "error", "400 names the field")
def embeddings_of_nothing():
    error = raises(
        openai.BadRequestError, lambda: client.embeddings.create(model="embedding", input=[]), "input"
    )
    same(error.param, "input")


@case(EMBEDDINGS, "error", "404 no such model")
def embeddings_of_no_model():
    raises(openai.NotFoundError, lambda: client.embeddings.create(model="ada", input="a"), "ada")


@case(MODELS, "whole", "list and one")
def models():
    names = {model.id: model.owned_by for model in client.models.list()}
    assert {"llm", "rag", "embedding", "reranker", "assistant", "claude"} <= set(names), names
    same((names["llm"], names["assistant"]), ("trireme", "fakeopenai"))
    same(client.models.retrieve("llm").id, "llm")


@case(MODELS, "error", "404 no such model")
def no_model():
    raises(openai.NotFoundError, lambda: client.models.retrieve("gpt-1"), "gpt-1")


@case(FILES, "whole", "upload, processed, delete")
def files():
    content = ("oars.md", io.BytesIO(b"# Oars\n\nThe oars of a trireme are made of fir."))
    one = client.files.create(file=content, purpose="assistants", extra_body={"collection": "openai"})
    same((one.filename, one.purpose), ("oars.md", "assistants"))
    same(client.files.wait_for_processing(one.id, poll_interval=0.2, max_wait_seconds=60).status, "processed")
    found = client.vector_stores.search("openai", query="what are oars made of?")
    same((found.data[0].filename, found.data[0].file_id), ("oars.md", one.id))
    assert client.files.delete(one.id).deleted
    raises(openai.NotFoundError, lambda: client.files.retrieve(one.id))


@case(FILES, "error", "400 purpose that is not offered")
def file_of_other_purpose():
    content = ("a.jsonl", io.BytesIO(b"{}"))
    raises(
        openai.BadRequestError, lambda: client.files.create(file=content, purpose="fine-tune"), "fine-tune"
    )


@case(STORES, "whole", "list, one, search")
def stores():
    assert "default" in [store.id for store in client.vector_stores.list()]
    same(client.vector_stores.retrieve("default").status, "completed")
    found = list(client.vector_stores.search("default", query=QUESTION, max_num_results=2))
    same((len(found), found[0].filename), (2, SOURCE))
    assert "half a millisecond" in found[0].content[0].text
    assert 0 <= found[1].score <= found[0].score <= 1


@case(STORES, "whole", "search with a filter")
def stores_filtered():
    wanted = {"type": "eq", "key": "source", "value": "storage.txt"}
    found = list(client.vector_stores.search("default", query=QUESTION, filters=wanted))
    same({row.filename for row in found}, {"storage.txt"})


@case(STORES, "error", "400 stores are not created")
def new_store():
    raises(openai.BadRequestError, lambda: client.vector_stores.create(name="a"), "/v1/files")


@case(STORES, "error", "400 a file is put there by its upload")
def attached_file():
    raises(
        openai.BadRequestError,
        lambda: client.vector_stores.files.create("default", file_id="file-a"),
        "POST /v1/files",
    )


@case(STORES, "error", "404 no such store")
def no_store():
    raises(openai.NotFoundError, lambda: client.vector_stores.retrieve("none"), "none")


run(openai=openai.__version__)
