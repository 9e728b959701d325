"""Reads a classifier's head from config.json: its labels, and what makes probabilities of its logits. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.checkpoints.config import refuse
from trireme.errors import UnsupportedError

ACTIVATIONS = ("softmax", "sigmoid", "identity")
_BY_PROBLEM = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "identity",
}


def read_labels(config: dict[str, Any]) -> tuple[str, ...]:
    """The labels in the order of the logits. transformers writes none for two labels of default names."""
    names = config.get("id2label")
    if not names:
        count = config.get("num_labels") or config.get("_num_labels") or 2
        return tuple(f"LABEL_{number}" for number in range(int(count)))
    try:
        numbers = sorted((int(key), str(label)) for key, label in names.items())
    except (ValueError, AttributeError):
        raise UnsupportedError(f"id2label {names!r} of config.json does not map numbers to labels") from None
    if [number for number, _ in numbers] != list(range(len(numbers))):
        raise UnsupportedError(f"id2label {names!r} of config.json must number its labels from 0 on")
    return tuple(label for _, label in numbers)


def read_activation(path: Path, config: dict[str, Any], sentence_config: dict[str, Any]) -> str:
    """One of ACTIVATIONS: what CrossEncoder wrote, else what transformers' pipeline takes.

    Raises UnsupportedError for another function, naming its key.
    """
    stated = stated_activation(config, sentence_config)
    if stated is not None:
        key, value = stated
        name = value.rpartition(".")[2].lower()
        if name not in ACTIVATIONS or not value.startswith("torch."):
            raise refuse(path, key, value, f"supported: {', '.join(ACTIVATIONS)} of torch.nn")
        return name
    problem = config.get("problem_type")
    if problem is None:
        return "softmax" if len(read_labels(config)) > 1 else "sigmoid"
    if problem not in _BY_PROBLEM:
        raise refuse(path, "problem_type", problem, f"supported: {', '.join(_BY_PROBLEM)}")
    return _BY_PROBLEM[problem]


def stated_activation(config: dict[str, Any], sentence_config: dict[str, Any]) -> tuple[str, str] | None:
    """Key and value of what CrossEncoder says of its activation; None where it says nothing.

    Since 5.4 it writes config_sentence_transformers.json, since 4.0 config.json, before that an older key.
    """
    own = config.get("sentence_transformers")
    candidates = (
        ("activation_fn", sentence_config.get("activation_fn")),
        ("sentence_transformers.activation_fn", own.get("activation_fn") if isinstance(own, dict) else None),
        ("sbert_ce_default_activation_function", config.get("sbert_ce_default_activation_function")),
    )
    return next(((key, str(value)) for key, value in candidates if value), None)
