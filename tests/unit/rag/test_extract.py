import json

import numpy as np
import pytest

from fakes.rag import FakeSteps, hit
from trireme.rag.extract import cite_sentence, find_sentences, rank_sentences


def passage(text, title="", heading="", score=0.0, name="a"):
    return hit(name, text, score, json.dumps({"title": title, "heading": heading, "source": "a.md"}))


def test_a_sentence_that_two_passages_share_counts_for_the_better_one():
    found = find_sentences([passage("One. Two."), passage("Two. Three.", name="b")])
    assert [(one.passage, one.sentence.text) for one in found] == [(0, "One."), (0, "Two."), (1, "Three.")]


def test_no_more_sentences_than_asked_for_are_read():
    assert len(find_sentences([passage("One. Two. Three.")], most=2)) == 2


def test_code_alone_answers_how_to_and_not_which():
    one = passage("Ports\n`PORT=9000 make serve`\n\nThe port is 8000.\n\n```sh\nmake serve\n```", "Ports")

    def texts(question):
        return [candidate.sentence.text for candidate in find_sentences([one], question)]

    assert texts("How do I change the port?") == [
        "`PORT=9000 make serve`",
        "The port is 8000.",
        "```sh\nmake serve\n```",
    ]
    assert texts("Which port is it?") == ["The port is 8000."]
    assert len(find_sentences([passage("`make serve`")], "Which command?")) == 1


def test_where_there_is_nothing_but_code_it_answers_all_the_same():
    assert [one.sentence.text for one in find_sentences([passage("`make`")], "What is it?")] == ["`make`"]


def test_the_best_sentence_is_read_below_its_headings_on_top_of_its_passages_score():
    passages = [passage("Ports\nIt is 8000.", "Ports", score=0.5), passage("It rains.", name="b")]
    candidates = find_sentences(passages)
    steps = FakeSteps()
    best, score = rank_sentences("which ports", passages, candidates, steps)
    assert steps.ranked == [["Ports\nIt is 8000.", "It rains."]]
    assert (best, score) == (0, pytest.approx(1.5))
    cited = cite_sentence(candidates[0], passages[0], score)
    assert (cited.number, cited.source, cited.support) == (1, "a.md", 1.0)
    assert cited.text == passages[0].text[cited.start : cited.end]


def test_the_sentence_right_below_a_heading_that_asks_the_question_comes_first():
    one = passage(
        "Settings > Change the port\nSet it so. Then it serves elsewhere.", "Settings", "Change the port"
    )
    candidates = find_sentences([one])
    scores = np.array([0.4, 0.5], np.float32)

    class Fixed(FakeSteps):
        def rank(self, question, texts, prior):
            return scores

    best, score = rank_sentences("how do I change the port?", [one], candidates, Fixed())
    assert (best, score) == (0, pytest.approx(0.4))
    best, _ = rank_sentences("how do I change the colour of a passage?", [one], candidates, Fixed())
    assert best == 1


def test_the_sentence_that_opens_the_answer_to_another_question_comes_before_what_follows_it():
    scores = np.array([0.46, 0.5], np.float32)

    class Fixed(FakeSteps):
        def rank(self, question, texts, prior):
            return scores

    for heading, first in (("How do I stop it?", 0), ("Stopping", 1)):
        one = passage(f"Server > {heading}\nCtrl-C ends it. What is indexed stays.", "Server", heading)
        assert rank_sentences("Shut it down", [one], find_sentences([one]), Fixed())[0] == first


def test_priors_go_to_the_reranker_in_order():
    passages = [passage("One. Two.", score=0.25), passage("Three.", score=-1, name="b")]

    class Echo(FakeSteps):
        def rank(self, question, texts, prior):
            assert prior.dtype == np.float32
            return prior

    best, score = rank_sentences("x", passages, find_sentences(passages), Echo())
    assert (best, score) == (0, 0.25)
