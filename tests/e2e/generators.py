"""Model folders of kind generator, built in seconds: the fake engine, and a tiny random model on the real one."""

import hashlib
import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from stacks import ROOT

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.artifacts.recipe import Recipe
from trireme.generate.tokenizer import LlmTokenizer

sys.path.insert(0, str(ROOT / "tests" / "contract"))

from tiny_llm import write_tiny_llm, write_tiny_loras

TOKENIZER = ROOT / "tests" / "chat_tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
VOCABULARY = 8192
EOS = 2
MAX_MODEL_LEN = 512
# A prompt with this word makes a step of the fake engine fail.
FAILING_WORD = "\u2620"


class Hold:
    """Answers of fake engines with these `knobs` run without end, however fast the machine is."""

    def __init__(self, folder: Path):
        self._file = folder / "hold"
        self.knobs = {"hold_file": str(self._file)}

    @contextmanager
    def at(self, tokens: int):
        """Within it, or until `let_go`, no answer has more tokens. The end of an answer counts as one."""
        new = self._file.with_suffix(".new")
        new.write_text(str(tokens))
        new.replace(self._file)
        try:
            yield
        finally:
            self.let_go()

    def let_go(self):
        """Answers go on."""
        self._file.unlink(missing_ok=True)


def place_generator(
    repository: Path, name: str, knobs: dict | None = None, template: str = "", **recipe
) -> Path:
    """A folder that Triton loads: the fake engine where `knobs` are given, a tiny model otherwise.

    template: instead of its chat template. adapters: of a tiny model those of `write_tiny_loras`.
    """
    version = repository / name / "1"
    version.mkdir(parents=True)
    adapters = [one.partition("=")[0] for one in recipe.get("adapters", ())]
    if knobs is None:
        if adapters:
            write_tiny_loras(version)
        write_tiny_llm(version, VOCABULARY, tuple(adapters))
    else:
        (version / "config.json").write_text(json.dumps({"eos_token_id": EOS}))
        # A manifest must list weights; the fake reads none.
        (version / "model.safetensors").write_bytes(b"")
        (version / "fake.json").write_text(json.dumps(knobs))
    for file in TOKENIZER_FILES:
        shutil.copy(TOKENIZER / file, version / file)
    if template:
        (version / "chat_template.jinja").write_text(template)
    (version / "generation_config.json").write_text(json.dumps({"eos_token_id": EOS}))
    paths = {path.relative_to(version).as_posix(): path for path in version.rglob("*") if path.is_file()}
    files = {file: hashlib.sha256(path.read_bytes()).hexdigest() for file, path in paths.items()}
    manifest = Manifest(
        model=name,
        kind="generator",
        source="random",
        revision="",
        precision="fp32",
        dimensions=VOCABULARY,
        max_length=MAX_MODEL_LEN,
        files=files,
        sizes={file: (version / file).stat().st_size for file in files},
        adapters=dict.fromkeys(adapters, 8),
    )
    write_manifest(version, manifest)
    engine = {} if knobs is None else {"engine": "fake"}
    values = {"source": "random", "max_num_batched_tokens": 256, "kv_cache_gb": 0.05, **engine, **recipe}
    place_config(repository / name, Recipe(name, kind="generator", **values))
    return repository / name


def failing_token() -> int:
    """The last token of FAILING_WORD."""
    return LlmTokenizer.load(TOKENIZER).encode(FAILING_WORD, add_special_tokens=False)[-1]
