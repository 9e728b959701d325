import random

import pytest

from trireme.generate.stop_strings import StopStrings


def shown(stops, parts):
    """What is shown piece by piece, and whether a stop string was found."""
    finder = StopStrings(tuple(stops))
    made = [finder.push(part) for part in parts]
    return [*made, "" if finder.found else finder.finish()], finder.found


def expected(stops, text):
    """One character at a time: the first moment at which the text ends in a stop string."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - max(map(len, ended))], True
    return text, False


@pytest.mark.parametrize(
    ("stops", "text", "answer"),
    [
        (["\n"], "one\ntwo", "one"),
        (["END"], "the ENd is not the END, is it", "the ENd is not the "),
        (["aab"], "aaaab", "aa"),
        (["bc", "abcd"], "xabcd", "xa"),
        (["abcd", "cd"], "xabcd", "x"),
        (["🙂"], "a🙂b", "a"),
        ([], "nothing stops", "nothing stops"),
        (["never"], "neve", "neve"),
    ],
)
def test_the_text_before_the_stop_string_is_shown_however_it_is_cut(stops, text, answer):
    assert expected(stops, text)[0] == answer
    for size in range(1, len(text) + 1):
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        assert "".join(shown(stops, parts)[0]) == answer


def test_random_texts_and_stops_agree_with_looking_at_every_character():
    generator = random.Random(3)
    for _ in range(2000):
        text = "".join(generator.choice("ab") for _ in range(generator.randint(0, 12)))
        stops = ["".join(generator.choice("ab") for _ in range(generator.randint(1, 4))) for _ in range(2)]
        cuts = sorted(generator.sample(range(len(text) + 1), generator.randint(0, len(text))))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        made, found = shown(stops, parts)
        assert ("".join(made), found) == expected(stops, text), (stops, parts)


def test_text_that_may_become_a_stop_string_is_held_back_and_no_more():
    finder = StopStrings(("</answer>",))
    assert finder.push("four </ans") == "four "
    assert finder.push("wers> or") == "</answers> or"
    assert finder.push("</answer> and more") == ""
    assert finder.found
    assert finder.push("later") == ""


def test_what_was_held_back_comes_at_the_end():
    finder = StopStrings(("###",))
    assert finder.push("done ##") == "done "
    assert finder.finish() == "##"


@pytest.mark.parametrize("stops", [["END"], ["END", "the END"], ["never"]])
def test_a_stop_string_that_is_shown_is_the_end_of_one_piece(stops):
    text = "the ENd is not the END, is it"
    for size in range(1, len(text) + 1):
        finder = StopStrings(tuple(stops), is_shown=True)
        made = [finder.push(text[start : start + size]) for start in range(0, len(text), size)]
        if not finder.found:
            assert "".join(made) + finder.finish() == text
            continue
        assert "".join(made) == "the ENd is not the END"
        last = next(piece for piece in reversed(made) if piece)
        assert last.endswith(max(stops, key=len))
