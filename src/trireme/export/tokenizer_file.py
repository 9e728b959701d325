"""Writes a checkpoint's tokenizer as tokenizer.json, which the server reads without transformers."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from trireme.checkpoints.families import STATIC
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint
from trireme.export.static import load_words
from trireme.export.token_rules import register_markers

# Without one of them transformers makes an empty tokenizer, which knows no word.
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
# Where a checkpoint names its tokens.
_TOKEN_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
)
_PIECES = "sentencepiece.sentencepiece_model_pb2"


def load_pretrained(checkpoint: Checkpoint) -> Any:
    """The fast tokenizer of the checkpoint. Raises UnsupportedError when it has none."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    if checkpoint.family is STATIC:
        return load_words(checkpoint.transformer_dir)
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
    register_markers(tokenizer, checkpoint.tokens.markers)
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


def find_beyond(checkpoint: Checkpoint, tokenizer: Any, rows: int) -> tuple[str, ...]:
    """Tokens with no row among the `rows` of the embedding table that transformers added of itself, like [MASK].

    They are to be left out. Raises UnsupportedError naming one that the checkpoint's own files hold.
    """
    beyond = sorted(token for token, number in tokenizer.get_vocab().items() if number >= rows)
    files = [checkpoint.transformer_dir / name for name in _TOKEN_FILES]
    texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    lines = {line.rstrip("\n") for text in texts for line in text.splitlines()}
    for token in beyond:
        # As JSON writes it, or as a line of vocab.txt.
        if token in lines or any(
            json.dumps(token, ensure_ascii=ascii) in t for t in texts for ascii in (True, False)
        ):
            number = tokenizer.get_vocab()[token]
            raise UnsupportedError(
                f"{checkpoint.transformer_dir}: token {token!r} has the id {number}, the embedding table has"
                f" {rows} rows; call resize_token_embeddings and save, or take the token out of the tokenizer"
            )
    return tuple(beyond)


def write_tokenizer(checkpoint: Checkpoint, path: Path, without: Collection[str] = ()) -> None:
    """Writes tokenizer.json without padding and truncation, which the server sets, and the tokens `without`."""
    from tokenizers import Tokenizer, normalizers

    document = load_pretrained(checkpoint).backend_tokenizer.to_str()
    if without:
        parsed = json.loads(document)
        parsed["added_tokens"] = [
            token for token in parsed["added_tokens"] if token["content"] not in without
        ]
        document = json.dumps(parsed)
    tokenizer = Tokenizer.from_str(document)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if checkpoint.lowercase:
        # sentence-transformers' do_lower_case: lower-cases before the tokenizer's own normalizer.
        own = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    tokenizer.save(str(path))
