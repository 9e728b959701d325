import pytest

from trireme.errors import SettingError
from trireme.quantize.recipe import METHODS, QuantizeRecipe, make_recipe


def test_every_method_has_a_width_of_its_own():
    assert {method: QuantizeRecipe("m", method).width for method in METHODS} == {
        "awq": 4,
        "gptq": 4,
        "bnb-nf4": 4,
        "bnb-int8": 8,
        "none": 16,
    }
    assert QuantizeRecipe("m", "gptq", bits=8).width == 8


def test_groups_belong_to_awq_and_gptq():
    assert [QuantizeRecipe("m", method).group for method in ("awq", "gptq", "bnb-nf4")] == [128, 128, 0]
    assert QuantizeRecipe("m", "awq", group_size=32).group == 32


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"method": "ggml"}, "method must be one of awq, gptq"),
        ({"method": "awq", "bits": 8}, "method awq writes 4 bits, got bits 8"),
        ({"method": "gptq", "bits": 3}, "method gptq writes 4 or 8 bits, got bits 3"),
        ({"method": "bnb-nf4", "group_size": 64}, "method bnb-nf4 has no group_size"),
        ({"method": "awq", "group_size": 100}, "group_size must be one of 32, 64, 128, got 100"),
        ({"method": "awq", "sym": False}, "sym is a key of gptq"),
        ({"samples": -1}, "samples must be at least 0"),
        ({"sequence_length": 8}, "sequence_length must be at least 32"),
        ({"eval_tokens": 100}, "eval_tokens must be at least 512"),
        ({"device": "tpu"}, "device must be one of cpu, cuda"),
    ],
)
def test_an_option_out_of_range_is_named(keys, message):
    with pytest.raises(SettingError, match=message):
        QuantizeRecipe("m", **keys)


def test_flags_go_over_the_recipe_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('source = "some/model"\nmethod = "gptq"\nmax_kl = 1\nsamples = 8\n')
    recipe = make_recipe({"samples": 4, "method": None}, path)
    assert (recipe.source, recipe.method, recipe.max_kl, recipe.samples) == ("some/model", "gptq", 1.0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smaples = 4\n", "unknown key 'smaples'"),
        ('samples = "4"\n', "samples must be of type int, got '4'"),
        ("sym = 1\n", "sym must be of type bool, got 1"),
        ("[", "is not valid TOML"),
    ],
)
def test_a_bad_recipe_file_stops_the_run_and_names_the_key(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=message):
        make_recipe({"source": "m"}, path)


def test_a_run_without_a_source_or_with_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingError, match="give SOURCE"):
        make_recipe({"source": None})
    with pytest.raises(SettingError, match=r"cannot read recipe .*none\.toml"):
        make_recipe({"source": "m"}, tmp_path / "none.toml")


def test_awq_calibrates_on_fewer_windows_unless_told():
    assert [QuantizeRecipe("m", method).most_samples for method in ("awq", "gptq", "none")] == [16, 64, 0]
    assert QuantizeRecipe("m", "awq", samples=40).most_samples == 40
