import pytest

from fakes.spans import KeptSpans
from trireme.errors import UnavailableError
from trireme.generate.pieces import Piece, PieceTimes
from trireme.observe.spans import NoSpans
from trireme.triton.backends.llm_spans import llm_facts, llm_spans
from trireme.triton.backends.stages import Stages
from trireme.triton.backends.traced import Asked

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ASKED = Asked("req_1", f"00-{TRACE}-{SPAN}-01", span="b" * 16)


def test_a_stage_is_a_span_and_the_parent_of_what_is_asked_within_it():
    spans = KeptSpans()
    stages = Stages(ASKED, spans)
    with stages.stage("embed"):
        within = stages.asked.parameters["trireme_traceparent"]
    assert stages.asked is ASKED
    (span,) = spans.kept
    assert (span.name, span.kind, span.parent, span.error) == ("embed", "internal", ASKED.span, "")
    assert within == f"00-{TRACE}-{span.span}-01"
    assert span.began <= span.ended


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (UnavailableError("away"), "UNAVAILABLE"),
        (GeneratorExit(), "client_gone"),
        (ValueError("canary"), "ValueError"),
    ],
)
def test_a_stage_that_fails_says_why_in_a_word_and_raises(failure, error):
    spans = KeptSpans()
    stages = Stages(ASKED, spans)
    with pytest.raises(type(failure)), stages.stage("retrieve"):
        raise failure
    assert spans.kept[0].error == error
    assert "canary" not in repr(spans.kept)
    assert stages.asked is ASKED


def test_an_answer_that_is_not_recorded_has_no_spans_and_asks_as_before():
    spans = KeptSpans()
    asked = Asked("req_1", f"00-{TRACE}-{SPAN}-00")
    stages = Stages(asked, spans)
    with stages.stage("embed"):
        assert stages.asked is asked
    assert spans.kept == []
    assert not NoSpans().is_on


def test_the_llms_time_is_its_queue_prefill_and_decode():
    spans = list(llm_spans(ASKED, PieceTimes(waited=1.0, first=3.0, total=10.0)))
    assert [span.name for span in spans] == ["queue", "prefill", "decode"]
    assert {span.parent for span in spans} == {ASKED.span}
    seconds = [(span.ended - span.began) / 1e9 for span in spans]
    assert seconds == pytest.approx([1.0, 2.0, 7.0], abs=1e-3)


def test_where_nobody_says_how_long_it_waited_queue_and_prefill_are_one():
    spans = list(llm_spans(ASKED, PieceTimes(waited=None, first=3.0, total=10.0)))
    assert [span.name for span in spans] == ["queue and prefill", "decode"]


def test_an_answer_without_a_token_has_no_decode():
    spans = list(llm_spans(ASKED, PieceTimes(waited=1.0, first=None, total=2.0)))
    assert [span.name for span in spans] == ["queue", "prefill"]
    assert spans[1].ended - spans[0].began == pytest.approx(2e9, abs=1e6)


def test_a_last_piece_is_told_in_figures_without_its_text():
    facts = llm_facts(Piece("canary", "stop", input_tokens=7, output_tokens=5, cached_tokens=3))
    assert facts == {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.response.finish_reasons": ("stop",),
    }
