"""What is counted of an answer: the provider's word where it is the last one, else what came."""

import pytest

from trireme.budget.caps import MOST
from trireme.budget.prices import Tokens
from trireme.gateway.spending.counting import AnswerCount
from trireme.providers.chat import (
    Finished,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)


def used_of(*events, outcome="ok", bound=(100, 50)):
    count = AnswerCount(*bound)
    for event in events:
        count.note(event)
    return count.used(outcome)


def test_the_last_count_of_a_provider_holds_and_what_it_leaves_out_is_kept():
    used = used_of(
        Started("m", 5), Usage(9, 1, 2, 3), TextDelta("x"), Usage(output_tokens=4, reasoning_tokens=3)
    )
    assert (used.tokens, used.reasoning, used.counted_by) == (Tokens(9, 2, 3, 4), 3, "provider")


@pytest.mark.parametrize(
    ("event", "tokens"),
    [
        (TextDelta("abcd"), 2),
        (ThinkingDelta("abcdefg"), 3),
        (RefusalDelta("no"), 1),
        (ToolDelta(0, '{"a": 1}'), 3),
        (ToolStart(0, "id", "look_up"), 3),
        (TextDelta("日本"), 2),
        (TextDelta(""), 0),
        (ThinkingDelta(signature="x" * 90), 0),
    ],
)
def test_every_kind_of_content_counts_by_its_bytes(event, tokens):
    assert used_of(Started("m"), event).tokens.output == tokens


def test_each_part_is_a_token_at_least_and_the_hold_is_the_most():
    letters = [TextDelta("a") for _ in range(30)]
    assert used_of(*letters).tokens.output == 30
    assert used_of(TextDelta("x" * 999)).tokens.output == 50
    # More parts than were paid for did come.
    assert used_of(*letters, bound=(100, 20)).tokens.output == 30


def test_a_count_on_the_way_is_the_least_of_what_came_behind_it():
    assert used_of(Usage(9, 8), TextDelta("x")).tokens == Tokens(input=9, output=8)


def test_what_a_provider_says_is_kept_within_what_counters_hold():
    used = used_of(Usage(-5, MOST * 8, 7, 0, MOST))
    assert used.tokens.input == 7 and 0 < used.tokens.output <= MOST
    assert used.reasoning <= used.tokens.output


@pytest.mark.parametrize("count", [0, -9])
def test_who_counts_nothing_of_what_came_has_not_counted(count):
    """Some servers send zeros in every answer, which would be free for ever."""
    used = used_of(Started("m"), TextDelta("abcdefg"), Usage(count, count), Finished("stop"))
    assert (used.tokens, used.counted_by) == (Tokens(input=100, output=3), "counted")
    used = used_of(Started("m"), TextDelta("abcdefg"), Usage(7, count), Finished("stop"))
    assert (used.tokens, used.counted_by) == (Tokens(input=7, output=3), "counted")
    used = used_of(Started("m"), Usage(7, 0), Finished("stop"))
    assert (used.tokens, used.counted_by) == (Tokens(input=7), "provider")


def test_what_was_refused_is_free_only_where_nothing_came():
    assert used_of(outcome="overloaded").tokens == Tokens()
    assert used_of(Started("m"), outcome="overloaded").tokens == Tokens(input=100)
    assert used_of(outcome="cut").tokens == Tokens(input=100)


def test_it_knows_which_choices_have_ended():
    count = AnswerCount(1, 1)
    for event in (Finished("stop", 1), TextDelta("x"), Finished("stop", 0)):
        count.note(event)
    assert (count.finished, count.parts) == ({0, 1}, 1)
