import pytest

from trireme.providers.chat import (
    ChatCall,
    Foreign,
    Image,
    Message,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from trireme.providers.triton_faults import fault_of

HELLO = (Message("user", (Text("hello"),)),)


def call_of(messages=HELLO, **changes):
    return ChatCall("openai", "llm", messages, **changes)


def test_everything_that_a_generator_does_is_taken():
    turns = (
        Message("system", (Text("be brief"),)),
        Message("user", (Text("a"), Text("b")), name="ann"),
        Message("assistant", (Thinking("hm"), Thinking("signed", "xyz"), Text("c"))),
        Message("user", (Text("d"),)),
    )
    sampling = {
        "max_tokens": 3,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "seed": 7,
        "stop": ("x",),
        "response_format": {"type": "json_object"},
        "tool_choice": "none",
        "betas": ("some-beta",),
        "user": "ann",
    }
    assert fault_of(call_of(turns, **sampling), "llm", "chat") == ""
    assert fault_of(ChatCall("completions", "llm", prompt="once"), "llm", "chat") == ""
    answer = call_of(collection="docs", passages=3, answer_mode="auto", max_tokens=5)
    assert fault_of(answer, "rag", "answer") == ""


@pytest.mark.parametrize("ability", ["chat", "answer", None])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"unknown": ("logit_bias",), "body": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ({"unknown": tuple("abcdefg")}, "a, b, c, d, e and 2 more"),
        ({"choices": 17}, "n: models of this server give at most 16"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"tools": (Tool("f"),)}, "tools"),
        ({"tools": (Tool("f"),), "tool_choice": "none"}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": "tool:f"}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"messages": (Message("user", (Image("data:,"),)),)}, "messages[0] has an image"),
        ({"messages": (*HELLO, Message("user", (Foreign("input_audio"),)))}, "messages[1] has a part of type"),
        ({"messages": (Message("assistant", (ToolUse("1", "f", "{}"),)),)}, "messages[0] has a tool call"),
        ({"messages": (Message("tool", (ToolResult("1", "x"),)),)}, "messages[0]: models of this server"),
        ({"messages": (Message("user", (Thinking("x"),)),)}, "thinking"),
    ],
)  # fmt: skip
def test_what_no_model_of_ours_can_do_is_refused_by_its_name(changes, named, ability):
    fault = fault_of(call_of(**changes), "llm", ability)
    assert named in fault
    assert "leave" in fault or "thinking" in fault


@pytest.mark.parametrize(
    ("surface", "most", "alternatives", "named"),
    [
        ("openai", None, None, ""),
        ("openai", 0, 0, ""),
        ("openai", 20, 20, ""),
        ("openai", 1, 0, "top_logprobs: the engine of model 'llm' names no alternatives of a token; send 0"),
        ("completions", 5, 0, "logprobs: the engine of model 'llm' names no alternatives of a token; send 0"),
        (
            "openai",
            9,
            4,
            "top_logprobs: the engine of model 'llm' names at most 4 alternatives of a token; send 4",
        ),
        (
            "openai",
            0,
            None,
            "logprobs: the configuration of model 'llm' is older than they are; leave it out",
        ),
    ],
)
def test_log_probabilities_are_refused_where_the_engine_has_none(surface, most, alternatives, named):
    call = ChatCall(surface, "llm", HELLO, logprobs=most)
    assert fault_of(call, "llm", "chat", alternatives) == named
    assert fault_of(call, "llm", None) == ""


def test_an_answer_has_log_probabilities_of_its_own_tokens_alone():
    assert fault_of(call_of(logprobs=0), "rag", "answer") == ""
    assert fault_of(call_of(logprobs=2), "rag", "answer").startswith("top_logprobs: model 'rag'")


def test_a_generator_gives_several_answers_and_a_rag_model_one():
    assert fault_of(call_of(choices=16), "llm", "chat") == ""
    assert fault_of(call_of(choices=2), "rag", "answer").startswith("n: model 'rag' gives one answer")


def test_an_answer_with_citations_is_held_to_no_form():
    form = {"type": "json_object"}
    assert fault_of(call_of(response_format={"type": "text"}), "rag", "answer") == ""
    assert fault_of(call_of(response_format=form), "rag", "answer").startswith("response_format: model 'rag'")


def test_a_field_that_is_null_is_as_if_it_were_not_there():
    assert fault_of(call_of(unknown=("store",), body={"store": None}), "llm", "chat") == ""


@pytest.mark.parametrize("field", ["collection", "passages", "answer_mode"])
def test_what_is_for_answers_is_refused_by_a_generator(field):
    assert fault_of(call_of(**{field: "1"}), "llm", "chat").startswith(f"{field}: model 'llm' chats")


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (Message("system", (Text("be brief"),)), *HELLO),
        (*HELLO, *HELLO),
        (*HELLO, Message("assistant", (Text("hi"),)), *HELLO),
        (Message("assistant", (Text("hi"),)),),
    ],
)
def test_an_answer_takes_one_question(messages):
    assert "exactly one message" in fault_of(call_of(messages), "rag", "answer")


def test_an_answer_takes_a_question_and_no_prompt():
    assert "no question" in fault_of(call_of((Message("user", (Text(" "),)),)), "rag", "answer")
    prompt = ChatCall("completions", "rag", prompt="what?")
    assert "send them as a chat" in fault_of(prompt, "rag", "answer")


def test_a_model_for_something_else_says_so():
    assert "embeds texts and does not chat" in fault_of(call_of(), "embedding", "embed")


def test_a_chat_without_messages_is_refused():
    assert fault_of(call_of(()), "llm", "chat").startswith("messages: empty")
