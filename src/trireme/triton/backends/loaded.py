"""What a model has loaded, as one name: caches of answers compare it."""

from __future__ import annotations

import hashlib
import secrets
from importlib.metadata import version
from pathlib import Path

from trireme.artifacts.manifest import MANIFEST_FILE, read_manifest
from trireme.artifacts.recipe import RECIPE_FILE
from trireme.errors import ArtifactError
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


def name_version(version_dir: Path) -> str:
    """SHA-256 in hex of what decides a model's answers: the same for equal files, whenever they were built, and
    however they are served and loaded.

    Of a built model its manifest's `version`; of one without a manifest, such as rag, that of recipe, prompt and
    weights of relevance. "" where there is none of these, or the manifest cannot be read.
    """
    if (version_dir / MANIFEST_FILE).is_file():
        try:
            return read_manifest(version_dir).version
        except ArtifactError:
            return ""
    paths = [version_dir.parent / name for name in (RECIPE_FILE, PROMPT_FILE, RELEVANCE_FILE)]
    said = [path.read_bytes() if path.is_file() else b"" for path in paths]
    # Each behind its length: two of them never read as one.
    whole = b"".join(len(one).to_bytes(8) + one for one in said)
    return hashlib.sha256(whole).hexdigest() if any(said) else ""


def name_this(digest: str) -> str:
    """The name of this load: an answer made while one model took another's place is never the next load's.

    "" where it is not sure what was loaded.
    """
    return f"{digest[:16]}-{secrets.token_hex(8)}" if digest else ""
