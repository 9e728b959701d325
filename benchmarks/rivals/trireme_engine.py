"""The served encoder without a server: the same files, session and micro-batches in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rivals.common import read_versions


class TriremeEngine:
    """The text encoder of a built model folder, with the settings of its recipe."""

    def __init__(self, model: Path, threads: int) -> None:
        """threads: 0 for those of the recipe."""
        from trireme.artifacts.config_writer import PARAMETERS
        from trireme.artifacts.manifest import TOKENIZER_FILE, read_manifest
        from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
        from trireme.artifacts.repository import version_dir
        from trireme.encode.tokenizer import Tokenizer
        from trireme.triton.backends.config import ModelConfig
        from trireme.triton.backends.text_encoder import load_text_encoder

        recipe = read_recipe(model / RECIPE_FILE)
        values = {**dataclasses.asdict(recipe), **({"threads": threads} if threads else {})}
        folder = version_dir(model.parent, model.name)
        config = ModelConfig(
            name=model.name,
            repository=model.parent,
            version_dir=folder,
            inputs=frozenset({"text"}),
            parameters={key: str(values[key]) for key in PARAMETERS["text_encoder"] if key in values},
            device_id=None,
        )
        self._encoder, _ = load_text_encoder(config, folder, recipe.max_batch_tokens, warms_up=False)
        self._tokenizer = Tokenizer.load(folder / TOKENIZER_FILE, read_manifest(folder).max_length)

    def versions(self) -> dict[str, str]:
        return read_versions("trireme", "onnxruntime", "openvino", "tokenizers", "numpy")

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(row.ids) for row in self._tokenizer.encode_texts(texts)]

    def embed(self, texts: Sequence[str], input_type: str = "passage") -> Any:
        return [row.vector for row in self._encoder.embed(texts, input_type)]
