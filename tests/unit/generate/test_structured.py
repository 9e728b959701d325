"""Forms of an answer: what is read, and what is refused before an engine compiles it."""

import json
import re

import pytest

from trireme.errors import InvalidInputError
from trireme.generate.engine import StructuredOutput
from trireme.generate.sampling import parse_parameters
from trireme.generate.structured import read_schema

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def form_of(**given):
    return parse_parameters(json.dumps(given), 64).sampling.structured


def held(**structured):
    return form_of(structured_outputs=structured)


def schema_of(schema):
    return json.loads(held(json=schema).text)


def test_a_schema_comes_as_openai_writes_it_or_as_vllm_does():
    expected = StructuredOutput("json", json.dumps(SCHEMA, separators=(",", ":")))
    openai = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    assert form_of(response_format=openai) == expected
    assert held(json=SCHEMA) == held(json=json.dumps(SCHEMA)) == expected


def test_a_json_object_is_any_object():
    anything = StructuredOutput("json", '{"type":"object"}')
    assert form_of(response_format={"type": "json_object"}) == held(json_object=True) == anything
    assert held(json_object=False) is None


def test_text_is_no_form():
    assert form_of(response_format={"type": "text"}) is held() is form_of() is None


def test_choices_become_a_grammar_with_every_character_in_it():
    assert held(choice=["yes", "no", "yes"]) == StructuredOutput("grammar", 'root ::= "yes" | "no"')
    assert held(choice=['"a\\b"', "a\nb"]).text == r'root ::= "\"a\\b\"" | "a\U0000000ab"'


def test_a_regex_and_a_grammar_go_as_they_are():
    assert held(regex="[a-z]{2,5}") == StructuredOutput("regex", "[a-z]{2,5}")
    assert held(grammar='root ::= "a"') == StructuredOutput("grammar", 'root ::= "a"')


@pytest.mark.parametrize(
    ("bounds", "repeat"),
    [({"maxLength": 5}, "0,5"), ({"minLength": 2}, "2,"), ({"minLength": 1, "maxLength": 3}, "1,3")],
)
@pytest.mark.parametrize("kind", ["string", ["string", "null"]])
def test_a_length_becomes_a_pattern_that_lets_no_control_character_in(bounds, repeat, kind):
    bounded = schema_of({"type": kind, **bounds})
    assert set(bounded) == {"type", "pattern"}
    assert bounded["pattern"].endswith(f"{{{repeat}}}$")
    assert re.fullmatch(bounded["pattern"], "abc")
    for letter in ('"', "\\", "\n", "\x05"):
        assert not re.fullmatch(bounded["pattern"], f"a{letter}c")


def test_names_and_values_of_a_schema_are_no_keywords():
    schema = {
        "type": "object",
        "properties": {"not": {"enum": [{"if": 1}]}, "uniqueItems": {"const": {"not": 1}}},
        "$defs": {"then": {"type": "string"}},
    }
    assert schema_of(schema) == schema


def refusal(**given):
    with pytest.raises(InvalidInputError) as caught:
        parse_parameters(json.dumps(given), 64)
    return str(caught.value)


@pytest.mark.parametrize(
    "keyword", ["not", "if", "multipleOf", "uniqueItems", "contains", "patternProperties", "propertyNames"]
)
def test_a_keyword_that_an_answer_is_not_held_to_is_refused_wherever_it_stands(keyword):
    for schema in (
        {keyword: 1},
        {"type": "array", "items": {keyword: {}}},
        {"anyOf": [{"type": "string"}, {keyword: True}]},
        {"$defs": {"x": {keyword: 1}}},
    ):
        assert f"has {keyword!r}" in refusal(structured_outputs={"json": schema})


@pytest.mark.parametrize(
    ("structured", "said"),
    [
        ([], "must be an object with one of json, json_object, regex, choice, grammar"),
        ({"yaml": 1}, "unknown key 'yaml'"),
        ({"regex": "a", "choice": ["a"]}, "choice and regex; send one"),
        ({"json": "{"}, "json is not valid JSON"),
        ({"json": [1]}, "must be a JSON schema"),
        ({"json": {"$ref": "https://example.com/schema"}}, "only places of its own"),
        ({"json": {"type": "string", "maxLength": 9, "pattern": "a"}}, "'pattern' beside a length"),
        ({"json": {"type": "string", "maxLength": "9"}}, "maxLength must be a whole number"),
        ({"json": {"type": "string", "maxLength": 5000}}, "at most 4096 are taken; lower maxLength"),
        ({"json": {"description": "x" * 70_000}}, "at most 65536"),
        ({"regex": ""}, "1 to 4096 characters"),
        ({"regex": "x" * 5000}, "1 to 4096 characters"),
        ({"regex": "[a-z]{1,5000}"}, "allows for 5000 characters"),
        ({"regex": "(([a-z]{1,50}){1,50}){1,50}"}, "allows for 125000 characters"),
        ({"regex": "(" * 100 + ")" * 100}, "more than 64 groups deep"),
        ({"choice": []}, "a list of 1 to 1000"),
        ({"choice": ["a", ""]}, "1 to 1000 characters"),
        ({"choice": ["a\0"]}, "no answer can have"),
        ({"grammar": " "}, "a grammar in EBNF"),
        ({"grammar": "top ::= root"}, "no rule named root"),
        ({"grammar": 'root ::= "a"{1,9999}'}, "at most 4096"),
        ({"json_object": 1}, "true or false"),
    ],
)
def test_what_cannot_be_a_form_is_refused_by_name(structured, said):
    assert said in refusal(structured_outputs=structured)


@pytest.mark.parametrize(
    "value",
    ["text", {}, {"type": "yaml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}}],
)
def test_a_response_format_of_no_known_type_is_refused(value):
    assert "response_format" in refusal(response_format=value)


def test_a_schema_that_is_too_deep_is_refused():
    schema: dict = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    assert "levels deep" in refusal(structured_outputs={"json": schema})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"min_tokens": 1}, "min_tokens must be 0"),
        ({"ignore_eos": True}, "ignore_eos must be false"),
        ({"response_format": {"type": "json_object"}}, "send one"),
    ],
)
def test_what_cannot_go_with_a_form_is_refused(other, said):
    assert said in refusal(structured_outputs={"choice": ["a"]}, **other)


@pytest.mark.parametrize(
    ("regex", "places"),
    [
        ("abc", 3),
        ("a|bc", 3),
        ("[a-z]{3}", 3),
        ("[]a]{2}", 2),
        (r"\d{4}-\d{2}", 7),
        ("(ab){3}c*", 7),
        ("a{x", 3),
    ],
)
def test_the_places_of_a_regex_are_counted(regex, places, monkeypatch):
    monkeypatch.setattr("trireme.generate.structured.MAX_PLACES", 0)
    assert f"allows for {places} characters" in refusal(structured_outputs={"regex": regex})


def test_a_schema_as_deep_as_the_stack_is_refused_as_one_that_is_too_deep():
    """Whatever of the stack is left where it was read, and where it is written."""

    def dive(levels, schema):
        return dive(levels - 1, schema) if levels else read_schema("tools", schema)

    schema = {}
    for _ in range(700):
        schema = {"items": schema}
    with pytest.raises(InvalidInputError, match="tools is more than 64 levels deep"):
        dive(300, schema)
