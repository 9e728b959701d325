from trireme.quantize.gate import DEFAULTS, make_thresholds, read_thresholds
from trireme.quantize.recipe import METHODS, QuantizeRecipe


def test_every_method_and_width_has_defaults():
    assert set(DEFAULTS) == {(method, bits) for method, widths in METHODS.items() for bits in widths}
    assert read_thresholds(QuantizeRecipe("m", "awq")) == make_thresholds(1.05, 0.05, 0.90)


def test_more_bits_have_tighter_limits():
    four, eight = DEFAULTS["gptq", 4], DEFAULTS["gptq", 8]
    assert all(eight.most[name] < four.most[name] for name in ("perplexity_ratio", "kl"))
    assert eight.least["agreement"] > four.least["agreement"]


def test_a_recipe_overrides_each_threshold():
    chosen = QuantizeRecipe("m", max_kl=0.2, min_agreement=0.0)
    assert read_thresholds(chosen) == make_thresholds(1.05, 0.2, 0.0)


def test_limits_are_named_as_the_recipe_and_the_manifest_name_them():
    named = make_thresholds(1.05, 0.05, 0.90).named()
    assert named == {"max_perplexity_ratio": 1.05, "max_kl": 0.05, "min_agreement": 0.90}
