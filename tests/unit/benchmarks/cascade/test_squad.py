"""When an answer to one of SQuAD's questions is right."""

import pytest

from benchmarks.cascade.squad import draw, is_right, normalize, split_articles

ANSWERABLE = {"answerable": True, "answers": ["the October 1973", "1973"]}
OTHER = {"answerable": False, "answers": []}


def test_texts_are_compared_as_squad_does():
    assert normalize("The  Nile's, (a) RIVER.") == "niles river"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("It began in October 1973 [1].", True),
        ("In 1973, the crisis began.", True),
        ("In 19731.", False),
        ("In October.", False),
        ("", False),
    ],
)
def test_an_answer_that_holds_a_gold_answers_words_is_right(text, right):
    assert is_right(ANSWERABLE, text, refuses=False) is right


def test_a_refusal_is_right_where_there_is_no_answer_alone():
    assert is_right(OTHER, "The passages do not say.", refuses=True)
    assert not is_right(OTHER, "1973", refuses=False)
    assert not is_right(ANSWERABLE, "The passages do not say 1973.", refuses=True)


def test_a_gold_answer_without_a_word_makes_nothing_right():
    assert not is_right({"answerable": True, "answers": ["The", "..."]}, "Anything.", refuses=False)


def test_a_smaller_draw_is_the_beginning_of_a_larger_one():
    questions = [{"id": str(n)} for n in range(100)]
    large = draw(questions, 50, seed=1)
    assert draw(list(reversed(questions)), 20, seed=1) == large[:20]
    assert draw(questions, 50, seed=2) != large
    assert len({one["id"] for one in draw(questions, 1000, seed=1)}) == 100


def test_no_article_is_both_fitted_on_and_judged_by():
    questions = [{"id": f"{title}{n}", "title": title} for title in "CABD" for n in range(2)]
    parts = split_articles(questions)
    assert {one["title"] for one in parts["train"]} == {"A", "C"}
    assert {one["title"] for one in parts["dev"]} == {"B", "D"}
    assert len(parts["train"]) + len(parts["dev"]) == len(questions)
