import dataclasses

import pytest

from trireme.artifacts.config_writer import write_config
from trireme.artifacts.machine_config import fit_cores, place_machine_configs
from trireme.artifacts.recipe import Recipe, parse_recipe, write_recipe
from trireme.errors import SettingError

OPEN = Recipe("m", kind="text_encoder", source="x/y", instances=0)


@pytest.mark.parametrize(("cores", "instances"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (16, 4), (64, 16)])
def test_one_instance_for_four_cores_where_the_recipe_leaves_it_open(cores, instances):
    assert fit_cores(OPEN, cores).instances == instances


def test_a_number_in_the_recipe_stays_whatever_the_machine():
    chosen = dataclasses.replace(OPEN, instances=3)
    assert fit_cores(chosen, 64) == chosen


def test_config_pbtxt_is_the_same_on_every_machine():
    assert write_config(OPEN) == write_config(dataclasses.replace(OPEN, instances=1))


@pytest.mark.parametrize("text", ['kind = "sort"', 'kind = "text_encoder"\nsource = "x/y"\ntarget = "gpu"'])
def test_only_encoders_on_a_cpu_leave_it_open(text):
    with pytest.raises(SettingError, match="instances must be at least 1"):
        parse_recipe(f"{text}\ninstances = 0", "m")


def place(folder, recipe):
    (folder / recipe.model).mkdir(parents=True, exist_ok=True)
    write_recipe(folder / recipe.model / "recipe.toml", recipe)


def test_machines_with_more_cores_get_a_configuration_beside_the_common_one(tmp_path):
    place(tmp_path, OPEN)
    place(tmp_path, Recipe("order", "sort"))
    assert place_machine_configs(tmp_path, 16)
    written = tmp_path / "m" / "configs" / "machine.pbtxt"
    assert "count: 4" in written.read_text()
    assert not (tmp_path / "order" / "configs").exists()
    before = written.stat().st_mtime_ns
    assert place_machine_configs(tmp_path, 16)
    assert written.stat().st_mtime_ns == before


def test_a_configuration_of_another_machine_or_setting_is_removed(tmp_path):
    place(tmp_path, OPEN)
    place_machine_configs(tmp_path, 16)
    assert not place_machine_configs(tmp_path, 2)
    assert not (tmp_path / "m" / "configs" / "machine.pbtxt").exists()
    place_machine_configs(tmp_path, 16)
    place(tmp_path, dataclasses.replace(OPEN, instances=2))
    assert not place_machine_configs(tmp_path, 16)


def test_a_repository_that_cannot_be_written_is_served_by_what_is_committed(tmp_path):
    place(tmp_path, OPEN)
    (tmp_path / "m" / "configs").write_text("in the way")
    assert not place_machine_configs(tmp_path, 16)


def test_an_old_configuration_that_cannot_be_replaced_is_not_served(tmp_path, monkeypatch):
    place(tmp_path, OPEN)
    assert place_machine_configs(tmp_path, 16)
    written = tmp_path / "m" / "configs" / "machine.pbtxt"

    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr(type(written), "write_text", refuse)
    assert place_machine_configs(tmp_path, 16)
    assert not place_machine_configs(tmp_path, 8)
