"""A model folder whose LLM is the fake engine: so many answers at once, a token of each with every step."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from benchmarks.common.report import PROJECT
from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.artifacts.recipe import Recipe

_TOKENIZER = PROJECT / "tests" / "chat_tokenizer"
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_VOCABULARY, _EOS, _LENGTH = 8192, 2, 512


def place_fake_llm(repository: Path, name: str, *, step_seconds: float, seats: int) -> None:
    """A folder that Triton loads. step_seconds: of a token of all that run; seats: answers that run at once."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    for file in _FILES:
        shutil.copy(_TOKENIZER / file, version / file)
    (version / "config.json").write_text(json.dumps({"eos_token_id": _EOS}))
    (version / "generation_config.json").write_text(json.dumps({"eos_token_id": _EOS}))
    # A manifest must list weights; the fake reads none.
    (version / "model.safetensors").write_bytes(b"")
    (version / "fake.json").write_text(json.dumps({"step_seconds": step_seconds}))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in version.iterdir()}
    manifest = Manifest(
        model=name,
        kind="generator",
        source="random",
        revision="",
        precision="fp32",
        dimensions=_VOCABULARY,
        max_length=_LENGTH,
        files=files,
        sizes={file: (version / file).stat().st_size for file in files},
    )
    write_manifest(version, manifest)
    recipe = Recipe(
        name,
        kind="generator",
        source="random",
        engine="fake",
        max_num_seqs=seats,
        max_num_batched_tokens=_LENGTH,
        kv_cache_gb=0.05,
    )
    place_config(repository / name, recipe)
