"""docs/contracts.md and the tables that the models are served by."""

import re
from pathlib import Path

import pytest

from trireme.artifacts.contracts import Contract, Tensor
from trireme.artifacts.kinds import KINDS
from trireme.artifacts.recipe import read_recipe

ROOT = Path(__file__).parents[3]
# "a classifier's folder" has no model of that name here.
ROW = re.compile(r"^\| (`[^|]+`|a [^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = [
    (model.strip("`"), inputs, outputs)
    for models, inputs, outputs in ROW.findall((ROOT / "docs" / "contracts.md").read_text(encoding="utf-8"))
    for model in models.split(", ")
]


def contract_of(model):
    path = ROOT / "model_repository" / model / "recipe.toml"
    kind = read_recipe(path).kind if path.is_file() else re.findall(r"a (\w+)'s folder", model)[0]
    return KINDS[kind].contract


def read_tensors(cell):
    """(name, data type, sizes) of each tensor in a cell; what stands in brackets says what it means."""
    found, names = set(), []
    for name, data_type, size in re.findall(
        r"`(\w+)`|([A-Z]+\d*) \[(-?\d+(?:, -?\d+)*)\]", re.sub(r"\([^)]*\)", "", cell)
    ):
        if name:
            names.append(name)
        else:
            found |= {(one, data_type, tuple(map(int, size.split(", ")))) for one in names}
            names = []
    return found


def as_documented(tensors):
    return {(tensor.name, tensor.data_type, tensor.sizes) for tensor in tensors}


@pytest.mark.parametrize(("model", "inputs", "outputs"), ROWS, ids=[row[0] for row in ROWS])
def test_the_page_of_contracts_says_what_is_served(model, inputs, outputs):
    contract = contract_of(model)
    assert read_tensors(inputs) == as_documented(contract.inputs)
    assert read_tensors(outputs) == as_documented(contract.outputs)
    needed, _, optional = inputs.partition("optional ")
    assert {name for name, _, _ in read_tensors(optional)} <= contract.optional
    # Of alternatives a request may leave out either.
    if " or " not in re.sub(r"\([^)]*\)", "", inputs):
        assert {name for name, _, _ in read_tensors(needed)} == contract.needed


def test_the_page_has_a_row_for_every_kind():
    assert {id(contract_of(model)) for model, _, _ in ROWS} == {id(kind.contract) for kind in KINDS.values()}


def test_inputs_are_told_apart_by_what_a_request_must_say():
    contract = Contract(
        (Tensor("a", "STRING"), Tensor("b", "FP32", -1, is_optional=True)), (Tensor("c", "FP32", -1),)
    )
    assert (contract.needed, contract.optional, contract.open_inputs) == ({"a"}, {"b"}, {"b"})
