import dataclasses

import pytest

from fakes.cascade_gateways import SURE, UNSURE, calibration_of, chance_of, said, whole
from trireme.gateway.cascades.heard import FILTERED, NO_EVIDENCE, NO_TEXT, Heard, shown
from trireme.gateway.cascades.heard import UNSURE as UNSURE_WORD
from trireme.providers.chat import (
    ChatCall,
    Findings,
    Finished,
    RefusalDelta,
    Source,
    Sources,
    Started,
    TextDelta,
    ToolStart,
    Usage,
)

LEAST = calibration_of("logprob_least", center=-1.0)
TABLE = {
    "tokens": ["a", "b"],
    "token_logprobs": [-0.5, -2.0],
    "top_logprobs": [{"a": -0.5, "x": -1.5}, {"b": -2.0, "y": -2.25}],
}


def heard_of(*events, is_whole=True):
    heard = Heard()
    for event in events:
        heard.note(event)
    heard.is_whole = is_whole
    return heard


def sources(*supports, **details):
    cited = tuple(Source(n, "p", "s", 0, 1, 0.5, support, "t") for n, support in enumerate(supports))
    return Sources(cited, details)


def test_an_answer_is_kept_from_its_threshold_on():
    reason, chance = heard_of(*SURE).judge(LEAST)
    assert (reason, chance) == ("", pytest.approx(chance_of(0.8)))
    reason, chance = heard_of(*UNSURE).judge(LEAST)
    assert (reason, chance) == (UNSURE_WORD, pytest.approx(chance_of(-2.0)))
    assert heard_of(*whole(*said("a", -1.0))).judge(LEAST)[0] == ""


def test_evidence_has_the_tokens_and_how_far_the_second_ones_lie_behind():
    pieces = said("one two", -0.25, -1.0, tops=((-0.25, -2.25), (-1.0, -1.5, -7.0)))
    evidence = heard_of(*whole(*pieces)).evidence()
    assert (evidence.tokens, evidence.is_cut, evidence.is_refusal) == (2, False, False)
    assert (evidence.logprob_first, evidence.logprob_least, evidence.margin_p10) == (-0.25, -1.0, 0.5)
    assert evidence.citations is None


def test_the_table_of_the_older_endpoint_is_read_as_well():
    evidence = heard_of(Started("m"), TextDelta("ab", logprobs=(TABLE,)), Finished("stop")).evidence()
    assert (evidence.tokens, evidence.logprob_first, evidence.logprob_least) == (2, -0.5, -2.0)
    assert evidence.margin_p10 == 0.25


def test_evidence_of_a_rag_model_is_what_its_usage_says():
    details = {
        "best_score": 0.75,
        "passage_score": 0.5,
        "passage_gap": 0.125,
        "token_logprobs": [-0.5, -0.25],
    }
    said_ = sources(0.25, 0.5, **details)
    evidence = heard_of(
        Started("rag"), TextDelta("Yes [1]."), said_, Usage(9, 2), Finished("stop")
    ).evidence()
    assert (evidence.sentence_score, evidence.passage_score, evidence.passage_gap) == (0.75, 0.5, 0.125)
    assert (evidence.citations, evidence.citation_support) == (2, 0.5)
    assert (evidence.tokens, evidence.logprob_least) == (2, -0.5)
    nothing = sources(best_score=None, passage_score=0.5, token_logprobs=None)
    evidence = heard_of(Started("rag"), TextDelta("Yes."), nothing, Finished("stop")).evidence()
    assert (evidence.passage_score, evidence.passage_gap, evidence.sentence_score) == (0.5, None, None)
    assert (evidence.citations, evidence.citation_support) == (0, 0.0)


def test_a_part_of_an_answer_counts_as_cut_and_so_does_one_that_ended_at_its_length():
    part = heard_of(*UNSURE[:2], is_whole=False)
    assert part.tokens == 1
    assert part.evidence().is_cut
    assert heard_of(*whole(TextDelta("a"), reason="length")).evidence().is_cut
    # Without log-probabilities the provider's own count is nearest, once it is there.
    assert heard_of(*whole(TextDelta("a b"), usage=Usage(3, 5))).evidence().tokens == 5


def test_an_answer_that_says_that_it_does_not_know_is_a_refusal():
    assert heard_of(*whole(TextDelta("The passages do not say."))).evidence().is_refusal
    assert heard_of(Started("m"), RefusalDelta("Not that."), Finished("refusal")).evidence().is_refusal


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (whole(TextDelta("no logprobs")), NO_EVIDENCE),
        (whole(), NO_TEXT),
        (whole(TextDelta("  ")), NO_TEXT),
        (whole(*said("a", 0.0), ToolStart(0, "c", "f"), reason="tool_use"), NO_TEXT),
        (whole(*said("a", 0.0), reason="filter"), FILTERED),
        (whole(*said("a", 0.0), reason="pause"), FILTERED),
    ],
)
def test_what_was_never_labelled_is_not_judged(events, reason):
    assert heard_of(*events).judge(LEAST) == (reason, 0.0)


CALL = ChatCall("openai", "m")
FIVE = said("a", -0.5, tops=((-0.5, -1.0, -2.0),))[0]


def test_a_client_that_asked_for_no_log_probabilities_gets_none():
    assert shown(FIVE, CALL) == TextDelta("a")
    assert shown(dataclasses.replace(FIVE, text=""), CALL) is None
    usage = sources(0.5, token_logprobs=[-0.5], passages=3)
    assert shown(usage, CALL) == sources(0.5, passages=3)
    assert shown(Finished("stop"), CALL) == Finished("stop")


def test_a_client_gets_as_many_alternatives_as_it_asked_for():
    for asked in (0, 1, 3):
        event = shown(FIVE, dataclasses.replace(CALL, logprobs=asked))
        assert event.text == "a"
        assert [top["logprob"] for top in event.logprobs[0]["top_logprobs"]] == [-0.5, -1.0, -2.0][:asked]
    table = shown(TextDelta("ab", logprobs=(TABLE,)), ChatCall("completions", "m", logprobs=1)).logprobs[0]
    assert table == {**TABLE, "top_logprobs": [{"a": -0.5}, {"b": -2.0}]}


@pytest.mark.parametrize("tops", [5, True, "ab", {"x": -1.0}])
def test_alternatives_that_a_provider_writes_otherwise_are_passed_over(tops):
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": tops}
    table = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": tops}
    for written in (entry, table):
        heard = heard_of(Started("m"), TextDelta("a", logprobs=(written,)), Finished("stop"))
        assert heard.judge(LEAST)[0] == ""
        assert heard.evidence().margin_p10 is None


def test_alternatives_without_a_number_are_not_shown():
    table = {**TABLE, "top_logprobs": [{"a": -0.5, "x": None}, {"b": None}]}
    event = shown(TextDelta("ab", logprobs=(table,)), ChatCall("completions", "m", logprobs=1))
    assert event.logprobs[0]["top_logprobs"] == [{"a": -0.5}, {}]


def test_what_a_rag_model_finds_is_known_with_its_first_part():
    prompt = ({"role": "user", "content": "passages and question"},)
    first = Findings((-0.5, -0.25), {"passage_score": 0.5, "passage_gap": 0.125, "best_score": None}, prompt)
    heard = heard_of(Started("rag"), first, TextDelta("Yes it"), is_whole=False)
    assert (heard.tokens, heard.prompt, heard.has_evidence) == (2, prompt, True)
    evidence = heard.evidence()
    assert (evidence.logprob_least, evidence.passage_score, evidence.passage_gap) == (-0.5, 0.5, 0.125)
    assert (evidence.sentence_score, evidence.citations, evidence.is_cut) == (None, None, True)


def test_what_comes_with_the_end_takes_the_place_of_what_came_before():
    events = (
        Started("rag"),
        Findings((-0.5,), {"passage_score": 0.5}),
        TextDelta("Yes "),
        Findings((-0.25,), {"passage_score": 0.5}),
        TextDelta("it [1]."),
        sources(0.5, passage_score=0.5, token_logprobs=[-0.5, -0.25, -0.125]),
        Usage(9, 3),
        Finished("stop"),
    )
    heard = heard_of(*events)
    assert heard.tokens == 3
    assert heard.evidence().logprob_first == -0.5
    # Stopped before its end: what came is still evidence.
    heard = heard_of(*events[:5], Finished("stop"))
    assert (heard.tokens, heard.evidence().logprob_least, heard.evidence().passage_score) == (2, -0.5, 0.5)


def test_nobody_sees_what_was_found():
    found = Findings((-0.5,), {"passage_score": 0.5}, ({"role": "user", "content": "secret"},))
    for asked in (None, 0):
        assert shown(found, dataclasses.replace(CALL, logprobs=asked)) is None
