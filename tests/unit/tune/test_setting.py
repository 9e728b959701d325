import pytest

from trireme.artifacts.recipe import Recipe
from trireme.errors import UnsupportedError
from trireme.tune.setting import Step, apply_setting, make_space

ENCODER = Recipe("m", "text_encoder", source="a/b", max_batch_size=64, dynamic_batching=True)
RANKER = Recipe("r", "cross_encoder", source="a/b", max_batch_size=16, dynamic_batching=True)


def values(recipe, cores=8, slo=50.0, **options):
    found = make_space([recipe], cores, slo, **options).values
    return {name.partition(".")[2]: listed for name, listed in found.items()}


def test_values_fit_the_machine_and_the_limit():
    found = values(ENCODER)
    assert found["instances"] == (1, 2, 4, 8)
    assert found["threads"] == (1, 2, 4, 0)
    assert found["max_queue_delay_us"][-1] == 8000
    assert values(ENCODER, slo=2.0)["max_queue_delay_us"] == (0, 100, 250, 500, 1000)
    assert values(ENCODER, cores=6)["instances"] == (1, 2, 4, 6)
    assert values(ENCODER, cores=1)["threads"] == (0,)


def test_the_present_values_are_among_them_in_order():
    recipe = Recipe(
        "m", "classifier", source="a/b", threads=8, instances=3, max_batch_tokens=3000, dynamic_batching=True
    )
    found = values(recipe)
    assert found["threads"] == (1, 2, 4, 8)
    assert found["instances"] == (1, 2, 3, 4, 8)
    assert found["max_batch_tokens"][3:6] == (2048, 3000, 4096)


def test_no_batch_size_refuses_what_clients_send_now():
    assert values(ENCODER)["max_batch_size"] == (32, 64, 128, 256)
    assert values(RANKER)["max_batch_size"] == (16, 32, 64, 128, 256)
    assert values(RANKER, least_batch_size=4)["max_batch_size"][0] == 4


def test_without_dynamic_batching_nothing_waits_or_joins():
    recipe = Recipe("m", "text_encoder", source="a/b")
    assert set(values(recipe)) == {"instances", "threads", "max_batch_tokens"}


def test_a_gpu_has_instances_but_no_threads():
    recipe = Recipe("m", "text_encoder", source="a/b", target="gpu")
    assert values(recipe)["instances"] == (1, 2, 3, 4)
    assert "threads" not in values(recipe)


def test_other_kinds_are_named():
    with pytest.raises(UnsupportedError, match="kind 'generator'"):
        make_space([Recipe("llm", "generator", source="a/b")], 2, 50.0)


def test_a_step_ends_at_the_end_of_a_list():
    space = make_space([ENCODER], 2, 50.0)
    up = Step((("m.instances", 1),))
    one = space.move(space.start, up)
    assert one["m.instances"] == 2
    assert space.move(one, up) is None
    assert space.move(one, up.back) == space.start


def test_a_recipe_gets_the_values_of_its_own_model():
    space = make_space([RANKER, ENCODER], 2, 50.0)
    setting = space.start.change({"m.threads": 1, "r.instances": 2})
    assert apply_setting(ENCODER, setting).threads == 1
    assert apply_setting(ENCODER, setting).instances == 1
    assert apply_setting(RANKER, setting).instances == 2
    assert apply_setting(RANKER, space.start) == RANKER


def test_a_setting_is_described_by_what_differs():
    space = make_space([ENCODER], 2, 50.0)
    assert space.start.describe(space.start) == "as it is"
    assert space.start.change({"m.threads": 1}).describe(space.start) == "threads 1"
    assert space.start.describe().startswith("instances 1, threads 0, max_batch_tokens 2048")
    both = make_space([RANKER, ENCODER], 2, 50.0).start
    assert both.change({"m.threads": 1}).describe(both) == "m.threads 1"
