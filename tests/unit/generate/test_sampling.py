import json

import pytest

from trireme.errors import InvalidInputError
from trireme.generate.engine import Sampling
from trireme.generate.sampling import Parameters, parse_parameters


def parse(**given):
    return parse_parameters(json.dumps(given), 64)


@pytest.mark.parametrize("text", [None, "", "{}", '{"stop": null, "seed": null}'])
def test_without_parameters_the_defaults_hold(text):
    assert parse_parameters(text, 64) == Parameters(Sampling(max_tokens=64))


def test_every_parameter_arrives():
    values = {
        "max_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "presence_penalty": -0.5,
        "frequency_penalty": 0.5,
        "seed": 2**40,
        "stop_token_ids": [3, 4],
        "ignore_eos": True,
    }
    parsed = parse(**values, stop=["a", "b"])
    assert parsed.stop == ("a", "b")
    assert parsed.sampling == Sampling(**(values | {"stop_token_ids": (3, 4)}))


def test_numbers_may_come_as_strings():
    parsed = parse(max_tokens="7", temperature="0.5", top_k="-1", ignore_eos="True", stop="x")
    assert parsed == Parameters(Sampling(max_tokens=7, temperature=0.5, top_k=0, ignore_eos=True), ("x",))


def test_a_tiny_temperature_is_raised_and_zero_stays_greedy():
    assert parse(temperature=1e-9).sampling.temperature == 0.01
    assert parse(temperature=0).sampling.temperature == 0.0


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("max_tokens", 0, "from 1 to"),
        ("max_tokens", 1.5, "whole number"),
        ("max_tokens", True, "whole number"),
        ("max_tokens", "many", "whole number"),
        ("temperature", -0.1, "from 0 to 100"),
        ("temperature", "warm", "from 0 to 100"),
        ("top_p", 0, "above 0 up to 1"),
        ("top_p", 1.1, "above 0 up to 1"),
        ("top_k", -2, "from 0 to"),
        ("min_p", -0.1, "from 0 to 1"),
        ("repetition_penalty", 0, "above 0 up to 10"),
        ("presence_penalty", 2.5, "from -2 to 2"),
        ("frequency_penalty", "nan", "from -2 to 2"),
        ("seed", -1, "from 0 to"),
        ("seed", 2**63, "from 0 to"),
        ("stop", 5, "string or a list"),
        ("stop", [""], "1 to 1000 characters"),
        ("stop", ["x"] * 17, "at most 16"),
        ("stop_token_ids", 5, "list"),
        ("stop_token_ids", [-1], "from 0 to"),
        ("ignore_eos", 1, "true or false"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(key, value, allowed):
    with pytest.raises(InvalidInputError, match=key) as caught:
        parse(**{key: value})
    assert allowed in str(caught.value)


def test_an_unknown_parameter_is_named_with_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"'temprature'; known: max_tokens, temperature"):
        parse(temprature=1)


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"seed": NaN}', "[" * 100_000])
def test_what_is_not_a_json_object_is_refused(text):
    with pytest.raises(InvalidInputError, match="sampling_parameters"):
        parse_parameters(text, 64)
