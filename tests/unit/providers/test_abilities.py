import pytest

from trireme.artifacts.kinds import KINDS
from trireme.providers.abilities import ability_of, say_what_it_does


def inputs_of(kind):
    contract = KINDS[kind].contract
    return contract.needed | contract.optional


@pytest.mark.parametrize(
    ("kind", "ability"),
    [
        ("text_encoder", "embed"),
        ("cross_encoder", "rerank"),
        ("classifier", "classify"),
        ("generator", "chat"),
        ("rag", "answer"),
        ("search", "search"),
        ("retriever", None),
        ("sort", None),
        ("ingester", None),
    ],
)
def test_a_model_of_each_kind_does_what_its_backend_and_its_inputs_say(kind, ability):
    backend = KINDS[kind].backend or kind
    assert ability_of("mine", backend, inputs_of(kind)) == ability
    assert ability_of("mine__step", backend, inputs_of(kind)) is None


def test_what_is_not_ours_is_not_offered():
    assert ability_of("mine", "onnxruntime", ["text"]) is None
    assert ability_of("mine", "search", ["query", "picture"]) is None
    assert ability_of("mine", "search", ["top_k"]) is None


def test_every_ability_has_its_words():
    assert say_what_it_does("embedding", "embed") == "model 'embedding' embeds texts"
