"""Which calls may be answered from the semantic cache."""

from dataclasses import replace

import pytest

from trireme.gateway.caching.eligible import find_fault
from trireme.providers.chat import ChatCall, Image, Message, Text, Tool, ToolResult


def said(role, *parts):
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


CALL = ChatCall(
    "openai",
    "m",
    messages=(said("system", "You are terse."), said("user", "What is the capital of France?")),
    temperature=0.0,
)


def asking(text):
    return replace(CALL, messages=(said("user", text),))


def test_a_question_by_itself_is_eligible():
    assert find_fault(CALL) == ""
    assert find_fault(asking("How do I install Python on Windows?")) == ""
    assert find_fault(asking("Tell me about the French revolution")) == ""
    assert find_fault(replace(CALL, response_format={"type": "text"}, tool_choice="none")) == ""


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"surface": "completions", "prompt": "What is the capital of France?", "messages": ()},
            "completion",
        ),
        ({"messages": ()}, "turns"),
        ({"messages": (*CALL.messages, said("assistant", "Paris."), said("user", "And of Spain?"))}, "turns"),
        ({"messages": (*CALL.messages, said("assistant", "The capital is"))}, "turns"),
        (
            {"messages": (said("user", "What is this a picture of?", Image("https://x.example/a.png")),)},
            "parts",
        ),
        ({"messages": (said("user", "What is the capital", "of France?"),)}, "parts"),
        ({"messages": (said("system", Image("https://x.example/a.png")), CALL.messages[1])}, "parts"),
        ({"messages": (said("tool", ToolResult("1", "x")), CALL.messages[1])}, "turns"),
        ({"tools": (Tool("t"),)}, "tools"),
        ({"tool_choice": "auto"}, "tools"),
        ({"response_format": {"type": "json_object"}}, "format"),
        ({"response_format": {}}, "format"),
        ({"choices": 2}, "choices"),
        ({"logprobs": 0}, "choices"),
        ({"temperature": 0.7}, "temperature"),
        ({"temperature": None}, "temperature"),
    ],
)
def test_every_other_call_is_not(changes, fault):
    assert find_fault(replace(CALL, **changes)) == fault


def test_a_route_may_declare_that_any_temperature_is_kept():
    for temperature in (None, 0.7):
        assert find_fault(replace(CALL, temperature=temperature), is_declared=True) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("What is my name?", "personal"),
        ("Where do I live if I live in Rome?", "personal"),
        ("What is the best restaurant near me?", "personal"),
        ("Am I too old to learn to swim?", "personal"),
        ("I'm tired, what should be done?", "personal"),
        ("Who is the current president of France?", "timely"),
        ("What is the weather in Paris?", "timely"),
        ("What happened last year in Rome?", "timely"),
        ("What time is it in Tokyo?", "timely"),
        ("What is the latest version of Python?", "timely"),
        ("Who won the match yesterday?", "timely"),
        ("What is on TV this evening?", "timely"),
        ("Give me a random number of the list", "varied"),
        ("Tell me another joke about cats", "varied"),
        ("Wie heißt die Hauptstadt von Frankreich?", "language"),
        ("Capital France", "short"),
        ("What is " + "the meaning of life and " * 50 + "all?", "long"),
    ],
)
def test_a_text_whose_answer_is_of_the_moment_or_the_caller_is_not_eligible(text, fault):
    assert find_fault(asking(text)) == fault
