"""What a served model can do for clients, told from its backend and its inputs."""

from __future__ import annotations

from collections.abc import Iterable

from trireme.artifacts.kinds import KINDS
from trireme.providers.models import Ability
from trireme.triton.calls import ENSEMBLE_KIND

# Of names of models that are steps of others.
PRIVATE_MARK = "__"
_BY_BACKEND: dict[str, Ability] = {"generator": "chat", "rag": "answer", "text_encoder": "embed"}
_WORDS: dict[Ability, str] = {
    "chat": "chats",
    "answer": "answers questions from passages",
    "embed": "embeds texts",
    "rerank": "reranks passages",
    "classify": "classifies texts",
    "search": "searches passages",
}


def ability_of(name: str, kind: str, inputs: Iterable[str]) -> Ability | None:
    """What clients may ask of a model, or None: a step of another, or none of ours.

    kind: its backend, or that of an ensemble, as `trireme.triton.calls.ModelFacts` says it.
    """
    taken = frozenset(inputs)
    if PRIVATE_MARK in name:
        return None
    if kind == KINDS["cross_encoder"].backend:
        return "classify" if KINDS["classifier"].contract.needed <= taken else "rerank"
    if kind == ENSEMBLE_KIND:
        contract = KINDS[ENSEMBLE_KIND].contract
        is_search = contract.needed <= taken <= contract.needed | contract.optional
        return "search" if is_search else None
    return _BY_BACKEND.get(kind)


def say_what_it_does(model: str, ability: Ability) -> str:
    """For the error of a request that a model is not for."""
    return f"model {model[:80]!r} {_WORDS[ability]}"
