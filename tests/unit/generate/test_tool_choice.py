import json

import pytest

from trireme.errors import InvalidInputError
from trireme.generate.engine import Sampling
from trireme.generate.tool_choice import FREE_CHOICE, hold_to_choice, parse_tool_choice


def tool(name, **schema):
    return {"type": "function", "function": {"name": name, "parameters": schema}}


CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}},
    "$defs": {"city": {"type": "string"}},
}


def test_a_free_choice_changes_nothing():
    sampling = Sampling(9)
    assert hold_to_choice(sampling, FREE_CHOICE, [tool("f")]) is sampling
    assert parse_tool_choice("", ()) == parse_tool_choice("auto", ()) == FREE_CHOICE


def test_a_named_function_is_held_to_its_own_schema():
    tools = [tool("f"), tool("weather", **CITY)]
    choice = parse_tool_choice(json.dumps({"type": "function", "function": {"name": "weather"}}), tools)
    held = hold_to_choice(Sampling(9), choice, tools).structured
    assert (held.kind, json.loads(held.text)) == ("json", CITY)


def test_any_function_is_a_list_of_calls_whose_shared_parts_stand_at_the_root():
    tools = [tool("f"), tool("weather", **CITY)]
    held = json.loads(
        hold_to_choice(Sampling(9), parse_tool_choice("required", tools), tools).structured.text
    )

    assert held["$defs"] == CITY["$defs"]
    first, second = held["items"]["anyOf"]
    assert first["properties"] == {"name": {"const": "f"}, "parameters": {"type": "object"}}
    assert second["properties"]["parameters"] == {"type": "object", "properties": CITY["properties"]}
    assert (held["type"], held["minItems"]) == ("array", 1)


def test_shared_parts_of_one_name_that_differ_are_refused():
    other = {**CITY, "$defs": {"city": {"type": "integer"}}}
    tools = [tool("a", **CITY), tool("b", **other)]
    with pytest.raises(InvalidInputError, match=r"different .defs named 'city'"):
        hold_to_choice(Sampling(9), parse_tool_choice("required", tools), tools)


@pytest.mark.parametrize("target", ["#", "#/properties/city"])
def test_a_place_that_a_list_of_calls_has_elsewhere_is_refused_and_of_a_named_function_it_is_not(target):
    tree = {"type": "object", "properties": {"city": {"type": "string"}, "in": {"anyOf": [{"$ref": target}]}}}
    tools = [tool("f"), tool("tree", **tree)]

    with pytest.raises(InvalidInputError, match=rf"'tree' refers to '{target}', which stands elsewhere"):
        hold_to_choice(Sampling(9), parse_tool_choice("required", tools), tools)

    named = parse_tool_choice('{"type": "function", "function": {"name": "tree"}}', tools)
    assert json.loads(hold_to_choice(Sampling(9), named, tools).structured.text) == tree


def test_a_schema_that_cannot_be_held_to_is_refused_in_the_name_of_tools():
    tools = [tool("f", type="object", uniqueItems=True)]
    with pytest.raises(InvalidInputError, match=r"^tools: their schema has 'uniqueItems'"):
        hold_to_choice(Sampling(9), parse_tool_choice("required", tools), tools)
