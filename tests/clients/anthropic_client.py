"""The official `anthropic` package."""

import asyncio

import anthropic
from cases import KEY, LIMITED_KEY, QUESTION, SOURCE, TOOL, URL, case, raises, run, same, until_refused

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
MESSAGES, COUNT, MODELS = "/v1/messages", "/v1/messages/count_tokens", "/v1/models"
TOOLS = [{"name": name, "description": "Says it.", "input_schema": TOOL} for name in ("say", "shout")]
EXTRACTIVE = {"trireme": {"answer_mode": "extractive"}}


def ask(text):
    return [{"role": "user", "content": text}]


@case(MESSAGES, "whole", "answer and usage")
def message():
    answer = client.messages.create(model="llm", max_tokens=8, messages=ask("What is a trireme?"))
    assert answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@case(MESSAGES, "whole", "across formats")
def message_across():
    for model in ("claude", "assistant"):
        answer = client.messages.create(model=model, max_tokens=2, system="Be brief.", messages=ask("a b c"))
        same(
            (answer.content[0].text, answer.stop_reason, answer.usage.input_tokens), ("a b", "max_tokens", 5)
        )


@case(MESSAGES, "whole", "rag with citations")
def message_of_rag():
    answer = client.messages.create(model="rag", max_tokens=64, messages=ask(QUESTION), extra_body=EXTRACTIVE)
    (block,) = answer.content
    assert "half a millisecond" in block.text
    same(block.citations[0].document_title, SOURCE)
    assert block.citations[0].cited_text


@case(MESSAGES, "whole", "version 2023-06-01 with temperature")
def message_of_old_version():
    answer = client.messages.create(
        model="claude",
        max_tokens=9,
        messages=ask("row on"),
        extra_headers={"anthropic-version": "2023-06-01"},
        extra_body={"temperature": 0.5},
    )
    same(answer.content[0].text, "row on")


@case(MESSAGES, "whole", "key as x-api-key")
def message_with_other_header():
    one = anthropic.Anthropic(
        base_url=URL,
        auth_token="tr-none",
        max_retries=0,
        default_headers={"x-api-key": KEY, "authorization": anthropic.Omit()},
    )
    answer = one.messages.create(model="claude", max_tokens=9, messages=ask("row on"))
    same(answer.content[0].text, "row on")
    raw = one.messages.with_raw_response.create(model="claude", max_tokens=9, messages=ask("row on"))
    assert "authorization" not in raw.http_request.headers
    same(raw.http_request.headers["x-api-key"], KEY)


@case(MESSAGES, "whole", "key as bearer")
def message_with_bearer():
    one = anthropic.Anthropic(base_url=URL, auth_token=KEY, max_retries=0)
    raw = one.messages.with_raw_response.create(model="claude", max_tokens=9, messages=ask("row on"))
    same(raw.http_request.headers["authorization"], f"Bearer {KEY}")
    same(raw.parse().content[0].text, "row on")


@case(MESSAGES, "whole", "beta client, with cache control")
def message_of_beta():
    answer = client.beta.messages.create(
        model="claude",
        max_tokens=9,
        betas=["context-management-2025-06-27"],
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=ask("row on"),
    )
    same((answer.content[0].text, answer.usage.input_tokens), ("row on", 4))


@case(MESSAGES, "whole", "asyncio")
def message_async():
    async def go():
        async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY, max_retries=0) as one:
            answer = await one.messages.create(model="claude", max_tokens=9, messages=ask("row on"))
            return answer.content[0].text

    same(asyncio.run(go()), "row on")


@case(MESSAGES, "streamed", "text and usage")
def message_streamed():
    with client.messages.stream(model="llm", max_tokens=8, messages=ask("What is a trireme?")) as stream:
        text = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert text
    same(last.content[0].text, text)
    assert last.usage.output_tokens > 0


@case(MESSAGES, "streamed", "events in their order")
def message_events():
    for model in ("claude", "assistant"):
        stream = client.messages.create(
            model=model, max_tokens=9, messages=ask("one two three four"), stream=True
        )
        kinds = [event.type for event in stream if event.type != "ping"]
        middle = ["content_block_start", *["content_block_delta"] * 2, "content_block_stop"]
        same(kinds, ["message_start", *middle, "message_delta", "message_stop"])


@case(MESSAGES, "streamed", "rag with citations")
def message_of_rag_streamed():
    with client.messages.stream(
        model="rag", max_tokens=64, messages=ask(QUESTION), extra_body=EXTRACTIVE
    ) as stream:
        last = stream.get_final_message()
    assert "half a millisecond" in last.content[0].text
    same(last.content[0].citations[0].document_title, SOURCE)


@case(MESSAGES, "streamed", "next provider after a fault")
def message_of_chain():
    with client.messages.stream(model="fallback", max_tokens=9, messages=ask("row on")) as stream:
        same(stream.get_final_text(), "row on")


@case(MESSAGES, "tools", "two calls at once")
def message_of_tools():
    for model in ("claude", "assistant"):
        answer = client.messages.create(model=model, max_tokens=99, messages=ask("hello"), tools=TOOLS)
        same(answer.stop_reason, "tool_use")
        calls = [(block.type, block.name, block.input) for block in answer.content]
        same(calls, [("tool_use", "say", {"text": "hello"}), ("tool_use", "shout", {"text": "hello"})])


@case(MESSAGES, "tools", "in pieces")
def message_of_tools_streamed():
    for model in ("claude", "assistant"):
        with client.messages.stream(model=model, max_tokens=99, messages=ask("hello"), tools=TOOLS) as stream:
            pieces = [event.partial_json for event in stream if event.type == "input_json"]
            last = stream.get_final_message()
        assert len(pieces) > 4
        same([block.input for block in last.content], [{"text": "hello"}] * 2)
        same(last.stop_reason, "tool_use")


@case(MESSAGES, "tools", "results sent back")
def message_of_results():
    for model in ("claude", "assistant"):
        first = client.messages.create(model=model, max_tokens=99, messages=ask("hello"), tools=TOOLS[:1])
        result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "it is said"}
        turns = [
            *ask("hello"),
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        answer = client.messages.create(model=model, max_tokens=99, messages=turns, tools=TOOLS[:1])
        same(answer.content[0].text, "it is said")


@case(MESSAGES, "tools", "our own model: thinking, call, result, answer, in pieces")
def message_of_calls_here():
    call = '<tool_call>{"name": "say", "arguments": {"text": "hello"}}</tool_call>'
    asked = ask(f"say ~<think>It wants it said.</think>I say it. {call}~")
    with client.messages.stream(model="caller", max_tokens=199, messages=asked, tools=TOOLS) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        first = stream.get_final_message()
    thinking, text, use = first.content
    same((thinking.thinking, text.text), ("It wants it said.", "I say it."))
    same((use.name, use.input, first.stop_reason), ("say", {"text": "hello"}, "tool_use"))
    assert len(pieces) > 2
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "done ~It is said.~"}
    turns = [*asked, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(model="caller", max_tokens=99, messages=turns, tools=TOOLS)
    same((second.content[0].text, second.stop_reason), ("It is said.", "end_turn"))


@case(MESSAGES, "tools", "our own model: tool_choice any, and by name")
def message_of_a_chosen_call_here():
    for choice, name in (({"type": "any"}, "say"), ({"type": "tool", "name": "shout"}, "shout")):
        answer = client.messages.create(
            model="caller", max_tokens=99, messages=ask("hello"), tools=TOOLS, tool_choice=choice
        )
        (use,) = answer.content
        same((use.name, list(use.input), answer.stop_reason), (name, ["text"], "tool_use"))


@case(MESSAGES, "tools", "refused by name by a model of ours whose template takes none")
def message_of_tools_here():
    raises(
        anthropic.BadRequestError,
        lambda: client.messages.create(model="llm", max_tokens=9, messages=ask("hello"), tools=TOOLS),
        "tools",
    )


@case(MESSAGES, "error", "401 no such key")
def message_without_key():
    one = anthropic.Anthropic(base_url=URL, api_key="tr-none", max_retries=0)
    error = raises(
        anthropic.AuthenticationError,
        lambda: one.messages.create(model="llm", max_tokens=9, messages=ask("a")),
    )
    same(error.body["error"]["type"], "authentication_error")
    assert error.request_id


@case(MESSAGES, "error", "404 no such model")
def message_of_nothing():
    raises(
        anthropic.NotFoundError,
        lambda: client.messages.create(model="claude-1", max_tokens=9, messages=ask("a")),
        "claude-1",
    )


@case(MESSAGES, "error", "400 names the field")
def message_of_bad_field():
    raises(
        anthropic.BadRequestError,
        lambda: client.messages.create(
            model="claude", max_tokens=9, messages=ask("a"), extra_body={"temperature": 0.5}
        ),
        "temperature",
        "2026-10-21",
    )


@case(MESSAGES, "error", "429 with retry-after")
def message_over_limit():
    one = anthropic.Anthropic(base_url=URL, api_key=LIMITED_KEY, max_retries=0)
    error = until_refused(
        anthropic.RateLimitError,
        lambda: one.messages.create(model="claude", max_tokens=9, messages=ask("a")),
    )
    assert 0 < int(error.response.headers["retry-after"]) <= 60


@case(MESSAGES, "error", "529 overloaded provider")
def message_of_overloaded():
    error = raises(
        anthropic.APIStatusError,
        lambda: client.messages.create(
            model="fakeanthropic:fault-status_529", max_tokens=9, messages=ask("a")
        ),
    )
    same((error.status_code, error.body["error"]["type"]), (529, "overloaded_error"))


@case(MESSAGES, "error", "fault in mid stream")
def message_cut():
    said = []

    def go():
        with client.messages.stream(
            model="fakeanthropic:fault-end-middle",
            max_tokens=9,
            messages=ask("one two three four five six seven eight nine"),
        ) as stream:
            said.extend(stream.text_stream)

    raises(anthropic.APIError, go)
    same("".join(said), "one two three four five six")


@case(COUNT, "whole", "our own model and a provider")
def count():
    assert client.messages.count_tokens(model="llm", messages=ask("What is a trireme?")).input_tokens > 4
    same(client.messages.count_tokens(model="claude", messages=ask("a b c")).input_tokens, 3)


@case(COUNT, "error", "404 no such model")
def count_of_nothing():
    raises(
        anthropic.NotFoundError,
        lambda: client.messages.count_tokens(model="claude-1", messages=ask("a")),
        "claude-1",
    )


@case(MODELS, "whole", "list and one")
def models():
    found = {model.id: model for model in client.models.list()}
    assert {"llm", "claude"} <= set(found), found
    same((found["llm"].type, found["llm"].display_name), ("model", "llm"))
    same(client.models.retrieve("claude").created_at, found["claude"].created_at)


@case(MODELS, "error", "404 no such model")
def no_model():
    raises(anthropic.NotFoundError, lambda: client.models.retrieve("claude-1"), "claude-1")


run(anthropic=anthropic.__version__)
