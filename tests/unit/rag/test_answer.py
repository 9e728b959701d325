from contextlib import contextmanager

import pytest

from fakes.rag import RELEVANCE, FakeSteps, hit
from trireme.errors import InvalidInputError, UnavailableError
from trireme.rag.answer import answer
from trireme.rag.ports import AnswerOptions, Question
from trireme.rag.prompt import PromptTemplate

TEMPLATE = PromptTemplate("Be true.", "<{number}> {text}\n", "{passages}\nQ: {question}")
# Scores count words that question and sentence share, on top of those that question and passage share.
OPTIONS = AnswerOptions(
    context_passages=2, extractive_threshold=0.85, relevance_threshold=0.04, relevance=RELEVANCE
)
HITS = [
    hit("b", "Lentils simmer. Garlic helps.", metadata='{"source": "cooking.txt"}'),
    hit("a", "It was fast. A trireme had three banks of oars.", metadata='{"source": "ships.md"}'),
    hit("c", "Oars are long.", metadata='{"source": "oars.md"}'),
]


def ask(steps, text="how many banks of oars had a trireme", mode="auto", top_k=5, options=OPTIONS, **more):
    names = Question.__dataclass_fields__
    asked = {name: more.pop(name) for name in tuple(more) if name in names}
    question = Question(text, mode, top_k, "default", "handbook", **asked)
    return list(answer(question, steps, options, TEMPLATE, steps.clock, **more))


def text_of(parts):
    return "".join(part.text for part in parts)


def test_a_sure_sentence_is_the_answer_word_for_word():
    steps = FakeSteps(HITS)
    parts = ask(steps)
    assert text_of(parts) == "A trireme had three banks of oars."
    [cited] = parts[-1].citations
    assert (cited.source, HITS[1].text[cited.start : cited.end]) == ("ships.md", cited.text)
    assert parts[-1].finish_reason == "stop"
    usage = parts[-1].usage
    assert (usage.answer_mode, usage.grounded, usage.sentences) == ("extractive", True, 5)
    assert usage.best_score == cited.score == 12.0
    assert "generate" not in steps.calls
    assert usage.completion_tokens == 0


def test_an_unsure_sentence_leaves_the_answer_to_the_llm():
    steps = FakeSteps(HITS, said="Oars it had. [1]")
    parts = ask(steps, "oars lengths")
    assert text_of(parts) == "Oars it had. [1]"
    # "Oars" may yet become the sentence's own words.
    assert [part.text for part in parts] == ["Oars it ", "had. ", "[1]", ""]
    usage = parts[-1].usage
    assert (usage.answer_mode, usage.second_opinion) == ("generative", "differs")
    assert usage.best_score == 2.0
    assert OPTIONS.relevance_threshold <= usage.relevance < OPTIONS.extractive_threshold
    [cited] = parts[-1].citations
    assert (cited.number, cited.source) == (1, "ships.md")


@pytest.mark.parametrize("said", ["A trireme had three banks of oars. [1]", "three banks [2]", "THREE BANKS"])
def test_an_unsure_sentence_that_the_llm_confirms_is_the_answer_word_for_word(said):
    steps = FakeSteps(HITS, said=said)
    [part] = ask(steps, "oars lengths")
    assert part.text == "A trireme had three banks of oars."
    assert [cited.text for cited in part.citations] == [part.text]
    usage = part.usage
    assert (usage.answer_mode, usage.second_opinion, usage.grounded) == ("extractive", "agreed", True)
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, len(said.split()))
    assert part.finish_reason == "stop"


@pytest.mark.parametrize("said", ["The passages do not say.", "I don't know.", ""])
def test_an_unsure_sentence_that_the_llm_refuses_is_not_shown(said):
    [part] = ask(FakeSteps(HITS, said=said), "oars lengths")
    assert part.text == "Nothing relevant was found in collection handbook."
    assert (part.citations, part.finish_reason) == ((), "stop")
    usage = part.usage
    assert (usage.answer_mode, usage.second_opinion, usage.grounded) == ("none", "refused", False)
    assert usage.completion_tokens == len(said.split(" "))


@pytest.mark.parametrize("said", ["", "three banks"])
def test_an_llm_that_was_cancelled_before_it_was_sure_has_no_opinion(said):
    steps = FakeSteps(HITS, said=said)
    steps.finish_reason = "cancelled"
    [part] = ask(steps, "oars lengths")
    assert (part.text, part.finish_reason) == (said, "cancelled")
    assert part.usage.second_opinion == ""


@pytest.mark.parametrize(
    "said", ["Three banks. [1]", "Three or four.", "The passages do not say.", "The passages say much."]
)
def test_what_was_shown_is_the_beginning_of_the_answer(said):
    parts = ask(FakeSteps(HITS, said=said), "oars lengths")
    whole = text_of(parts)
    assert whole in {
        said,
        "A trireme had three banks of oars.",
        "Nothing relevant was found in collection handbook.",
    }
    for count in range(len(parts)):
        assert whole.startswith(text_of(parts[:count]))


def test_rare_words_that_the_passage_lacks_lower_the_chance():
    sure, unsure = (
        ask(FakeSteps(HITS, said="x"), f"how many banks of oars had a trireme{more}")[-1].usage
        for more in ("", " Zanzibar Quito")
    )
    assert unsure.best_score == sure.best_score
    assert unsure.relevance < sure.relevance


def test_generated_text_without_marks_is_cited_where_a_passage_supports_it():
    parts = ask(FakeSteps(HITS, said="The trireme had three banks."), mode="generative")
    [cited] = parts[-1].citations
    assert (cited.number, cited.source) == (1, "ships.md")
    usage = parts[-1].usage
    assert (usage.grounded, usage.inferred_citations) == (True, (1,))


def test_nothing_relevant_is_said_instead_of_invented():
    steps = FakeSteps(HITS, said="never")
    parts = ask(steps, "quantum physics")
    assert text_of(parts) == "Nothing relevant was found in collection handbook."
    assert parts[-1].citations == ()
    assert (parts[-1].finish_reason, parts[-1].usage.answer_mode) == ("stop", "none")
    assert not parts[-1].usage.grounded
    assert "generate" not in steps.calls


@pytest.mark.parametrize("mode", ["auto", "extractive", "generative"])
def test_an_empty_collection_holds_nothing(mode):
    steps = FakeSteps([])
    assert text_of(ask(steps, mode=mode)) == "Nothing relevant was found in collection handbook."
    assert steps.calls == ["embed", "retrieve"]


@pytest.mark.parametrize("mode", ["auto", "extractive"])
def test_passages_without_a_word_hold_nothing(mode):
    assert text_of(ask(FakeSteps([hit("a", "...")]), mode=mode)).startswith("Nothing relevant")


def test_extractive_answers_whatever_the_score():
    parts = ask(FakeSteps(HITS), "quantum garlic", mode="extractive")
    assert text_of(parts) == "Garlic helps."
    assert parts[-1].usage.best_score == 2.0


def test_generative_ranks_no_sentences():
    steps = FakeSteps(HITS, said="Three banks. [1]")
    parts = ask(steps, mode="generative")
    assert steps.calls == ["embed", "retrieve", "rank", "generate"]
    usage = parts[-1].usage
    assert (usage.sentences, usage.best_score, usage.context_passages) == (0, None, 2)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.grounded) == (7, 3, True)
    assert usage.cached_tokens == 4


def test_the_llm_reads_the_best_passages_in_the_rerankers_order():
    steps = FakeSteps(HITS, said="x")
    ask(steps, mode="generative")
    [[system, user]] = steps.prompts
    assert system["content"] == "Be true."
    assert user["content"] == (
        "<1> It was fast. A trireme had three banks of oars.\n<2> Oars are long.\n"
        "\nQ: how many banks of oars had a trireme"
    )


def test_top_k_limits_what_may_be_used():
    steps = FakeSteps(HITS, said="x")
    parts = ask(steps, mode="generative", top_k=1)
    assert parts[-1].usage.context_passages == 1
    assert parts[-1].usage.passages == 3


def test_an_answer_without_a_valid_citation_is_marked():
    parts = ask(FakeSteps(HITS, said="Paris is big [1] [7]."), mode="generative")
    assert parts[-1].citations == ()
    usage = parts[-1].usage
    assert (usage.grounded, usage.unknown_citations, usage.unsupported_citations) == (False, (7,), (1,))


def test_the_worst_passages_are_dropped_where_the_prompt_is_too_long():
    steps = FakeSteps(HITS, said="Oars. [1]")
    steps.longest_prompt = 100
    parts = ask(steps, mode="generative")
    assert [prompt[-1]["content"].count("<") for prompt in steps.prompts] == [2, 1]
    assert parts[-1].usage.context_passages == 1
    assert text_of(parts) == "Oars. [1]"


def test_a_prompt_too_long_with_one_passage_is_refused():
    steps = FakeSteps(HITS)
    steps.longest_prompt = 10
    with pytest.raises(InvalidInputError, match="99 tokens, the context holds 50"):
        ask(steps, mode="generative")
    assert steps.calls.count("generate") == 2


def test_another_refusal_of_the_llm_is_not_tried_again():
    steps = FakeSteps(HITS, error=("generate", InvalidInputError("max_tokens must be at least 1")))
    with pytest.raises(InvalidInputError, match="max_tokens"):
        ask(steps, mode="generative")
    assert steps.calls.count("generate") == 1


@pytest.mark.parametrize("step", ["embed", "retrieve", "rank", "generate"])
def test_an_error_of_a_step_is_the_answers_error(step):
    steps = FakeSteps(HITS, error=(step, UnavailableError("gone")))
    with pytest.raises(UnavailableError, match="gone"):
        ask(steps, "oars lengths")


def test_every_stage_is_timed():
    steps = FakeSteps(HITS, said="x y z")
    usage = ask(steps, "oars lengths")[-1].usage
    stages = (usage.embed_ms, usage.retrieve_ms, usage.rerank_ms, usage.sentences_ms)
    assert stages == (1000, 1000, 1000, 1000)
    # One tick to call the LLM, one for each of its three words.
    assert usage.generate_ms == 4000
    assert usage.time_to_first_token_ms == 6000
    assert usage.total_ms == 8000


def test_tokens_of_the_question_are_counted():
    assert ask(FakeSteps(HITS), "banks of oars")[-1].usage.embedding_tokens == 3


def test_who_stops_listening_stops_the_llm():
    steps = FakeSteps(HITS, said="a b c d e")
    question = Question("oars lengths", "generative", 5, "default", "handbook")
    parts = answer(question, steps, OPTIONS, TEMPLATE, steps.clock)
    assert next(parts).text == "a "
    assert not steps.closed
    parts.close()
    assert steps.closed


def test_the_log_probabilities_of_a_generative_answer_are_in_its_usage_where_they_were_asked_for():
    steps = FakeSteps(HITS, said="Three banks. [1]")
    assert ask(steps, mode="generative")[-1].usage.token_logprobs is None
    steps.says_logprobs = True
    assert ask(steps, mode="generative")[-1].usage.token_logprobs == (-1.0, -2.0, -3.0)
    assert ask(steps, mode="extractive")[-1].usage.token_logprobs is None


@pytest.mark.parametrize("mode", ["auto", "extractive", "generative"])
@pytest.mark.parametrize("top_k", [1, 5])
def test_the_usage_says_how_sure_the_best_passage_is(mode, top_k):
    usage = ask(FakeSteps(HITS, said="x"), mode=mode, top_k=top_k)[-1].usage
    # Words of the question in the passages: 6, 1 and 0.
    assert (usage.passage_score, usage.passage_gap) == (6.0, 5.0)


def test_one_passage_has_no_gap_and_none_has_no_score():
    alone = ask(FakeSteps(HITS[1:2], said="x"))[-1].usage
    assert (alone.passage_score, alone.passage_gap) == (6.0, None)
    nothing = ask(FakeSteps([]))[-1].usage
    assert (nothing.passage_score, nothing.passage_gap) == (None, None)


def test_every_part_but_the_last_says_what_the_answer_is_judged_by_as_far_as_it_is_known():
    steps = FakeSteps(HITS, said="Oars it had. [1]")
    steps.says_logprobs = True
    *parts, last = ask(steps, "oars lengths")
    # The first two tokens were held back until they were another answer than the sentence.
    assert [part.evidence.token_logprobs for part in parts] == [(-1.0, -2.0), (-3.0,), (-4.0,)]
    usage = last.usage
    for part in parts:
        scores = part.evidence.best_score, part.evidence.passage_score, part.evidence.passage_gap
        assert scores == (usage.best_score, usage.passage_score, usage.passage_gap)
    assert last.evidence is None
    assert usage.token_logprobs == (-1.0, -2.0, -3.0, -4.0)


def test_the_first_part_has_the_prompt_where_it_is_asked_for_whoever_answers():
    for mode, text in (("generative", "oars"), ("extractive", "oars"), ("auto", "zoning law of Ulm")):
        first, *rest = ask(FakeSteps(HITS, said="Oars it had."), text, mode, asks_prompt=True)
        system, user = first.prompt
        assert system == {"role": "system", "content": "Be true."}
        # The best two passages, as the LLM would read them.
        assert (
            user["content"].startswith("<1> ") and "<2>" in user["content"] and "<3>" not in user["content"]
        )
        assert user["content"].endswith(f"Q: {text}")
        assert all(part.prompt == () for part in rest)
    generative = FakeSteps(HITS, said="Oars it had.")
    (first, *_) = ask(generative, "oars", "generative", asks_prompt=True)
    assert list(first.prompt) == generative.prompts[0]


def test_nothing_found_makes_no_prompt_and_nobody_gets_one_unasked():
    assert ask(FakeSteps([]), asks_prompt=True)[0].prompt == ()
    assert all(part.prompt == () for part in ask(FakeSteps(HITS, said="Oars."), "oars", "generative"))


def test_what_a_larger_model_is_asked_is_not_cut_to_what_the_llm_can_read():
    steps = FakeSteps(HITS, said="Oars it had.")
    steps.longest_prompt = 70
    first, *_ = ask(steps, "oars", "generative", asks_prompt=True)
    assert "<2>" not in steps.prompts[-1][1]["content"]
    assert "<2>" in first.prompt[1]["content"]


def test_who_stops_listening_before_the_first_part_is_through_stops_the_llm_too():
    steps = FakeSteps(HITS, said="Oars it had. [1]")
    question = Question("oars", "generative", 5, "default", "handbook")
    parts = answer(question, steps, OPTIONS, TEMPLATE, steps.clock, asks_prompt=True)
    next(parts)
    parts.close()
    assert steps.closed


def test_with_fewer_passages_reranked_the_others_stay_behind_them_as_they_were_found():
    steps = FakeSteps(HITS, said="x [3]")
    usage = ask(steps, mode="generative", rerank_depth=2)[-1].usage
    assert (usage.passages, usage.reranked_passages) == (3, 2)
    assert ask(FakeSteps(HITS), rerank_depth=9)[-1].usage.reranked_passages == 3


def test_without_reranking_the_passages_stay_in_the_order_in_which_they_were_found():
    steps = FakeSteps(HITS, said="x [1]")
    [*_, last] = ask(steps, mode="generative", rerank_depth=0)
    assert "rank" not in steps.calls
    assert (last.usage.reranked_passages, last.usage.passage_score, last.usage.rerank_ms) == (0, None, 0.0)
    assert [cited.source for cited in last.citations] in ([], ["cooking.txt"])


def test_without_reranking_the_best_sentence_is_still_found():
    steps = FakeSteps(HITS)
    parts = ask(steps, mode="extractive", rerank_depth=0)
    assert text_of(parts) == "A trireme had three banks of oars."
    assert steps.calls.count("rank") == 1


def test_each_stage_is_entered_and_left_by_its_name_also_where_it_fails():
    entered = []

    @contextmanager
    def stage(name):
        entered.append(name)
        try:
            yield
        finally:
            entered.append(f"/{name}")

    ask(FakeSteps(HITS, said="Oars it had. [1]"), "oars lengths", stage=stage)
    names = ("embed", "retrieve", "rerank", "sentences", "generate")
    assert entered == [mark for name in names for mark in (name, f"/{name}")]
    entered.clear()
    with pytest.raises(UnavailableError):
        ask(FakeSteps(HITS, error=("retrieve", UnavailableError("away"))), stage=stage)
    assert entered == ["embed", "/embed", "retrieve", "/retrieve"]
