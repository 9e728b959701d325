from pathlib import Path

import pytest

from trireme.artifacts.config_writer import PARAMETERS, config_files, write_config
from trireme.artifacts.contracts import Contract, Tensor
from trireme.artifacts.kinds import KINDS, Kind
from trireme.artifacts.manifest import rebuild_command
from trireme.artifacts.recipe import Recipe, parse_recipe
from trireme.errors import SettingError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def sparse(monkeypatch):
    """A made-up kind: all that its row must say."""
    row = Kind(
        "sparse_encoder",
        Contract((Tensor("text", "STRING"),), (Tensor("weights", "FP32", -1),)),
        backend="sparse_encoder",
        builder="export_encoder",
        is_interactive=True,
        warmup_inputs=("text",),
    )
    monkeypatch.setitem(KINDS, row.name, row)
    return row


def test_a_new_kind_is_a_row(sparse, tmp_path):
    text = 'kind = "sparse_encoder"\nsource = "a/b"\nprecision = "int8"\nwarmup = true\nmax_batch_size = 8\n'
    recipe = parse_recipe(text, "mine")
    assert recipe.traits is sparse
    assert recipe.has_weights
    assert set(config_files(recipe)) == {"config.pbtxt", "warmup/text"}
    config = write_config(recipe)
    assert all(f'"{word}"' in config for word in ("sparse_encoder", "weights", "max_batch_tokens"))
    (tmp_path / "recipe.toml").write_text(text)
    assert "export_encoder.py" in rebuild_command(tmp_path)


def test_a_new_kind_has_the_keys_of_its_traits_alone(sparse):
    with pytest.raises(SettingError, match="'sparse_encoder' has no key 'pooling'"):
        Recipe("mine", sparse.name, source="a/b", pooling="mean")
    with pytest.raises(SettingError, match="set source"):
        Recipe("mine", sparse.name)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_is_served_by_a_backend_that_is_there_or_by_triton(kind):
    assert kind.is_ensemble or (ROOT / "python_backends" / kind.backend / "model.py").is_file()
    assert kind.is_ensemble == (kind.name not in PARAMETERS)
    assert not kind.builder or (ROOT / "build" / f"{kind.builder}.py").is_file()
    assert set(kind.warmup_inputs) <= kind.contract.needed
    assert bool(kind.step_counts) == bool(kind.step_names)
