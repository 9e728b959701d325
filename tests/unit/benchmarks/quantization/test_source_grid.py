import json

import numpy as np
import pytest

from benchmarks.quantization.source_grid import (
    NF4,
    WAYS,
    count_values,
    find_error,
    main,
    make_random,
    round_asymmetric,
    round_symmetric,
)

RANDOM = np.random.default_rng(5)


@pytest.fixture
def gridded():
    """Weights as Q4_1 holds them: a minimum in float, and 0 to 15 times a scale, in groups of 32."""
    levels = RANDOM.integers(0, 16, (64, 32)).astype(np.float32)
    levels[:, 0], levels[:, 1] = 0, 15
    scale = RANDOM.uniform(0.01, 0.02, (64, 1)).astype(np.float32)
    least = -scale * RANDOM.uniform(5, 10, (64, 1)).astype(np.float32)
    return [levels * scale + least]


def test_the_grids_own_form_loses_nothing(gridded):
    assert find_error(gridded, "minimum kept in float, g32")["error"] < 1e-4
    assert count_values(gridded, 32) <= 16


def test_an_integer_zero_point_shifts_whole_groups_of_a_grid(gridded):
    normal = make_random(gridded)
    found, drawn = (find_error(one, "asymmetric, g32") for one in (gridded, normal))
    assert found["error"] > 0.02, "the grid is not kept"
    assert found["common"] > 0.9 and drawn["common"] < 0.4


def test_a_grid_that_holds_zero_is_kept():
    weights = np.arange(-7, 9, dtype=np.float32)[None]
    assert np.allclose(round_asymmetric(weights), weights, atol=1e-5)


def test_every_way_is_exact_on_its_own_values():
    assert find_error([np.tile(NF4, 4)[None]], "NF4, blocks of 64")["error"] == 0
    # The scale is two fifteenths of the largest, so 7.5 of them is not among the values and 7 of them is.
    exact = np.full((1, 128), -7.5, np.float32)
    exact[0, 1:] = RANDOM.integers(-7, 8, 127)
    rounded = round_symmetric(exact)
    assert np.allclose(rounded[0, 1:], exact[0, 1:]) and rounded[0, 0] == -8


def test_smaller_groups_lose_less_and_groups_that_do_not_fit_are_left_out():
    normal = [RANDOM.standard_normal((40, 128)).astype(np.float32)]
    errors = [find_error(normal, f"asymmetric, g{group}")["error"] for group in (32, 64, 128)]
    assert errors == sorted(errors) and errors[0] < errors[2]
    narrow = [RANDOM.standard_normal((8, 192)).astype(np.float32)]
    assert (
        find_error(narrow, "asymmetric, g128") is None and find_error(narrow, "asymmetric, g64") is not None
    )


def test_the_script_prints_an_object_for_a_checkpoint(tmp_path, capsys):
    import torch
    from safetensors.torch import save_file

    weights = torch.randn(32, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    save_file({"model.layers.0.mlp.up_proj.weight": weights}, tmp_path / "model.safetensors")
    assert main([str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["errors"]) == set(WAYS) and found["errors"]["asymmetric, g128"]["checkpoint"] is None
    assert main([str(tmp_path), "--layers", "7"]) == 1
    assert "has no projections in layers 7" in capsys.readouterr().err
