"""What a checkpoint's own JSON files say that the server must know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trireme.errors import ArtifactError

GENERATION_FILE = "generation_config.json"
CONFIG_FILE = "config.json"


def read_eos_token_ids(model_dir: Path) -> tuple[int, ...]:
    """The tokens that end an answer: of generation_config.json, else config.json. Raises ArtifactError."""
    for name in (GENERATION_FILE, CONFIG_FILE):
        eos = read_json(model_dir / name).get("eos_token_id")
        if eos is not None:
            return tuple(eos) if isinstance(eos, list) else (int(eos),)
    raise ArtifactError(f"{model_dir} has no eos_token_id in {GENERATION_FILE} or {CONFIG_FILE}")


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
