"""What a checkpoint's own JSON files say that the server must know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trireme.errors import ArtifactError

GENERATION_FILE = "generation_config.json"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
# Of each adapter a folder of its name.
ADAPTERS_FOLDER = "adapters"


def read_eos_token_ids(model_dir: Path) -> tuple[int, ...]:
    """The tokens that end an answer, sorted: all that the checkpoint's files name. Raises ArtifactError.

    A chat checkpoint often names the end of a turn in one file and the end of a text in another: both count.
    Ids without a row in the model's vocabulary are left out.
    """
    config = read_json(model_dir / CONFIG_FILE)
    found: set[int] = set()
    for name, content in ((CONFIG_FILE, config), (GENERATION_FILE, read_json(model_dir / GENERATION_FILE))):
        for holder in (content, content.get("text_config")):
            found.update(_read_ids(model_dir / name, holder) if isinstance(holder, dict) else ())
    found.update(_read_named(model_dir))
    text_config = config.get("text_config")
    size = config.get("vocab_size") or (
        text_config.get("vocab_size") if isinstance(text_config, dict) else None
    )
    known = sorted(found if not isinstance(size, int) else (one for one in found if one < size))
    if known:
        return tuple(known)
    raise ArtifactError(
        f"{model_dir} names no token that ends an answer: neither eos_token_id in {GENERATION_FILE} or"
        f" {CONFIG_FILE}, nor eos_token in {TOKENIZER_CONFIG_FILE}"
    )


def read_tokenizer_config(model_dir: Path) -> dict[str, Any]:
    """tokenizer_config.json, with special_tokens_map.json over it where transformers reads that, too."""
    config = read_json(model_dir / TOKENIZER_CONFIG_FILE)
    if "added_tokens_decoder" not in config:
        config = {**config, **read_json(model_dir / SPECIAL_TOKENS_FILE)}
    return config


def read_special_tokens(model_dir: Path) -> dict[str, Any]:
    """Special tokens by name, such as bos_token, as transformers gives them to a chat template.

    Those that are null are not there. additional_special_tokens is a list of texts.
    """
    config = read_tokenizer_config(model_dir)
    holders = [{key: value for key, value in config.items() if key.endswith("_token")}]
    extra = config.get("extra_special_tokens")
    holders += [one for one in (extra, config.get("model_specific_special_tokens")) if isinstance(one, dict)]
    named = {key: token_text(value) for holder in holders for key, value in holder.items()}
    found: dict[str, Any] = {key: text for key, text in named.items() if text is not None}
    listed = config.get("additional_special_tokens")
    if isinstance(listed, list):
        found["additional_special_tokens"] = [text for one in listed if (text := token_text(one)) is not None]
    return found


def token_text(value: Any) -> str | None:
    """A token as tokenizer_config.json writes it: a string, or an object with its content; else None."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _read_ids(path: Path, content: dict[str, Any]) -> list[int]:
    given = content.get("eos_token_id")
    ids = given if isinstance(given, list) else [given]
    if any(one is not None and (type(one) is not int or one < 0) for one in ids):
        raise ArtifactError(
            f"{path}: eos_token_id must be a token id or a list of them, got {str(given)[:80]}"
        )
    return [one for one in ids if one is not None]


def _read_named(model_dir: Path) -> list[int]:
    """The id of the tokenizer's eos_token; empty where it names none, or one that it does not have."""
    name = token_text(read_tokenizer_config(model_dir).get("eos_token"))
    if not name:
        return []
    tokenizer = read_json(model_dir / TOKENIZER_FILE)
    added = [token for token in tokenizer.get("added_tokens") or [] if isinstance(token, dict)]
    ids = [token.get("id") for token in added if token.get("content") == name]
    vocabulary = (tokenizer.get("model") or {}).get("vocab")
    if not ids and isinstance(vocabulary, dict):
        ids = [vocabulary.get(name)]
    return [one for one in ids if type(one) is int]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, empty where there is no file. Raises ArtifactError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} must hold a JSON object")
    return content
