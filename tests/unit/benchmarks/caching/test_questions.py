import json
from collections import Counter

import pytest

from benchmarks.caching.questions import (
    QUESTIONS,
    SLIPS,
    Asked,
    count_most_hits,
    make_load,
    read_questions,
)
from trireme.errors import InvalidInputError

SOME = [
    Asked(f"{n}", f"Question {n}?", f"answer {n}", f"Well, question {n}?" if n % 2 else "") for n in range(50)
]


def write(folder, path, rows):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_questions_come_with_their_answer_and_their_slip(tmp_path):
    one = {"id": "a", "question": "Who?", "answers": ["Ann", "she"], "answerable": True}
    write(tmp_path, QUESTIONS, [one, {"id": "b", "question": "Why?", "answers": [], "answerable": False}])
    write(tmp_path, SLIPS, [{"id": "a", "question": "Who?", "paraphrase": "Where, no, who?"}])
    assert read_questions(tmp_path, 10, 1) == [Asked("a", "Who?", "Ann", "Where, no, who?")]


def test_a_slip_that_two_questions_share_is_left_out(tmp_path):
    rows = [{"id": one, "question": f"{one}?", "answers": [one], "answerable": True} for one in "abc"]
    write(tmp_path, QUESTIONS, rows)
    slips = {"a": "Well?", "b": "Well?", "c": "a?"}
    write(tmp_path, SLIPS, [{"id": one, "question": "", "paraphrase": text} for one, text in slips.items()])
    assert [one.other_words for one in read_questions(tmp_path, 10, 1)] == ["", "", ""]


def test_a_folder_without_them_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="squad_grounded_dev"):
        read_questions(tmp_path, 10, 1)


def test_a_load_is_the_same_for_a_seed_and_first_questions_come_most():
    load = make_load(SOME, 3_000, 0.3, 1.0, 5)
    assert load == make_load(SOME, 3_000, 0.3, 1.0, 5) != make_load(SOME, 3_000, 0.3, 1.0, 6)
    counted = Counter(one.id for one in load)
    # 1 of 4.5 by Zipf.
    assert 500 < counted["0"] < 850 and counted["0"] > counted["9"] > counted["49"]


def test_other_words_come_for_their_share_and_want_the_same_answer():
    load = [one for one in make_load(SOME, 4_000, 0.3, 0.0, 5) if int(one.id) % 2]
    said = [one for one in load if one.text.startswith("Well")]
    assert 0.25 < len(said) / len(load) < 0.35
    assert all(one.wants == f"answer {one.id}" for one in load)
    assert not any(one.text.startswith("Well") for one in make_load(SOME, 500, 0.0, 1.0, 5))


def test_what_came_before_is_counted_by_text_and_by_question():
    load = make_load([SOME[1]], 200, 0.5, 1.0, 1)
    assert count_most_hits(load) == (1 - 2 / 200, 1 - 1 / 200)
