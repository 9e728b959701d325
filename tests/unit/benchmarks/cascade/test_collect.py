"""The collector: what is asked, labelled and gone on with."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from benchmarks.cascade.collect import Piece, ask, label, read_done, read_version, step_of
from trireme.cascade.features import FIRST_TOKENS, LEAST_LOGPROB
from trireme.cascade.labelled import format_labelled, read_labelled
from trireme.errors import InvalidInputError, NotFoundError
from trireme.gateway.cascades.climb import _read
from trireme.gateway.cascades.heard import Heard
from trireme.providers.chat import Findings, Finished, Sources, Started, TextDelta, Usage
from trireme.rag.ports import AnswerPart, Citation
from trireme.rag.ports import Usage as RagUsage
from trireme.triton.backends.loaded import name_version
from trireme.types import Hit

QUESTION = {"id": "q1", "answerable": True, "answers": ["1973"]}
VERSIONS = (("rag", "a"),)
CITATION = Citation(1, "p1", "s", 0, 4, 0.9, 0.75, "1973")


@dataclass(frozen=True)
class NewUsage:
    """What a rag says that gives log-probabilities."""

    best_score: float | None = None
    completion_tokens: int = 40
    passage_score: float | None = 1.5
    passage_gap: float | None = 0.25
    token_logprobs: tuple[float, ...] | None = None


class Client:
    """Answers in the given parts; search has two hits."""

    def __init__(self, *parts):
        self.parts = parts
        self.sampling = None
        self.searches = 0

    def ask(self, question, mode, *, collection, sampling):
        self.sampling = sampling
        yield from self.parts

    def search(self, query, top_k, *, collection):
        self.searches += 1
        return [Hit("a", "", "{}", 1.25), Hit("b", "", "{}", 0.75)]


def last(text, usage, citations=(CITATION,), reason="stop"):
    return AnswerPart(text, citations, usage, reason)


def test_passages_scores_are_those_of_the_answer_and_else_those_of_search():
    said = Client(last("In 1973.", NewUsage()))
    assert ask(said, "When?", "extractive")[2] == (1.5, 1.25)
    assert (said.searches, said.sampling.get("logprobs")) == (0, None)
    alone = Client(last("In 1973.", NewUsage(passage_gap=None)))
    assert ask(alone, "When?", "generative")[2] == (1.5,)
    assert alone.sampling["logprobs"] is True
    silent = Client(last("In 1973.", replace(NewUsage(), passage_score=None)))
    assert ask(silent, "When?", "extractive")[2] == [1.25, 0.75]


def test_an_llm_that_says_no_log_probabilities_is_asked_without_them():
    class Refuses(Client):
        def ask(self, question, mode, *, collection, sampling):
            if "logprobs" in sampling:
                raise InvalidInputError("logprobs cannot be True")
            yield from self.parts

    pieces, _, _ = ask(Refuses(last("In 1973.", NewUsage())), "When?", "generative")
    assert [piece.text for piece in pieces] == ["In 1973."]

    class Broken(Client):
        def ask(self, question, mode, *, collection, sampling):
            raise InvalidInputError("text_input is empty")

    with pytest.raises(InvalidInputError, match="text_input"):
        ask(Broken(), "", "generative")


def test_a_sentence_is_labelled_with_its_scores_and_support():
    (one,) = label(
        QUESTION,
        "extractive",
        VERSIONS,
        ([Piece("In 1973.", 0.5)], last("In 1973.", RagUsage("extractive", best_score=0.9)), [1.25, 0.75]),
        {"id": "q1"},
    )
    assert (one.step, one.right, one.more["seconds"]) == ("rag extractive", True, 0.5)
    found = one.evidence
    assert (found.sentence_score, found.passage_score, found.passage_gap) == (0.9, 1.25, 0.5)
    assert (found.citations, found.citation_support, found.tokens, found.logprob_p05) == (1, 0.75, 0, None)


def test_an_answer_of_the_llm_is_judged_whole_and_by_its_first_tokens():
    words = [f"w{n} " for n in range(FIRST_TOKENS + 8)]
    pieces = [Piece(word, 0.1 * n) for n, word in enumerate([*words, "1973 [1]."])]
    logprobs = (-0.5,) * FIRST_TOKENS + (-3.0,) * 9
    asked = pieces, last("", NewUsage(token_logprobs=logprobs)), (1.5,)
    whole, first = label(QUESTION, "generative", VERSIONS, asked, {"id": "q1"})
    assert (whole.step, first.step) == (step_of("generative"), step_of("generative", FIRST_TOKENS))
    assert (whole.decide_after, first.decide_after) == ("answer", FIRST_TOKENS)
    # Both are of the one answer that is shown.
    assert whole.right and first.right
    assert (whole.evidence.logprob_least, first.evidence.logprob_least) == (-3.0, -0.5)
    assert (whole.evidence.tokens, first.evidence.tokens, first.evidence.is_cut) == (41, FIRST_TOKENS, True)
    assert (whole.evidence.citations, first.evidence.citations) == (1, None)
    assert first.more["seconds"] == pytest.approx(0.1 * (FIRST_TOKENS - 1)) and whole.more["seconds"] == 4.0


@pytest.mark.parametrize("count", [3, FIRST_TOKENS, FIRST_TOKENS + 8])
def test_what_is_labelled_by_first_tokens_is_what_the_gateway_judges_by_them(count):
    words, logprobs = [f"w{n} " for n in range(count)], tuple(-0.125 * n for n in range(count))
    scores = {"passage_score": 1.5, "passage_gap": 0.25, "best_score": None}

    async def said():
        yield Started("rag")
        for word, logprob in zip(words, logprobs, strict=True):
            yield Findings((logprob,), scores)
            yield TextDelta(word)
        yield Sources((), {**scores, "token_logprobs": list(logprobs)})
        yield Usage(9, count)
        yield Finished("stop")

    heard = Heard(FIRST_TOKENS)
    asyncio.run(_read(said(), heard, FIRST_TOKENS))
    asked = [Piece(word, 0.1) for word in words], last("", NewUsage(token_logprobs=logprobs), ()), (1.5, 1.25)
    _, first = label(QUESTION, "generative", VERSIONS, asked, {})
    # Of citations nothing is known before the end, and no first tokens are fitted on them.
    judged = replace(heard.evidence(), citations=None, citation_support=None)
    assert judged == first.evidence


def test_a_refusal_of_an_unanswerable_question_is_right():
    asked = [Piece("The passages do not say.", 1.0)], last("", NewUsage(), ()), (1.5,)
    whole, _ = label({"answerable": False, "answers": []}, "generative", VERSIONS, asked, {})
    assert whole.right and whole.evidence.is_refusal and whole.evidence.citations == 0


def test_an_empty_answer_of_the_llm_is_as_unsure_as_can_be():
    asked = [Piece("", 1.0)], last("", NewUsage(completion_tokens=0), ()), (1.5,)
    whole, first = label(QUESTION, "generative", VERSIONS, asked, {})
    for one in (whole, first):
        assert one.evidence.logprob_p05 == LEAST_LOGPROB and one.evidence.is_refusal and not one.right


def test_what_a_file_has_is_not_asked_again_and_a_cut_line_goes(tmp_path):
    path = tmp_path / "answers.jsonl"
    assert read_done(path, {}) == set()
    asked = [Piece("1973", 1.0)], last("", NewUsage()), (1.5,)
    lines = [
        format_labelled(one)
        for one in label(QUESTION, "generative", VERSIONS, asked, {"id": "q1", "mode": "generative"})
    ]
    path.write_text("".join(lines) + lines[0][:40])
    assert read_done(path, {"generative": VERSIONS}) == {("generative", "q1")}
    assert len(list(read_labelled(path))) == 2
    path.write_text(lines[0][:40])
    assert read_done(path, {}) == set() and path.read_text() == ""


def test_answers_of_another_version_are_not_gone_on_with(tmp_path):
    path = tmp_path / "answers.jsonl"
    asked = [Piece("1973", 1.0)], last("", NewUsage()), (1.5,)
    (one,) = label(QUESTION, "extractive", VERSIONS, asked, {"id": "q1", "mode": "extractive"})
    path.write_text(format_labelled(one))
    with pytest.raises(InvalidInputError, match="answers of other versions"):
        read_done(path, {"extractive": (("rag", "b"),)})
    assert read_done(path, {"generative": (("rag", "b"),)}) == {("extractive", "q1")}


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"name": 3}\n')
    with pytest.raises(InvalidInputError, match=r"other.jsonl has other lines"):
        read_done(path, {})


def test_a_version_is_what_the_model_says_of_itself(tmp_path):
    with pytest.raises(NotFoundError, match="neither"):
        read_version(tmp_path)
    (tmp_path / "recipe.toml").write_text("a")
    assert read_version(tmp_path) == name_version(tmp_path / "1") != ""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "manifest.json").write_text("{}")
    with pytest.raises(NotFoundError, match="neither"):
        read_version(tmp_path)
