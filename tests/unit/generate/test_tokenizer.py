import pytest
from tokenizers import Tokenizer, decoders, models

from trireme.errors import ArtifactError, UnsupportedError
from trireme.generate.tokenizer import LlmTokenizer


def test_every_byte_has_a_token_of_its_own_bytes(byte_level):
    for byte in range(256):
        ids = byte_level.encode(chr(byte), add_special_tokens=False)
        assert b"".join(map(byte_level.token_bytes, ids)) == chr(byte).encode()


def test_control_tokens_are_known(byte_level):
    assert "<|end|>" in byte_level.control_tokens
    assert byte_level.token_id("<|end|>") in byte_level.control_ids
    assert byte_level.token_bytes(byte_level.token_id("<|end|>")) == b""


def test_a_decoder_that_is_not_known_is_refused_by_name():
    rust = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    rust.decoder = decoders.WordPiece()
    with pytest.raises(UnsupportedError, match="WordPiece"):
        LlmTokenizer(rust)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer.json"):
        LlmTokenizer.load(tmp_path)
