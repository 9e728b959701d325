import pytest

from fakes.cascade_gateways import file_of
from trireme.errors import SettingError
from trireme.gateway.file import parse_gateway_file

SMALL = {"target": "llm", "calibration": "small.json"}
BIG = {"target": "p:big"}


def parse(*steps, **model):
    return parse_gateway_file(file_of(steps, {"p": {"kind": "openai"}}, **model).encode(), "gateway.toml")


def test_steps_stand_in_place_of_a_chain_and_their_targets_are_those_of_the_model():
    row = parse(SMALL, {"chain": ["p:big", "p:bigger"]}).models["m"]
    assert row.entries == ["llm", "p:big", "p:bigger"]
    assert (row.decide_after, row.on_refusal) == ("answer", "error")
    assert parse(SMALL, BIG).targets() == ["local:llm", "p:big"]
    assert parse(SMALL, BIG, decide_after=32).models["m"].decide_after == 32


@pytest.mark.parametrize(
    ("steps", "model", "named"),
    [
        ((SMALL, BIG), {"chain": ["llm"]}, "models.m has a chain and steps"),
        ((BIG,), {}, "models.m.steps: a cascade has at least two"),
        ((), {"chain": ["llm"], "decide_after": 32}, "models.m.decide_after is of steps"),
        ((), {"chain": ["llm"], "on_refusal": "keep"}, "models.m.on_refusal is of steps"),
        ((), {}, "models.m.chain is empty"),
        (({"target": "llm"}, BIG), {}, r"steps\[0\].calibration is missing"),
        ((SMALL, {**BIG, "calibration": "x.json"}), {}, r"steps\[1\].calibration: the last"),
        (({**SMALL, "chain": ["llm"]}, BIG), {}, r"steps\[0\]: name a target, or a chain"),
        (({"calibration": "x"}, BIG), {}, r"steps\[0\]: name a target, or a chain"),
        (
            ({"calibration": "x", "chain": ["llm", "p:x"]}, BIG),
            {},
            r"steps\[0\].chain: a calibration is of one",
        ),
        (({**SMALL, "target": "nobody:x"}, BIG), {}, r"steps\[0\].target: no provider 'nobody'"),
        ((SMALL, {"chain": ["p:"]}), {}, r"steps\[1\].chain: 'p:' names no model"),
        (({**SMALL, "seconds": 0}, BIG), {}, r"steps\[0\].seconds must be above 0"),
        (({**SMALL, "seconds": float("nan")}, BIG), {}, r"steps\[0\].seconds must be above 0"),
        (({**SMALL, "passages": True}, BIG), {}, r"steps\[0\].passages: no step before"),
        (
            (SMALL, {"target": "rag", "answer_mode": "auto", "passages": True}),
            {},
            r"steps\[1\].passages: a rag model, .* finds its own",
        ),
        (({**SMALL, "name": "A b"}, BIG), {}, r"steps\[0\].name: a name has lower-case"),
        (({**SMALL, "name": "2"}, BIG), {}, r"steps\[1\].name: '2' is another step's"),
        (({**SMALL, "answer_mode": "short"}, BIG), {}, "answer_mode|short"),
        (({**SMALL, "treshold": 1}, BIG), {}, "treshold"),
        ((SMALL, BIG), {"decide_after": 0}, "decide_after"),
        ((SMALL, BIG), {"decide_after": "soon"}, "soon"),
        ((SMALL, BIG), {"decide_after": 32, "on_refusal": "keep"}, "models.m.on_refusal"),
    ],
)
def test_what_cannot_be_meant_stops_the_start_and_is_named(steps, model, named):
    with pytest.raises(SettingError, match=named) as caught:
        parse(*steps, **model)
    assert "gateway.toml" in str(caught.value)
