"""When two answers are taken for the same."""

import pytest

from trireme.cache.agreement import answers_agree

SAME = [
    ("Paris", "paris."),
    ("The capital is Paris.", "the capital is paris"),
    ("It was built in 1889 [1].", "It was built in 1889 [2]."),
    ("Yes, water boils at 100 degrees.", "Yes, water boils at one hundred degrees."),
    (
        "Photosynthesis turns light into chemical energy that plants store.",
        "Photosynthesis turns light into chemical energy, which plants then store.",
    ),
    ("", ""),
    ("I don't know.", "I don't know"),
]
DIFFERENT = [
    ("Paris", "London"),
    ("Paris", ""),
    ("It was built in 1889.", "It was built in 1887."),
    ("Yes, it can be undone.", "No, it can be undone."),
    ("The drug is safe for children.", "The drug is not safe for children."),
    ("Take two tablets a day.", "Take three tablets a day."),
    ("Cats purr because they are content.", "Dogs bark when somebody comes to the door."),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_answers_of_one_meaning_agree(a, b):
    assert answers_agree(a, b)
    assert answers_agree(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_answers_of_another_meaning_do_not_agree(a, b):
    assert not answers_agree(a, b)
    assert not answers_agree(b, a)


def test_a_long_answer_may_name_a_figure_more():
    text = " ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(80))
    assert answers_agree(f"{text} in 1990", f"{text} in 1990 and 1991")
    assert not answers_agree(f"{text} in 1990", f"{text} in 1991")
