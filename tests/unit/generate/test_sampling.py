import json

import pytest

from trireme.errors import InvalidInputError
from trireme.generate.engine import Sampling
from trireme.generate.sampling import RANGES, Parameters, parse_parameters


def parse(**given):
    return parse_parameters(json.dumps(given), 64)


@pytest.mark.parametrize("text", [None, "", "{}", '{"stop": null, "seed": null}'])
def test_without_parameters_the_defaults_hold(text):
    assert parse_parameters(text, 64) == Parameters(Sampling(max_tokens=64))


def test_every_parameter_arrives():
    values = {
        "max_tokens": 5,
        "min_tokens": 3,
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


def test_a_stop_string_may_be_part_of_the_answer():
    assert parse(stop="a", include_stop_str_in_output=True).shows_stop
    assert not parse(stop="a", include_stop_str_in_output="false").shows_stop
    assert not parse(stop="a").shows_stop


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
        ("max_tokens", "1_000", "whole number"),
        ("max_tokens", "\u0663", "whole number"),
        ("min_tokens", -1, "from 0 to"),
        ("min_tokens", 2**31, "from 0 to"),
        ("min_tokens", 65, "at most max_tokens, which is 64"),
        ("max_completion_tokens", 0, "from 1 to"),
        ("temperature", -0.1, "from 0 to 2"),
        ("temperature", "warm", "from 0 to 2"),
        ("temperature", "1_0", "from 0 to 2"),
        ("temperature", 2.1, "from 0 to 2"),
        ("temperature", True, "from 0 to 2"),
        ("temperature", [], "from 0 to 2"),
        ("temperature", "inf", "from 0 to 2"),
        ("top_p", 0, "above 0 up to 1"),
        ("top_p", 1.1, "above 0 up to 1"),
        ("top_p", -1e-300, "above 0 up to 1"),
        ("top_p", "nan", "above 0 up to 1"),
        ("top_k", -2, "from 0 to"),
        ("top_k", 2**64, "from 0 to"),
        ("top_k", 1e300, "from 0 to"),
        ("min_p", -0.1, "from 0 to 1"),
        ("min_p", 1.0000001, "from 0 to 1"),
        ("repetition_penalty", 0, "from 0.01 to 10"),
        ("repetition_penalty", 1e-46, "from 0.01 to 10"),
        ("repetition_penalty", 10**300, "from 0.01 to 10"),
        ("presence_penalty", 2.5, "from -2 to 2"),
        ("frequency_penalty", "nan", "from -2 to 2"),
        ("seed", -2, "from 0 to"),
        ("seed", 2**63, "from 0 to"),
        ("stop", 5, "string or a list"),
        ("stop", [""], "1 to 1000 characters"),
        ("stop", ["x"] * 17, "at most 16"),
        ("stop_token_ids", 5, "list"),
        ("stop_token_ids", [-1], "from 0 to"),
        ("stop_token_ids", [2**31], "from 0 to"),
        ("ignore_eos", 1, "true or false"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(key, value, allowed):
    with pytest.raises(InvalidInputError, match=key) as caught:
        parse(**{key: value})
    assert allowed in str(caught.value)


def test_an_unknown_parameter_is_named_with_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"'temprature'; known: max_tokens, min_tokens, temperature"):
        parse(temprature=1)


@pytest.mark.parametrize("key", RANGES)
def test_both_ends_of_a_range_are_taken_and_what_lies_beyond_is_not(key):
    step = 1 if isinstance(RANGES[key][1], int) and RANGES[key][1] > 2 else 1e-9
    for end in RANGES[key]:
        assert parse(**{"max_tokens": 2**31 - 1, key: end}) == parse(
            **{"max_tokens": 2**31 - 1, key: str(end)}
        )
    with pytest.raises(InvalidInputError, match=f"{key} must be"):
        parse(**{key: RANGES[key][1] + step})


def test_a_tiny_top_p_keeps_the_most_likely_token_alone():
    assert parse(top_p=1e-300).sampling.top_p == 1e-6
    assert parse(top_p=0.9).sampling.top_p == 0.9


def test_a_seed_of_minus_one_is_no_seed():
    assert parse(seed=-1) == parse()


def test_max_completion_tokens_is_max_tokens():
    assert parse(max_completion_tokens=5) == parse(max_tokens=5)
    assert parse(max_completion_tokens=5, max_tokens=6) == parse(max_tokens=6, max_completion_tokens=5)
    assert parse(max_completion_tokens=5, max_tokens=6) == parse(max_tokens=5)
    with pytest.raises(InvalidInputError, match="max_tokens must be a whole number"):
        parse(max_completion_tokens=5, max_tokens=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n", 1),
        ("n", "1"),
        ("n", 1.0),
        ("best_of", 1),
        ("use_beam_search", "False"),
        ("length_penalty", 1.0),
        ("logprobs", False),
        ("logprobs", None),
        ("logit_bias", {}),
        ("response_format", {"type": "text"}),
        ("skip_special_tokens", "true"),
        ("lora_name", ""),
    ],
)
def test_what_other_servers_offer_may_be_sent_where_it_changes_nothing(key, value):
    assert parse(**{key: value}) == parse()


@pytest.mark.parametrize("value", [0, 17, True, "two", None])
def test_the_number_of_answers_is_bounded(value):
    if value is None:
        assert parse(n=None).n == parse().n == 1
        return
    with pytest.raises(InvalidInputError, match="n must be a whole number from 1 to 16"):
        parse(n=value)


def test_each_answer_has_a_seed_of_its_own_and_the_first_the_one_that_was_sent():
    asked = parse(n="3", seed=2**63 - 1, temperature=1)
    assert asked.n == 3
    assert [asked.of_answer(index).sampling.seed for index in range(3)] == [2**63 - 1, 0, 1]
    assert parse(n=2).of_answer(1).sampling.seed is None


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("best_of", "3", "send n for all of them; leave it out or send 1"),
        ("use_beam_search", True, "beam search is not offered"),
        ("prompt_logprobs", 0, "are those of the answer"),
        ("logit_bias", {"5": -100}, "cannot be weighted"),
        ("bad_words", ["x"], "cannot be weighted"),
        ("guided_decoding", {"regex": "a+"}, "calls it structured_outputs now"),
        ("skip_special_tokens", False, "not part of the answer"),
    ],
)
def test_what_other_servers_offer_and_this_one_does_not_is_refused_with_the_reason(key, value, reason):
    with pytest.raises(InvalidInputError, match=f"{key} cannot be") as caught:
        parse(**{key: value})
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "1", '{"seed": NaN}', '{"seed": -Infinity}', "[" * 100_000, '{"seed": 1%s}' % ("0" * 5000)],
)
def test_what_is_not_a_json_object_is_refused(text):
    with pytest.raises(InvalidInputError, match="sampling_parameters"):
        parse_parameters(text, 64)


def test_a_number_beyond_every_float_is_refused():
    with pytest.raises(InvalidInputError, match="temperature must be a number from 0 to 2, got inf"):
        parse_parameters('{"temperature": 1e999}', 64)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": None, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": "true", "top_logprobs": "20"}, 20),
        ({"logprobs": True, "top_logprobs": 3.0}, 3),
    ],
)
def test_log_probabilities_are_asked_for_in_openais_words(given, asked):
    assert parse(**given).sampling.logprobs == asked


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"logprobs": 5}, "logprobs must be true or false, got 5"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs must be a whole number from 0 to 20"),
        ({"top_logprobs": 2}, "top_logprobs is 2, but logprobs is not true; send both"),
        ({"logprobs": False, "top_logprobs": 2}, "send both"),
    ],
)
def test_what_says_nothing_clear_of_log_probabilities_is_refused_by_name(given, said):
    with pytest.raises(InvalidInputError, match=said):
        parse(**given)


def test_an_adapter_is_named_beside_the_sampling():
    assert parse(lora_name="law").adapter == "law"
    assert parse(lora_name="").adapter == parse(lora_name=None).adapter == parse().adapter == ""
    assert parse(lora_name="law", n=2).of_answer(1).adapter == "law"
    with pytest.raises(InvalidInputError, match="lora_name must be the name of an adapter, got 7"):
        parse(lora_name=7)
