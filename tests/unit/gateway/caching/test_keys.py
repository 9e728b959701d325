"""Keys: every field is declared, what differs in meaning differs in key, and what does not is equal."""

import dataclasses
import random
import unicodedata
from typing import get_args

import pytest

from trireme.gateway.caching.keys import FIELDS, IN, TWIN, Fingerprint, question_of
from trireme.providers.chat import (
    ChatCall,
    Foreign,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)

WHAT = Fingerprint((("local", "triton", "", "llm", "d1"),))
BODY = Fingerprint((("up", "openai", "http://u", "m", "named by its answers"),), takes_body=True)
HI = (Message("user", (Text("hi"),)),)
CALL = ChatCall("openai", "m", HI, tenant="acme", temperature=0.0)
# Of each field of a call in the key: another value.
OTHERS = {
    "tenant": "acme2",
    "salt": "s",
    "model": "m2",
    "messages": (Message("user", (Text("ho"),)),),
    "unknown": ("extra",),
    "prompt": "hi",
    "tools": (Tool("f"),),
    "tool_choice": "any",
    "parallel_tool_calls": False,
    "max_tokens": 7,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "seed": 0,
    "stop": ("x",),
    "choices": 2,
    "logprobs": 0,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "betas": ("b",),
    "api_version": "2023-06-01",
    "passages": 2,
    "answer_mode": "extractive",
    "stop_when": {"sentences": 1},
}
# Of each field that is out: another value.
SAME = {
    "surface": "anthropic",
    "body": {"a": 1},
    "stream": True,
    "include_usage": True,
    "collection": "c",
    "user": "ann",
    "key_id": "key_ann",
    "default_collection": "d",
    "asks_evidence": True,
    "asks_prompt": True,
    "rerank_depth": 0,
    "eased_mode": "extractive",
}


def key(call, fingerprint=WHAT):
    return question_of(call, fingerprint).key


def said(*parts):
    return dataclasses.replace(CALL, messages=(Message("user", parts),))


def test_every_field_of_a_call_and_of_its_parts_is_declared():
    kinds = (ChatCall, Message, Tool, *get_args(Part))
    assert set(FIELDS) == set(kinds)
    for kind in kinds:
        assert {field.name for field in dataclasses.fields(kind)} == set(FIELDS[kind]), kind
        assert all(len(place) > 3 or place == IN for place in FIELDS[kind].values())


def test_every_field_has_another_value_here():
    ins = {name for name, place in FIELDS[ChatCall].items() if place in (IN, TWIN)}
    assert set(OTHERS) == ins
    assert set(SAME) == set(FIELDS[ChatCall]) - ins


@pytest.mark.parametrize("name", OTHERS)
def test_another_value_of_a_field_in_the_key_is_another_question(name):
    assert key(dataclasses.replace(CALL, **{name: OTHERS[name]})) != key(CALL)


@pytest.mark.parametrize("name", SAME)
def test_another_value_of_a_field_out_of_the_key_is_the_same_question(name):
    assert key(dataclasses.replace(CALL, **{name: SAME[name]})) == key(CALL)


PARTS = {
    Text: (Text("a"), {"text": "b"}),
    Image: (Image("u"), {"url": "v", "detail": "low"}),
    ToolUse: (ToolUse("i", "n", "{}"), {"id": "j", "name": "o", "arguments": "[]"}),
    ToolResult: (ToolResult("i", "t"), {"id": "j", "text": "u", "images": (Image("u"),), "is_error": True}),
    Thinking: (Thinking("t"), {"text": "u", "signature": "s"}),
    Foreign: (Foreign("k"), {"kind": "l"}),
}


@pytest.mark.parametrize("kind", PARTS)
def test_another_value_of_any_field_of_a_part_is_another_question(kind):
    part, others = PARTS[kind]
    assert set(others) == set(FIELDS[kind])
    for name, value in others.items():
        assert key(said(dataclasses.replace(part, **{name: value}))) != key(said(part)), name


def test_another_value_of_any_field_of_a_message_or_a_tool_is_another_question():
    message, tool = HI[0], Tool("f", "d", {"type": "object"}, None)
    for name, value in {"role": "system", "parts": (Text("ho"),), "name": "n"}.items():
        other = dataclasses.replace(message, **{name: value})
        assert key(dataclasses.replace(CALL, messages=(other,))) != key(CALL), name
    changes = {"name": "g", "description": "e", "schema": {}, "strict": True}
    assert set(changes) == set(FIELDS[Tool])
    with_tool = dataclasses.replace(CALL, tools=(tool,))
    for name, value in changes.items():
        other = dataclasses.replace(CALL, tools=(dataclasses.replace(tool, **{name: value}),))
        assert key(other) != key(with_tool), name


def test_parts_of_different_kinds_with_the_same_words_are_different_questions():
    parts = [Text("a"), Image("a"), Thinking("a"), Foreign("a")]
    assert len({key(said(part)) for part in parts}) == len(parts)
    assert key(said(Text("a"), Text("b"))) != key(said(Text("a\nb")))


@pytest.mark.parametrize("what", [WHAT, BODY])
def test_the_order_of_a_schema_is_in_the_key_since_answers_follow_it(what):
    def key_of(*names):
        schema = {"anyOf": [{"type": "object", "properties": {name: {} for name in names}}]}
        form = {"type": "json_schema", "json_schema": {"schema": schema}}
        return question_of(dataclasses.replace(CALL, response_format=form), what).key

    assert key_of("why", "answer") == key_of("why", "answer")
    assert key_of("why", "answer") != key_of("answer", "why")


def test_every_word_of_what_answers_is_in_the_key():
    for place, word in enumerate(WHAT.targets[0]):
        other = (*WHAT.targets[0][:place], word + "x", *WHAT.targets[0][place + 1 :])
        assert key(CALL, Fingerprint((other,))) != key(CALL)
    assert key(CALL, Fingerprint((*WHAT.targets, ("b",)))) != key(CALL)
    assert key(CALL, dataclasses.replace(WHAT, rules={"sentences": 2})) != key(CALL)
    one = Fingerprint(WHAT.targets, collection=("docs", "r1"))
    assert (
        len({key(CALL), key(CALL, one), key(CALL, dataclasses.replace(one, collection=("docs", "r2")))}) == 3
    )


def test_a_body_that_goes_on_as_it_is_is_in_the_key_without_what_no_provider_gets():
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}
    call = dataclasses.replace(CALL, body=body)
    same = {**body, "stream": True, "stream_options": {"include_usage": True}, "trireme": {}, "model": "x"}
    for name in ("tenant", "cache_salt", "prompt_cache_key"):
        same[name] = "?"
    assert key(dataclasses.replace(call, body=same), BODY) == key(call, BODY)
    assert key(dataclasses.replace(call, body={**body, "user": "u"}), BODY) != key(call, BODY)
    assert key(dataclasses.replace(call, body={**body, "extra": None}), BODY) != key(call, BODY)
    assert key(dataclasses.replace(call, surface="completions"), BODY) != key(call, BODY)
    turned = {name: body[name] for name in reversed(body)}
    assert key(dataclasses.replace(call, body=turned), BODY) == key(call, BODY)


def test_what_a_body_says_of_a_message_beside_its_text_is_in_the_key_and_no_question_by_itself():
    plain = {"messages": [{"role": "user", "content": "hi"}]}
    marked = {"messages": [{"role": "user", "content": "hi", "cache_control": {"type": "ephemeral"}}]}
    one, other = (question_of(dataclasses.replace(CALL, body=body), BODY) for body in (plain, marked))
    assert one.key != other.key
    assert (one.text, other.text) == ("hi", "")


def test_questions_of_one_partition_differ_in_the_users_text_alone():
    system = Message("system", (Text("be short"),))
    one, other = (
        question_of(dataclasses.replace(CALL, messages=(system, Message("user", (Text(text),)))), WHAT)
        for text in ("hi", "ho")
    )
    assert one.partition == other.partition
    assert one.key != other.key
    assert (one.text, other.text) == ("hi", "ho")
    longer = dataclasses.replace(
        CALL, messages=(Message("system", (Text("be long"),)), Message("user", (Text("hi"),)))
    )
    assert question_of(longer, WHAT).partition != one.partition


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("user", (Text("a"),)), Message("assistant", (Text("b"),)), *HI)},
        {"messages": (Message("user", (Text("hi"), Image("u"))),)},
        {"messages": (Message("user", (Text("hi"),), "ann"),)},
        {"messages": (), "prompt": "hi"},
        {"tools": (Tool("f"),)},
        {"messages": (Message("user", (Text(""),)),)},
    ],
)
def test_a_call_that_is_no_single_question_has_no_text(change):
    assert question_of(dataclasses.replace(CALL, **change), WHAT).text == ""


@pytest.mark.parametrize("bad", ["\ud800", 1 << 70, object()])
def test_a_call_that_cannot_be_encoded_has_no_key(bad):
    call = dataclasses.replace(CALL, response_format={"x": bad})
    assert question_of(call, WHAT) is None


def test_numbers_and_their_texts_are_different():
    formats = [1, 1.0, True, "1", None, [1], {"1": None}, b"1"]
    keys = {key(dataclasses.replace(CALL, response_format={"x": value})) for value in formats}
    assert len(keys) == len(formats)


# Signs that could end a field, cut one in two, or look like another.
SIGNS = ["", "a", "A", "b", "ab", "é", "e\u0301", "\u200b", "\x00", ":", "|", "/", "\n", " ", "{", "}", '"', "\\",
         "ﬁ", "fi", "а", "\u2028", "acme", "acme2", "1", "0", "Å", "Å", ",", "=", ";"]  # fmt: skip


def _word(source):
    return "".join(source.choice(SIGNS) for _ in range(source.randint(0, 3)))


def _meaning(source):
    """A tenant and a call as plain values, in which equal means the same."""
    parts = tuple((source.choice(["text", "think"]), _word(source)) for _ in range(source.randint(1, 2)))
    turns = tuple((source.choice(["system", "user", "assistant"]), _word(source), parts) for _ in range(1))
    return (_word(source), _word(source), turns, tuple(_word(source) for _ in range(source.randint(0, 2))),
            source.choice([None, 0, 1]), source.choice([None, _word(source)]))  # fmt: skip


def _call(meaning):
    tenant, model, turns, stop, seed, prompt = meaning
    messages = tuple(
        Message(role, tuple(Text(text) if kind == "text" else Thinking(text) for kind, text in parts), name)
        for role, name, parts in turns
    )
    return ChatCall("openai", model, messages, tenant=tenant, stop=stop, seed=seed, prompt=prompt)


def _alike(source, meaning):
    """A meaning near to another one: words moved over a border, normalized, swapped; or the same again."""
    tenant, model, turns, stop, seed, prompt = meaning
    role, name, parts = turns[0]
    moved = ((parts[0][0], name + parts[0][1]), *parts[1:])
    form = source.choice(["NFC", "NFD", "NFKC"])
    return source.choice(
        [
            meaning,
            (tenant + model[:1], model[1:], turns, stop, seed, prompt),
            (unicodedata.normalize(form, tenant), model, turns, stop, seed, prompt),
            (model, tenant, turns, stop, seed, prompt),
            (tenant, model, turns, ("".join(stop),), seed, prompt),
            (tenant, model, ((role, "", moved),), stop, seed, prompt),
            (tenant.swapcase(), model, turns, stop, None if seed == 0 else seed, prompt or None),
        ]
    )


def test_of_100_000_pairs_that_look_alike_keys_are_equal_where_the_meaning_is_and_nowhere_else():
    source = random.Random(15)
    seen = {}
    same = different = 0
    for _ in range(100_000):
        one = _meaning(source)
        other = _alike(source, one)
        keys = [key(_call(meaning)) for meaning in (one, other)]
        assert (keys[0] == keys[1]) == (one == other), (one, other)
        same, different = same + (one == other), different + (one != other)
        for meaning, made in zip((one, other), keys, strict=True):
            assert seen.setdefault(made, meaning) == meaning
    assert same > 10_000
    assert different > 40_000
    assert len(set(seen.values())) == len(seen)
