"""Who may be served, and which answers may be kept."""

import pytest

from trireme.gateway.caching.wishes import Wish, is_complete, is_eligible, read_wish
from trireme.providers.chat import (
    ChatCall,
    Finished,
    Image,
    Message,
    Native,
    RefusalDelta,
    Started,
    Text,
    TextDelta,
    Usage,
)

CALL = ChatCall("openai", "m", temperature=0.0)


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        ("", Wish()),
        ("no-cache", Wish(may_read=False)),
        ("No-Store", Wish(may_read=False, may_keep=False)),
        ("no-cache, no-store", Wish(may_read=False, may_keep=False)),
        ("max-age=12", Wish(max_age=12.0)),
        ('max-age="0"', Wish(max_age=0.0)),
        (" only-if-cached ,max-age=3", Wish(max_age=3.0, only_kept=True)),
        ("max-age=-1", Wish(max_age=0.0)),
        ("max-age=²", Wish(max_age=0.0)),
        ("max-age=1.5", Wish(max_age=0.0)),
        ("max-age", Wish(max_age=0.0)),
        ("max-age=5, max-age=100", Wish(max_age=5.0)),
        ("max-age=99999999999999", Wish(max_age=99999999999999.0)),
        ("private, x=y", Wish()),
    ],
)
def test_the_clients_cache_control_is_read(header, wish):
    assert read_wish({"cache-control": header}) == wish
    assert read_wish({}) == Wish()


@pytest.mark.parametrize(
    ("changes", "eligible"),
    [
        ({"messages": (Message("user", (Image("data:image/png;base64,AA=="),)),)}, True),
        ({"messages": (Message("user", (Text("what is it?"), Image("https://host/today.png"))),)}, False),
        ({"body": {"web_search_options": {}}}, False),
        ({"body": {"plugins": [{"id": "web"}]}}, False),
        ({"body": {"metadata": {}}}, True),
    ],
    ids=str,
)
def test_what_lies_elsewhere_is_of_its_time_and_never_kept(changes, eligible):
    call = ChatCall("openai", "m", temperature=0, **changes)
    assert is_eligible(call, "deterministic", is_greedy=False) is eligible
    assert is_eligible(call, "all", is_greedy=False) is eligible


@pytest.mark.parametrize(
    ("temperature", "choices", "is_greedy", "eligible"),
    [
        (0.0, 1, False, True),
        (0.0, 2, False, False),
        (0.1, 1, True, False),
        (None, 1, False, False),
        (None, 1, True, True),
    ],
)
def test_by_default_only_what_is_decoded_greedily_is_eligible(temperature, choices, is_greedy, eligible):
    call = ChatCall("openai", "m", temperature=temperature, choices=choices)
    assert is_eligible(call, "deterministic", is_greedy=is_greedy) is eligible
    assert is_eligible(call, "all", is_greedy=is_greedy)
    assert not is_eligible(call, "off", is_greedy=is_greedy)


def whole(*middle, reason="stop"):
    return [Started("m"), *middle, TextDelta("a"), Usage(3, 5), Finished(reason)]


@pytest.mark.parametrize("reason", ["stop", "stop_sequence", "tool_use"])
def test_a_whole_answer_may_be_kept(reason):
    assert is_complete(whole(reason=reason), CALL)


@pytest.mark.parametrize(
    "events",
    [
        [],
        whole(reason="filter"),
        whole(reason="refusal"),
        whole(reason="pause"),
        whole(RefusalDelta("no")),
        whole()[1:],
        whole()[:-1],
        [*whole(), Finished("stop", 1)],
        whole(Native("anthropic", {"content_block": {"type": "web_search_tool_result"}})),
        whole(Native("anthropic", {"content_block": {"type": "server_tool_use"}})),
    ],
)
def test_anything_else_is_not_kept(events):
    assert not is_complete(events, CALL)


def test_every_choice_must_have_ended():
    two = ChatCall("openai", "m", choices=2)
    assert not is_complete(whole(), two)
    assert is_complete([*whole(), Finished("stop", 1)], two)


@pytest.mark.parametrize(("most", "kept"), [(5, True), (6, False), (None, False)])
def test_an_answer_cut_at_a_length_is_kept_where_the_call_named_that_length(most, kept):
    call = ChatCall("openai", "m", max_tokens=most)
    assert is_complete(whole(reason="length"), call) is kept


@pytest.mark.parametrize(("second", "kept"), [(Finished("length", 1), False), (Finished("stop", 1), True)])
def test_of_choices_each_that_was_cut_has_the_length_that_the_call_named(second, kept):
    two = ChatCall("openai", "m", max_tokens=5, choices=2)
    assert is_complete([*whole(Usage(3, 9), reason="length"), Usage(3, 9), second], two) is kept


def test_a_piece_that_only_one_surface_reads_does_not_keep_an_answer_out():
    assert is_complete(whole(Native("anthropic", {"type": "content_block_stop", "index": 0})), CALL)
