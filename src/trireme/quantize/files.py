"""What stands beside the weights of a quantized checkpoint: config.json, tokenizer, chat template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Copied from the source byte for byte: quantizing changes no tokenizer.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def finish_checkpoint(source: Path, out: Path, quantization: Mapping[str, Any] | None, dtype: str) -> None:
    """Leaves in `out` the weights, the source's companions, and the source's config with `quantization` added.

    `dtype` is the type of what is not quantized, such as bfloat16. Other files a quantizer wrote are removed.
    """
    for path in sorted(out.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif not _is_kept(source, path):
            path.unlink()
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    if quantization is not None:
        config["quantization_config"] = dict(quantization)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (out / "config.json").write_text(text, encoding="utf-8")


def _is_kept(source: Path, path: Path) -> bool:
    if path.suffix == ".safetensors" or path.name == "model.safetensors.index.json":
        return True
    return path.name == "generation_config.json" and not (source / path.name).is_file()
