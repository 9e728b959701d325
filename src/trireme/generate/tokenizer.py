"""The LLM's tokenizer.json: text to token ids, and each token's bytes. No transformers."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from trireme.errors import ArtifactError, UnsupportedError

TOKENIZER_FILE = "tokenizer.json"
# Control tokens that a checkpoint forgot to mark as special.
_LOOKS_LIKE_CONTROL = re.compile(r"<[|\uff5c].*[|\uff5c]>")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "\u2581"


class LlmTokenizer:
    """Encodes prompts and gives the bytes of single tokens. Thread-safe."""

    def __init__(self, rust_tokenizer: Tokenizer) -> None:
        """Raises UnsupportedError for a decoder other than byte-level, byte fallback and Metaspace."""
        rust_tokenizer.no_padding()
        rust_tokenizer.no_truncation()
        self._tokenizer = rust_tokenizer
        added = rust_tokenizer.get_added_tokens_decoder()
        special = {id_: token for id_, token in added.items() if token.special}
        self.special_ids = frozenset(special)
        self.added_tokens = frozenset(token.content for token in added.values())
        control = {
            id_: token.content
            for id_, token in added.items()
            if token.special or _LOOKS_LIKE_CONTROL.fullmatch(token.content)
        }
        self.control_ids = frozenset(control)
        self.control_tokens = tuple(sorted({text for text in control.values() if text}))
        # The largest id and one; ids may have holes.
        self.vocabulary_size = max(rust_tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._to_bytes = _read_decoder(rust_tokenizer)
        # Above 200,000 tokens the cache would be larger than the tokenizer.
        self.token_bytes = lru_cache(maxsize=200_000)(self._token_bytes)

    @staticmethod
    def load(model_dir: Path) -> LlmTokenizer:
        """From tokenizer.json of a model folder. Raises ArtifactError naming the file."""
        path = model_dir / TOKENIZER_FILE
        try:
            return LlmTokenizer(Tokenizer.from_file(str(path)))
        except UnsupportedError:
            raise
        except Exception as error:  # the Rust library raises bare Exception
            raise ArtifactError(f"{path} cannot be read as a tokenizer: {error}") from None

    def encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        """Token ids of `text`; control tokens written in it become control tokens."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: tuple[int, ...]) -> str:
        """All at once, special tokens left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def token_id(self, text: str) -> int | None:
        """The id of one token, or None."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def token_name(self, token_id: int) -> str:
        """As the vocabulary writes it; empty outside of it."""
        return str(self._tokenizer.id_to_token(token_id) or "")

    def _token_bytes(self, token_id: int) -> bytes:
        """What the token adds to the text, in UTF-8; nothing for special tokens and ids outside the vocabulary."""
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self.special_ids:
            return b""
        found: bytes = self._to_bytes(token)
        return found


def _read_decoder(tokenizer: Tokenizer) -> Any:
    decoder = json.loads(tokenizer.to_str()).get("decoder") or {"type": "none"}
    kinds = [part["type"] for part in decoder.get("decoders", [decoder])]
    if kinds == ["ByteLevel"]:
        return _byte_level_bytes
    if set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
        return _sentencepiece_bytes
    raise UnsupportedError(
        f"the tokenizer's decoder {'+'.join(kinds)} is not handled; ByteLevel, ByteFallback and Metaspace are"
    )


def _byte_level_bytes(token: str) -> bytes:
    """GPT-2's mapping of bytes to printable characters, backwards; other text stands for itself."""
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return token.encode()


def _sentencepiece_bytes(token: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace(_SPACE_MARK, " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's table: printable bytes stand for themselves, the others for characters from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
