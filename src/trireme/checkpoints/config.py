"""The JSON files of a checkpoint folder, each error naming file and key; code and pickles are refused. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trireme.errors import UnsupportedError

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
CONFIG_FILE = "config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
GENERATION_FILE = "generation_config.json"
WEIGHTS_FILE = "model.safetensors"


def read_config(
    folder: Path, needs_own_code: Callable[[dict[str, Any]], str] | None = None
) -> dict[str, Any]:
    """config.json of a checkpoint. Raises UnsupportedError when it is missing, broken, or asks for own code.

    needs_own_code: of a config.json that names code, what to do instead; "" where transformers has a class of its
    own for the model, which is then taken. Without it every such file is refused.
    """
    config = read_json(folder / CONFIG_FILE)
    for name in (CONFIG_FILE, TOKENIZER_CONFIG_FILE):
        if "auto_map" not in read_optional(folder / name):
            continue
        advice = needs_own_code(config) if needs_own_code and name == CONFIG_FILE else "take it out"
        if advice:
            raise UnsupportedError(
                f"{folder / name} asks for code of its own (auto_map), which is never run; {advice}"
            )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object at `path`. Raises UnsupportedError for a file that is missing or something else."""
    document = _load(path)
    if not isinstance(document, dict):
        raise UnsupportedError(f"{path} holds no JSON object")
    return document


def read_optional(path: Path) -> dict[str, Any]:
    """As read_json; {} where there is no such file."""
    return read_json(path) if path.is_file() else {}


def read_list(path: Path) -> list[dict[str, Any]]:
    """The JSON list of objects at `path`, as modules.json is one. Raises UnsupportedError."""
    document = _load(path)
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document) or not document:
        raise UnsupportedError(f"{path} holds no list of JSON objects")
    return document


def refuse(path: Path, key: str, value: Any, reason: str) -> UnsupportedError:
    """The error for a key of `path` that is not read: it names file, key, value and what to do."""
    shown = json.dumps(value, ensure_ascii=False)
    return UnsupportedError(f"{path}: {key} = {shown if len(shown) < 100 else shown[:96] + ' ...'}: {reason}")


def check_weights(folder: Path) -> None:
    """Raises UnsupportedError unless `folder` holds safetensors; a pickle in their place is named."""
    if not any(folder.glob("*.safetensors")):
        find_variant(folder)


def find_variant(folder: Path) -> str:
    """ "" where `folder` holds model.safetensors (whole or in shards), VARIANT for model.VARIANT.safetensors.

    Raises UnsupportedError where it holds neither, or several variants and no plain file.
    """
    if (folder / WEIGHTS_FILE).is_file() or (folder / f"{WEIGHTS_FILE}.index.json").is_file():
        return ""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found = [
        re.fullmatch(r"model\.(?:safetensors\.index\.(\w+)\.json|(\w+)\.safetensors)", name) for name in names
    ]
    variants = sorted({match[1] or match[2] for match in found if match})
    if len(variants) > 1:
        raise UnsupportedError(
            f"{folder} holds the weights as {' and '.join(variants)}; keep one of them as {WEIGHTS_FILE}"
        )
    if not variants:
        raise _no_weights(folder, names)
    return variants[0]


def _no_weights(folder: Path, names: list[str]) -> UnsupportedError:
    pickles = [name for name in names if Path(name).suffix in PICKLES]
    others = [name for name in names if name.endswith(".safetensors")]
    if others:
        return UnsupportedError(
            f"{folder} holds {others[0]} and no {WEIGHTS_FILE}; the model's own weights have that name"
        )
    if pickles:
        return UnsupportedError(
            f"{folder / pickles[0]} is a pickle, which can run code when loaded; convert it to safetensors"
        )
    return UnsupportedError(f"{folder} holds no {WEIGHTS_FILE}")


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedError(f"{path} is missing; name a folder with a Hugging Face checkpoint") from None
    except ValueError as error:
        raise UnsupportedError(f"{path} is not valid JSON: {error}") from None
