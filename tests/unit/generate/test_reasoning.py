import pytest

from trireme.generate.reasoning import REASONING_MARKS, ReasoningSplitter, find_marks

THINK = REASONING_MARKS[0]


def split(pieces, *, has_begun=False):
    splitter = ReasoningSplitter(THINK, has_begun=has_begun)
    parts = [*map(splitter.push, pieces), splitter.finish()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize(
    ("answer", "has_begun", "reasoning", "text"),
    [
        ("<think>\nTwo  \n</think>\n\nIt is 2.\n", False, "Two", "It is 2.\n"),
        (" \n<think></think>2", False, "", "2"),
        ("a </b> and 2</think>2", True, "a </b> and 2", "2"),
        ("  <thin", False, "", "  <thin"),
        ("It is <think>2</think>", False, "", "It is <think>2</think>"),
        ("<think>never </thin", False, "never </thin", ""),
        ("never \n ", True, "never", ""),
        ("", True, "", ""),
        ("\n2", False, "", "\n2"),
    ],
)
def test_reasoning_at_the_beginning_is_taken_out_however_it_is_cut(answer, has_begun, reasoning, text):
    cuts = [[answer], list(answer), *([answer[:at], answer[at:]] for at in range(len(answer)))]

    assert {split(cut, has_begun=has_begun) for cut in cuts} == {(reasoning, text)}


def test_the_marks_are_those_of_the_template_or_of_the_tokenizer():
    assert find_marks("{{ content.split('</think>')[-1] }}", ()) is THINK
    assert find_marks("", ("<think>", "</think>")) is THINK
    assert find_marks("", ("[THINK]", "[/THINK]")).begin == "[THINK]"
    assert find_marks("{{ messages }}", ("<s>",)) is None
