"""Chunks of plain text, which are put together from bytes that were encoded before."""

import json

import pytest

from trireme.gateway.surface import Envelope
from trireme.gateway.wire.openai_answers import stream
from trireme.providers.chat import ChatCall, Finished, TextDelta

TEXTS = ["one", 'a "quoted" \\ one\n', "漢字 🙂", "\x00text\x00", " "]


def read(raw):
    return [json.loads(frame.removeprefix(b"data: ")) for frame in raw.split(b"\n\n") if frame]


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("choice", [0, 2])
def test_every_chunk_of_text_has_the_form_of_the_first_one(include_usage, choice):
    call = ChatCall("openai", "m", stream=True, include_usage=include_usage, choices=choice + 1)
    writer = stream(call, Envelope("x", 7, "m"))
    role, first = read(writer.write(TextDelta("first", choice)))
    assert role["choices"][0]["delta"]["role"] == "assistant"
    for text in TEXTS:
        [later] = read(writer.write(TextDelta(text, choice)))
        assert later.keys() == first.keys() and later["choices"][0].keys() == first["choices"][0].keys()
        assert later["choices"][0]["delta"] == {"content": text}
        assert {**later, "choices": 0} == {**first, "choices": 0}
        assert later["choices"][0]["index"] == choice
    assert ("usage" in first) == include_usage
    [end] = read(writer.write(Finished("stop", choice)))
    assert end["choices"][0]["finish_reason"] == "stop"
