"""A rag model's prompt in place of a client's question."""

import dataclasses

import pytest

from trireme.gateway.cascades.passages import with_prompt
from trireme.providers.anthropic_bodies import write_body as write_anthropic
from trireme.providers.chat import ChatCall, Message, Text
from trireme.providers.openai_bodies import write_body as write_openai

PROMPT = ({"role": "system", "content": "Be true."}, {"role": "user", "content": "<1> Oars.\nQ: what?"})
ASKED = (Message("user", (Text("what?"),)),)
SYSTEM, USER = (one["content"] for one in PROMPT)


def call_of(surface, **more):
    body = {"model": "m", "messages": [{"role": "user", "content": "what?"}], "max_tokens": 9, "new": 1}
    return ChatCall(surface, "m", ASKED, {**body, **more}, max_tokens=9, tenant="acme")


def text_of(content):
    """Of Anthropic's content, which may be a text or its parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@pytest.mark.parametrize("surface", ["openai", "anthropic", "responses"])
def test_every_provider_gets_the_prompt_whoever_asks(surface):
    found = with_prompt(call_of(surface), PROMPT)
    assert write_openai(found, "big", "off")["messages"] == list(PROMPT)
    anthropic = write_anthropic(found, "big")
    assert (text_of(anthropic["system"]), text_of(anthropic["messages"][-1]["content"])) == (SYSTEM, USER)
    assert len(anthropic["messages"]) == 1


def test_what_the_client_said_beside_its_question_stays():
    found = with_prompt(call_of("openai"), PROMPT)
    assert (found.body["max_tokens"], found.body["new"], found.max_tokens) == (9, 1, 9)
    assert (found.tenant, found.messages[-1].text) == ("acme", USER)


def test_what_chose_the_passages_is_not_asked_of_a_chat_model():
    call = dataclasses.replace(call_of("openai"), collection="docs", passages=3, answer_mode="extractive")
    found = with_prompt(call, PROMPT)
    assert (found.collection, found.passages, found.answer_mode) == (None, None, None)
