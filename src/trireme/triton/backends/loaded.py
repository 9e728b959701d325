"""What a model has loaded, as one name: caches of answers compare it."""

from __future__ import annotations

import hashlib
import secrets
from importlib.metadata import version

from trireme.artifacts.manifest import MANIFEST_FILE
from trireme.artifacts.recipe import RECIPE_FILE
from trireme.rag.prompt import PROMPT_FILE
from trireme.rag.relevance import RELEVANCE_FILE
from trireme.triton.backends.config import ModelConfig


def name_load(args: dict[str, str], config: ModelConfig) -> str:
    """SHA-256 of configuration, manifest, prompt, weights of relevance and this package's version, in hex.

    Files that a kind does not have are left out.
    """
    digest = hashlib.sha256()
    folder = config.version_dir.parent
    for path in (config.version_dir / MANIFEST_FILE, folder / PROMPT_FILE, folder / RELEVANCE_FILE):
        said = path.read_bytes() if path.is_file() else b""
        digest.update(len(said).to_bytes(8) + said)
    digest.update(args["model_config"].encode() + version("trireme").encode())
    return digest.hexdigest()


def name_version(config: ModelConfig) -> str:
    """SHA-256 of manifest.json in hex: the same for equal files, however they are served and loaded.

    Of a model without one, such as rag, that of its recipe and its prompt. "" where it has none of these.
    """
    model_dir = config.version_dir.parent
    for names in ((config.version_dir / MANIFEST_FILE,), (model_dir / RECIPE_FILE, model_dir / PROMPT_FILE)):
        said = b"".join(path.read_bytes() for path in names if path.is_file())
        if said:
            return hashlib.sha256(said).hexdigest()
    return ""


def name_this(digest: str) -> str:
    """The name of this load: an answer made while one model took another's place is never the next load's.

    "" where it is not sure what was loaded.
    """
    return f"{digest[:16]}-{secrets.token_hex(8)}" if digest else ""
