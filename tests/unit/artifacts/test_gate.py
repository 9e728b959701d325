import math

import pytest

from trireme.artifacts.gate import Gate, Thresholds
from trireme.errors import GateError

GATE = Gate("m", Thresholds({"agreement": 0.9}, {"ratio": 1.05, "kl": 0.05}), "choose more bits")
GOOD = {"ratio": 1.01, "kl": 0.01, "agreement": 0.97, "tokens": 1000}


def test_figures_at_the_limit_pass():
    GATE.check(GOOD)
    GATE.check(GOOD | {"ratio": 1.05, "kl": 0.05, "agreement": 0.90})


@pytest.mark.parametrize(
    ("worse", "message"),
    [
        ({"ratio": 1.06}, "ratio 1.060000 is above 1.05"),
        ({"kl": 0.0512}, "kl 0.051200 is above 0.05"),
        ({"agreement": 0.89}, "agreement 0.890000 is below 0.9"),
        ({"kl": math.nan}, "kl nan is above 0.05"),
        ({"agreement": math.nan}, "agreement nan is below 0.9"),
        ({"kl": 1.0, "agreement": 0.1}, "agreement 0.100000 is below 0.9; kl 1.000000 is above 0.05"),
    ],
)
def test_a_figure_past_its_limit_is_named_with_value_and_limit(worse, message):
    with pytest.raises(GateError, match=r"^m is .*nothing was placed: .*; choose more bits$") as caught:
        GATE.check(GOOD | worse)
    assert f"placed: {message} (all figures: " in str(caught.value)


def test_an_error_has_all_figures():
    with pytest.raises(
        GateError, match=r"\(all figures: agreement=0\.1.*, kl=0\.01.*, ratio=1\.01.*, tokens=1000"
    ):
        GATE.check(GOOD | {"agreement": 0.1})


def test_without_thresholds_everything_passes():
    Gate("m", Thresholds({}, {})).check({})
