import io
import json

import pytest
from rich.console import Console

from trireme.commands.ask import MODES, print_answer, print_answer_json
from trireme.rag.ports import ANSWER_MODES, AnswerPart, Citation, Usage

CITED = Citation(1, "ships.md#0", "ships.md", 6, 41, 0.75, 1.0, "A trireme had three banks of oars.")


def printed(*parts):
    console = Console(file=io.StringIO(), width=40)
    print_answer(console, parts)
    return console.file.getvalue()


def test_a_sentence_is_printed_with_its_source():
    usage = Usage("extractive", total_ms=1500, time_to_first_token_ms=1500, grounded=True)
    text = printed(AnswerPart(CITED.text, (CITED,), usage, "stop"))
    assert text.splitlines() == [
        "A trireme had three banks of oars.",
        "",
        "[1] ships.md (characters 6 to 41 of passage ships.md#0, score 0.75)",
        "extractive, first words after 1.50 s, all after 1.50 s",
    ]


def test_generated_text_is_printed_as_it_comes_and_its_sources_are_quoted():
    usage = Usage("generative", prompt_tokens=90, completion_tokens=4, grounded=True)
    text = printed(
        AnswerPart("Three [bold]"), AnswerPart("banks [1]."), AnswerPart("", (CITED,), usage, "stop")
    )
    assert text.startswith("Three [bold]banks [1].\n\n[1] ships.md")
    assert "    A trireme had three banks of oars.\n" in text
    assert "generative, 90 + 4 tokens" in text


def test_an_answer_that_nothing_supports_says_so():
    usage = Usage("generative", completion_tokens=1)
    assert "cites no passage that supports it" in printed(AnswerPart("Four.", (), usage, "stop"))


def test_a_document_cannot_steer_the_terminal():
    text = printed(AnswerPart("red \x1b[31m\x07 tab\tand\nline", (), Usage("none"), "stop"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.startswith("red \ufffd[31m\ufffd tab")


def test_json_has_everything(capsys):
    usage = Usage("generative", unknown_citations=(7,))
    print_answer_json([AnswerPart("Three "), AnswerPart("banks."), AnswerPart("", (CITED,), usage, "length")])
    document = json.loads(capsys.readouterr().out)
    assert (document["answer"], document["finish_reason"]) == ("Three banks.", "length")
    assert document["citations"][0]["source"] == "ships.md"
    assert document["usage"]["unknown_citations"] == [7]


@pytest.mark.parametrize("parts", [[], [AnswerPart("cut off")]])
def test_an_answer_without_an_end_is_still_printed(parts, capsys):
    assert printed(*parts).startswith("".join(part.text for part in parts))
    print_answer_json(parts)
    assert json.loads(capsys.readouterr().out)["usage"] is None


def test_the_command_knows_the_modes():
    assert MODES == ANSWER_MODES
