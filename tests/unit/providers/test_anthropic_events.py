import json

import pytest

from fakes import anthropic_streams as streams
from fakes.anthropic_streams import data_of
from trireme.gateway.surface import Envelope
from trireme.gateway.wire.anthropic import stream, whole
from trireme.providers.anthropic_events import AnswerReader, error_of, read_count, read_whole
from trireme.providers.chat import (
    ChatCall,
    Finished,
    Native,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)
from trireme.providers.port import ProviderError

ENVELOPE = Envelope("01x", 1_700_000_000, "claude-test-1")
CALL = ChatCall("anthropic", "claude-test-1")


def read(sent, keeps_ids=True):
    reader = AnswerReader(keeps_ids)
    events = [event for data in data_of(sent) for event in reader.read(data)]
    reader.finish()
    return events


def fault(sent):
    with pytest.raises(ProviderError) as caught:
        read(sent)
    return caught.value


def merged(events):
    """Neighbouring deltas of one kind as one: where texts are cut says nothing."""
    found = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            found[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, ToolDelta) and isinstance(last, ToolDelta) and event.index == last.index:
            found[-1] = ToolDelta(event.index, last.arguments + event.arguments)
        elif isinstance(event, ThinkingDelta) and isinstance(last, ThinkingDelta) and not last.signature:
            found[-1] = ThinkingDelta(last.text + event.text, event.signature)
        else:
            found.append(event)
    return found


def test_text_is_read_with_what_it_cost():
    assert read(streams.TEXT) == [
        Started("claude-test-1", 25),
        Usage(input_tokens=25),
        TextDelta("Grüß"),
        TextDelta(" dich, 世界 🌍"),
        Usage(input_tokens=25, output_tokens=15),
        Finished("stop"),
    ]


def test_calls_of_tools_are_counted_and_their_arguments_stay_text():
    assert read(streams.TOOLS) == [
        Started("claude-test-1", 147),
        Usage(input_tokens=147, cached_tokens=100, cache_write_tokens=7),
        TextDelta("I look."),
        ToolStart(0, "toolu_01A", "weather"),
        ToolDelta(0, '{"city":"Mü'),
        ToolDelta(0, 'nchen\\n"}'),
        ToolStart(1, "toolu_01B", "now"),
        ToolDelta(1, "{}"),
        Usage(input_tokens=147, output_tokens=89, cached_tokens=100, cache_write_tokens=7),
        Finished("tool_use"),
    ]


def test_clients_of_other_surfaces_get_ids_in_their_form():
    starts = [event for event in read(streams.TOOLS, keeps_ids=False) if isinstance(event, ToolStart)]
    assert [start.id for start in starts] == ["call_01A", "call_01B"]


def test_thinking_keeps_its_signature_and_a_redacted_block_passes_for_those_who_can_read_it():
    assert read(streams.THINKING)[2:] == [
        ThinkingDelta("Two and"),
        ThinkingDelta(" two."),
        ThinkingDelta(signature="EqQBCgIYAhIM"),
        Native("anthropic", {"type": "redacted_thinking", "data": "EmwKAhgBEgy3"}),
        TextDelta("Four."),
        Usage(input_tokens=25, output_tokens=30, reasoning_tokens=21),
        Finished("stop"),
    ]


def test_a_refusal_is_an_answer():
    assert read(streams.REFUSAL)[2:] == [
        TextDelta("I can"),
        Native("anthropic", {"type": "refusal", "category": "bio", "explanation": None}),
        Usage(input_tokens=25, output_tokens=2),
        Finished("refusal"),
    ]


def test_what_anthropic_ran_itself_passes_whole_and_unknown_types_are_ignored():
    assert read(streams.SEARCHED)[2:-2] == [
        Native(
            "anthropic",
            {
                "type": "server_tool_use",
                "id": "srvtoolu_01",
                "name": "web_search",
                "input": {"query": "oars"},
            },
        ),
        Native("anthropic", {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": []}),
        TextDelta("Oars are long."),
    ]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("unheard_of", "stop"),
    ],
)
def test_a_stop_reason_is_read_and_an_unknown_one_is_a_stop(said, reason):
    sent = streams.start() + streams.ended(said, {"output_tokens": 1})
    assert read(sent)[-1] == Finished(reason)


def test_the_stop_sequence_that_was_met_is_kept():
    sent = streams.start() + streams.ended("stop_sequence", {"output_tokens": 1}, "END")
    assert read(sent)[-1] == Finished("stop_sequence", stop_sequence="END")


def test_a_prompt_of_no_tokens_is_one_that_was_not_counted():
    sent = streams.start({"input_tokens": 0, "output_tokens": 0}) + streams.ended(
        "end_turn", {"input_tokens": 12, "output_tokens": None}
    )
    assert read(sent) == [Started("claude-test-1"), Usage(input_tokens=12), Finished("stop")]


def test_counts_are_totals_a_later_one_replaces():
    sent = streams.start({"input_tokens": 5, "output_tokens": 1}) + streams.ended(
        "end_turn", {"input_tokens": 8, "cache_read_input_tokens": 2, "output_tokens": 3}
    )
    assert read(sent)[-2] == Usage(input_tokens=10, output_tokens=3, cached_tokens=2)


@pytest.mark.parametrize("name", streams.WHOLE)
def test_a_stream_that_is_cut_after_any_frame_was_cut_and_has_no_end(name):
    frames = data_of(streams.WHOLE[name])
    for cut in range(len(frames)):
        reader = AnswerReader(keeps_ids=True)
        events = [event for data in frames[:cut] for event in reader.read(data)]
        assert not any(isinstance(event, Finished) for event in events)
        with pytest.raises(ProviderError) as caught:
            reader.finish()
        assert (caught.value.kind, caught.value.remedy) == ("cut", "again")


@pytest.mark.parametrize("name", streams.WHOLE)
def test_what_is_written_for_a_client_reads_back_as_the_same_events(name):
    events = read(streams.WHOLE[name])
    writer = stream(CALL, ENVELOPE)
    sent = b"".join([*(writer.write(event) for event in events), writer.end()])
    assert merged(read(sent)) == merged(events)


@pytest.mark.parametrize("name", streams.WHOLE)
def test_a_whole_answer_reads_as_the_events_of_its_stream(name):
    events = read(streams.WHOLE[name])
    message = json.dumps(whole(CALL, ENVELOPE, events)).encode()
    assert merged(read_whole(message, keeps_ids=True)) == merged(events)


def test_an_error_in_the_middle_is_raised_as_what_it_is():
    error = fault(streams.BROKEN)
    assert (error.kind, error.remedy) == ("overloaded", "again")
    assert "Overloaded" in str(error)


@pytest.mark.parametrize(
    ("kind", "text", "word", "remedy"),
    [
        ("overloaded_error", "x", "overloaded", "again"),
        ("api_error", "x", "server", "again"),
        ("timeout_error", "x", "timeout", "again"),
        ("conflict_error", "x", "conflict", "again"),
        ("rate_limit_error", "x", "rate_limit", "rotate"),
        ("authentication_error", "x", "auth", "rotate"),
        ("permission_error", "x", "auth", "rotate"),
        ("billing_error", "x", "billing", "rotate"),
        ("invalid_request_error", "Your credit balance is too low", "billing", "rotate"),
        ("not_found_error", "model: x", "not_found", "next"),
        ("request_too_large", "x", "too_large", "give_up"),
        ("invalid_request_error", "max_tokens: required", "invalid", "give_up"),
        ("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", "too_long", "larger"),
        ("unheard_of_error", "x", "unknown", "next"),
    ],
)
def test_each_error_says_what_may_help(kind, text, word, remedy):
    error = error_of({"type": kind, "message": text}, 418, 2.0)
    assert (error.kind, error.remedy, error.status, error.retry_after) == (word, remedy, 418, 2.0)
    assert (text in str(error).partition(":")[2]) == (word not in ("auth", "billing"))


def test_a_providers_long_text_is_quoted_in_part():
    assert len(str(error_of({"type": "api_error", "message": "x" * 9000}))) < 400


MALFORMED = {
    "no JSON": [b"{"],
    "no UTF-8": [b'{"type":"\xff"}'],
    "no object": [b"[]"],
    "no type": [b"{}"],
    "no start": [b'{"type":"content_block_stop","index":0}'],
    "no model": [b'{"type":"message_start","message":{}}'],
    "two starts": data_of(streams.start()) * 2,
    "no block": [*data_of(streams.start()), b'{"type":"content_block_start","index":0}'],
    "a tool without a name": [
        *data_of(streams.start()),
        b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"x"}}',
    ],
    "a delta without its text": [
        *data_of(streams.start()),
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}',
    ],
    "an end without a reason": [*data_of(streams.start()), b'{"type":"message_stop"}'],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_frame_lets_another_target_answer(name):
    reader = AnswerReader(keeps_ids=True)
    with pytest.raises(ProviderError) as caught:
        for data in MALFORMED[name]:
            list(reader.read(data))
    assert (caught.value.kind, caught.value.remedy) == ("malformed", "next")


def test_what_comes_behind_the_end_is_ignored():
    assert read(streams.TEXT + streams.start())[-1] == Finished("stop")


@pytest.mark.parametrize("sent", [b"", b"<html>", b"[]", b'{"type":"message"}', b'{"content":[]}'])
def test_a_whole_answer_that_is_no_message_is_malformed(sent):
    with pytest.raises(ProviderError) as caught:
        read_whole(sent, keeps_ids=True)
    assert caught.value.kind == "malformed"


def test_an_error_object_in_a_whole_answer_is_an_error():
    with pytest.raises(ProviderError) as caught:
        read_whole(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', keeps_ids=True)
    assert caught.value.kind == "overloaded"


def test_a_count_is_read():
    assert read_count(b'{"input_tokens": 2095}') == 2095


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"{}", "malformed"),
        (b"x", "malformed"),
        (b'{"input_tokens": "3"}', "malformed"),
        (b'{"type":"error","error":{"type":"not_found_error","message":"m"}}', "not_found"),
    ],
)
def test_an_answer_without_a_count_is_an_error(sent, kind):
    with pytest.raises(ProviderError) as caught:
        read_count(sent)
    assert caught.value.kind == kind
