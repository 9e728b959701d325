"""Writes a checkpoint's tokenizer as tokenizer.json, which the server reads without transformers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint

# Without one of them transformers makes an empty tokenizer, which knows no word.
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_PIECES = "sentencepiece.sentencepiece_model_pb2"


def load_pretrained(checkpoint: Checkpoint) -> Any:
    """The fast tokenizer of the checkpoint. Raises UnsupportedError when it has none."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    folder = str(checkpoint.transformer_dir)
    if not any(any(checkpoint.transformer_dir.glob(name)) for name in _VOCABULARIES):
        raise UnsupportedError(f"{folder} holds no tokenizer: none of {', '.join(_VOCABULARIES)}")
    try:
        with readable_pieces():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # conversions from slow formats raise errors of many libraries
        raise UnsupportedError(f"{folder} holds no tokenizer that can be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise UnsupportedError(f"{folder}: tokenizer {type(tokenizer).__name__} has no fast (Rust) form")
    if tokenizer.truncation_side != "right":
        raise UnsupportedError(
            f"{folder}: truncation_side {tokenizer.truncation_side!r} of the tokenizer is not supported; long"
            " texts are cut on the right"
        )
    return tokenizer


@contextmanager
def readable_pieces() -> Iterator[None]:
    """Inside, transformers can read a SentencePiece .model.

    sentencepiece's own description of that format wants a newer protobuf than Triton's client allows;
    transformers carries one that does with this, and uses it only where sentencepiece is not installed.
    """
    try:
        importlib.import_module(_PIECES)
    except Exception:  # protobuf raises its own kind for a version
        sys.modules[_PIECES] = importlib.import_module("transformers.utils.sentencepiece_model_pb2_new")
    try:
        yield
    finally:
        if sys.modules.get(_PIECES) is sys.modules.get("transformers.utils.sentencepiece_model_pb2_new"):
            sys.modules.pop(_PIECES, None)


def feed_segments(checkpoint: Checkpoint, tokenizer: Any) -> Checkpoint:
    """`checkpoint` as `tokenizer` feeds it: without token_type_ids where it gives the model none."""
    feeds = "token_type_ids" in tokenizer.model_input_names
    return replace(checkpoint, has_segments=checkpoint.has_segments and feeds)


def check_ids(checkpoint: Checkpoint, tokenizer: Any, rows: int) -> None:
    """Raises UnsupportedError naming a token whose id is beyond the `rows` of the embedding table."""
    token, number = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if number >= rows:
        raise UnsupportedError(
            f"{checkpoint.transformer_dir}: token {token!r} has the id {number}, the embedding table has {rows}"
            " rows; call resize_token_embeddings and save, or take the token out of the tokenizer"
        )


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
