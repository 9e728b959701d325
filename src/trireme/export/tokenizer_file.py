"""Writes a checkpoint's tokenizer as tokenizer.json, which the server reads without transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint


def load_pretrained(checkpoint: Checkpoint) -> Any:
    """The fast tokenizer of the checkpoint. Raises UnsupportedError when it has none."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    folder = str(checkpoint.transformer_dir)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # conversions from slow formats raise errors of many libraries
        raise UnsupportedError(f"{folder} holds no tokenizer that can be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise UnsupportedError(f"{folder}: tokenizer {type(tokenizer).__name__} has no fast (Rust) form")
    return tokenizer


def write_tokenizer(checkpoint: Checkpoint, path: Path) -> None:
    """Writes tokenizer.json without padding and truncation: the server sets its own."""
    from tokenizers import Tokenizer, normalizers

    tokenizer = Tokenizer.from_str(load_pretrained(checkpoint).backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if checkpoint.lowercase:
        # sentence-transformers' do_lower_case: lower-cases before the tokenizer's own normalizer.
        own = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    tokenizer.save(str(path))
