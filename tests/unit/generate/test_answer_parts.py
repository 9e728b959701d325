import pytest

from fakes.calling_llm import TEMPLATE
from trireme.errors import ArtifactError, InvalidInputError
from trireme.generate.answer_parts import AnswerForm, AnswerReader
from trireme.generate.pieces import Piece
from trireme.generate.tool_calls import ToolCallParser
from trireme.generate.tool_calls_formats import FORMATS
from trireme.generate.tool_choice import ToolChoice

TOOLS = [{"type": "function", "function": {"name": "say", "parameters": {}}}]
CALL = '<tool_call>{"name": "say", "arguments": {"text": "oars"}}</tool_call>'


def test_a_template_names_how_its_model_calls_and_reasons(byte_level):
    form = AnswerForm.of(TEMPLATE, byte_level)
    assert (form.calls.name, form.reasoning.begin) == ("hermes", "<think>")
    assert AnswerForm.of("{{ messages }}", byte_level) == AnswerForm(None, None, frozenset())


def test_a_recipe_may_name_another_form_and_an_unknown_one_is_refused(byte_level):
    assert AnswerForm.of(TEMPLATE, byte_level, "pythonic").calls is FORMATS["pythonic"]
    with pytest.raises(ArtifactError, match=r"tool_parser must be one of hermes, .*, got 'gpt'"):
        AnswerForm.of(TEMPLATE, byte_level, "gpt")


def test_tools_for_a_model_whose_form_is_not_known_are_refused_with_what_to_set(byte_level):
    form = AnswerForm.of("{{ tools }}", byte_level)
    with pytest.raises(InvalidInputError, match="set tool_parser in its recipe"):
        form.make_reader("", TOOLS, ToolChoice(), wants_reasoning=True, is_streamed=True)
    assert form.make_reader("", (), ToolChoice(), wants_reasoning=True, is_streamed=True) is None


def test_a_prompt_that_begins_the_reasoning_leaves_it_to_the_answer_to_end_it(byte_level):
    form = AnswerForm.of(TEMPLATE, byte_level)
    reader = form.make_reader(
        "<|assistant|>\n<think>\n", TOOLS, ToolChoice(), wants_reasoning=True, is_streamed=False
    )

    piece = reader.read(Piece(f"{CALL}? no</think>{CALL}", "stop"))

    assert (piece.reasoning, piece.text, piece.finish_reason) == (f"{CALL}? no", "", "tool_calls")
    assert [(one.name, one.arguments) for one in piece.tool_calls] == [("say", '{"text": "oars"}')]


def test_an_answer_that_is_held_to_a_form_does_not_go_on_with_the_prompts_reasoning(byte_level):
    form = AnswerForm.of(TEMPLATE, byte_level)
    reader = form.make_reader(
        "<|assistant|>\n<think>\n", (), ToolChoice(), wants_reasoning=True, is_streamed=False, is_held=True
    )

    piece = reader.read(Piece('{"a": 1}', "stop"))

    assert (piece.reasoning, piece.text) == ("", '{"a": 1}')


def test_an_answer_that_ends_at_its_length_says_so_whatever_it_called(byte_level):
    form = AnswerForm.of(TEMPLATE, byte_level)
    reader = form.make_reader("", TOOLS, ToolChoice(), wants_reasoning=False, is_streamed=False)
    assert reader.read(Piece(CALL, "length")).finish_reason == "length"


def test_control_tokens_that_are_marks_are_shown_to_who_reads(byte_level):
    end = byte_level.token_id("<|end|>")
    template = "{{ tools }} functools["
    assert end in byte_level.special_ids
    assert AnswerForm.of(template, byte_level).shown == frozenset()
    assert AnswerForm.of("[TOOL_CALLS]", byte_level).calls.marks == ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")


def test_pieces_of_nothing_are_not_handed_on():
    heard = []
    parser = ToolCallParser(FORMATS["hermes"], {"say": {}}, is_streamed=True)
    read = AnswerReader(parser, None).wrap(heard.append)

    for text in ("Yes", " ", "<tool", "_call>", '{"name": "say"}'):
        read(Piece(text))
    read(Piece("", "stop"))

    assert [piece.text for piece in heard] == ["Yes", "", ""]
    assert [len(piece.tool_calls) for piece in heard] == [0, 1, 0]


def test_what_fails_while_it_is_read_leaves_the_answer_as_text(caplog):
    def fails(parser):
        raise ZeroDivisionError
        yield

    parser = ToolCallParser(FORMATS["hermes"], {"say": {}}, is_streamed=True)
    parser._reading = fails(parser)
    reader = AnswerReader(parser, None)

    assert [reader.read(Piece(text)).text for text in ("one", " two")] == ["one", " two"]
    assert "could not be read for calls" in caplog.text
