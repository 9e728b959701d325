"""Events to bytes and back: the same events, and nothing else is read."""

import dataclasses
import random
from typing import get_args

import msgspec
import pytest

from trireme.gateway.caching.codec import decode_answer, decode_events, encode_events, shape_of
from trireme.providers.chat import (
    Event,
    Findings,
    Finished,
    Native,
    RefusalDelta,
    Source,
    Sources,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)

EVENTS = [
    Started("m", 3),
    TextDelta("a\u2028é", 1, ({"token": "a", "top": [{"x": -0.5}, None]},)),
    RefusalDelta("no"),
    ThinkingDelta("hm", "c2ln"),
    ToolStart(0, "call_1", "f"),
    ToolDelta(0, '{"a":'),
    Sources((Source(1, "p", "s", 0, 4, 0.25, 1.0, "text"),), {"prompt_tokens": 3}),
    Findings((-0.5,), {"passage_score": 0.25}, ({"role": "user", "content": "q"},)),
    Native("anthropic", {"type": "x", "content_block": {"a": [1, 2.5, True]}}),
    Usage(10, 2, 4, None, 0),
    Finished("stop_sequence", 1, "END"),
]


def encoded(events=EVENTS):
    return encode_events(events, 1 << 20)


def test_every_kind_of_event_comes_back_equal():
    assert {type(event) for event in EVENTS} == set(get_args(Event))
    assert decode_events(encoded()) == EVENTS
    assert decode_events(encoded([])) == []


def test_who_made_an_answer_comes_back_with_it():
    kept = decode_answer(encode_events(EVENTS, 1 << 20, "p:m", "small"))
    assert (kept.events, kept.served, kept.step) == (EVENTS, "p:m", "small")


def test_an_answer_over_the_limit_is_not_encoded():
    size = len(encoded())
    assert encode_events(EVENTS, size) is not None
    assert encode_events(EVENTS, size - 1) is None


@pytest.mark.parametrize("piece", [{"a": 1 << 70}, {"a": object()}, {"a": "\ud800"}])
def test_what_cannot_be_encoded_is_not_kept(piece):
    assert encode_events([Native("openai", piece)], 1000) is None


def test_what_was_not_written_here_is_a_miss():
    good = encoded()
    number, shape, served, step, said = msgspec.msgpack.decode(good)
    others = [
        b"",
        b"\x80\x04\x95.",
        good + b"x",
        msgspec.msgpack.encode([number + 1, shape, served, step, said]),
        msgspec.msgpack.encode([number, shape + 1, served, step, said]),
        msgspec.msgpack.encode([number, shape, 7, step, said]),
        msgspec.msgpack.encode([number, shape, said]),
        msgspec.msgpack.encode([number, shape, served, step, [[99, {}]]]),
        msgspec.msgpack.encode([number, shape, served, step, [[0, {"model": 7}]]]),
        msgspec.msgpack.encode([number, shape, served, step, [[0, {}]]]),
    ]
    assert [decode_events(other) for other in others] == [None] * len(others)


def test_bytes_that_were_changed_on_their_way_are_read_or_missed_and_nothing_is_raised():
    source = random.Random(1)
    good = encoded()
    for _ in range(3000):
        bad = bytearray(good[: source.randint(0, len(good))])
        for _ in range(source.randint(0, 3)):
            if bad:
                bad[source.randrange(len(bad))] = source.randrange(256)
        found = decode_events(bytes(bad))
        assert found is None or all(isinstance(event, get_args(Event)) for event in found)


def test_a_new_field_of_an_event_makes_what_was_kept_a_miss():
    made = dataclasses.make_dataclass("Started", [("model", str), ("input_tokens", int), ("more", int)])
    assert shape_of([made]) != shape_of([Started])
