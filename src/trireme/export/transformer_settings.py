"""Reads the settings of a Transformer module of sentence-transformers: its length; what is not read is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.checkpoints.config import refuse

# Of Transformer's settings by what the model does: its task, its output and where the library finds that.
_TASKS = {
    "text_encoder": ("feature-extraction", "token_embeddings", "last_hidden_state"),
    "cross_encoder": ("sequence-classification", "scores", "logits"),
    "yes or no": ("text-generation", "causal_logits", "logits"),
    "sparse encoder": ("fill-mask", "token_embeddings", "logits"),
}
# Keys of Transformer's settings that change nothing of the numbers: weights are read in float32.
_HARMLESS = {
    "dtype",
    "torch_dtype",
    "attn_implementation",
    "trust_remote_code",
    "use_safetensors",
    "use_cache",
}
_ARGUMENTS = {
    "model_args": "model",
    "model_kwargs": "model",
    "tokenizer_args": "tokenizer",
    "processor_kwargs": "tokenizer",
    "config_args": "config",
    "config_kwargs": "config",
}


def read_settings(path: Path, settings: dict[str, Any], kind: str) -> int | None:
    """The length that Transformer's settings state; every other key is either known to be harmless or refused."""
    length = read_count(path, settings, "max_seq_length")
    for key, value in settings.items():
        if key in _ARGUMENTS:
            own = _read_arguments(path, key, value or {})
            length = own if own is not None else length
        elif key not in ("max_seq_length", "do_lower_case", "unpad_inputs") and value:
            _check_setting(path, key, value, kind)
    for key in ("query_length", "document_length"):
        stated = read_count(path, settings, key)
        if stated is not None and stated != length:
            raise refuse(path, key, stated, "queries and passages have one length; set max_seq_length")
    return length


def _check_setting(path: Path, key: str, value: Any, kind: str) -> None:
    if key in ("query_length", "document_length"):
        return
    if key == "modality_config":
        _check_modalities(path, key, value, kind)
        return
    task, output, _ = _TASKS[kind]
    wanted = {"transformer_task": task, "module_output_name": output}
    if key not in wanted:
        raise refuse(path, key, value, "this key is not supported; remove it if the model does without")
    if value != wanted[key]:
        raise refuse(path, key, value, f"a {kind} has {wanted[key]!r} there")


def _check_modalities(path: Path, key: str, value: Any, kind: str) -> None:
    """Texts are read, and, by a chat template, messages: `flat` ones, whose content is a text."""
    read = {"method": "forward", "method_output_name": _TASKS[kind][2]}
    known = {"text": (read,), "message": (read, {**read, "format": "flat"})}
    own = value if isinstance(value, dict) else {}
    names = ("text",) if kind == "text_encoder" else ("text", "message")
    if "text" not in own or any(name not in names or own[name] not in known[name] for name in own):
        raise refuse(path, key, value, f"a {kind} has {dict.fromkeys(names, read)!r} there")


def _read_arguments(path: Path, key: str, arguments: dict[str, Any]) -> int | None:
    """The length among the arguments that `key` passes on to transformers."""
    length = None
    for name, value in arguments.items():
        if _ARGUMENTS[key] == "tokenizer" and name == "model_max_length":
            length = read_count(path, arguments, name)
        elif name not in _HARMLESS and value is not None:
            raise refuse(
                path, f"{key}.{name}", value, "this argument is not supported; put it into config.json"
            )
    return length


def read_count(path: Path, config: dict[str, Any], key: str) -> int | None:
    """The whole number above 0 at `key`; None where there is none. Raises UnsupportedError for anything else."""
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
        raise refuse(path, key, value, "this must be a whole number above 0")
    return int(value)
