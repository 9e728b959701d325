import pytest

from trireme.artifacts.gate import Gate
from trireme.artifacts.recipe import Recipe
from trireme.errors import GateError
from trireme.export.parity import read_thresholds


def test_the_recipe_may_set_a_threshold():
    recipe = Recipe("m", "text_encoder", source="x", precision="int8", min_cosine=0.5)
    limits = read_thresholds(recipe).least
    assert limits["cosine_min"] == 0.5
    assert limits["cosine_mean"] > 0.9


def test_the_gate_names_what_failed_and_prints_all_figures():
    thresholds = read_thresholds(Recipe("m", "text_encoder", source="x"))
    Gate("m", thresholds).check({"cosine_min": 1.0, "cosine_mean": 1.0})
    with pytest.raises(GateError, match=r"cosine_min 0\.900000 is below 0\.99999.*cosine_mean=0\.999999"):
        Gate("m", thresholds).check({"cosine_min": 0.9, "cosine_mean": 0.999999})


def test_a_figure_that_is_not_a_number_does_not_pass():
    thresholds = read_thresholds(Recipe("m", "cross_encoder", source="x"))
    with pytest.raises(GateError, match="score_difference nan"):
        Gate("m", thresholds).check({"rank_correlation": 1.0, "score_difference": float("nan")})
