"""Tokenizers of both families, small enough to make in a test."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from trireme.generate.tokenizer import LlmTokenizer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def byte_level():
    """The default LLM's own: byte-level BPE of 8192 tokens."""
    return LlmTokenizer.load(ROOT / "tests" / "chat_tokenizer")


@pytest.fixture(scope="session")
def sentencepiece():
    """As Llama 2's: pieces with U+2581 for a space, bytes for what has no piece."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["<unk>", "<s>", "</s>", *bytes_, "\u2581", *letters, "\u2581a", "th", "the", "\u2581the"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("\u2581", "a"), ("t", "h"), ("th", "e"), ("\u2581", "the")]
    made = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    return LlmTokenizer(made)
