"""Rust tokenizers, with the number of tokens that the length limit cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.errors import ArtifactError

if TYPE_CHECKING:
    from tokenizers import Encoding


@dataclass(frozen=True, slots=True)
class Row:
    """One row for a model: token and segment ids, special tokens included, and the tokens cut off."""

    ids: list[int]
    type_ids: list[int]
    truncated_tokens: int


class Tokenizer:
    """A tokenizer.json cut to `max_length` tokens, special tokens included. Thread-safe; never pads."""

    def __init__(self, rust_tokenizer: Any, max_length: int) -> None:
        rust_tokenizer.no_padding()
        rust_tokenizer.no_truncation()
        self._tokenizer = rust_tokenizer
        self._single_room = max_length - rust_tokenizer.num_special_tokens_to_add(is_pair=False)
        self._pair_room = max_length - rust_tokenizer.num_special_tokens_to_add(is_pair=True)
        self.max_length = max_length

    @classmethod
    def load(cls, path: Path, max_length: int) -> Tokenizer:
        """Read a tokenizer.json. Raises ArtifactError where the file cannot be read."""
        from tokenizers import Tokenizer as RustTokenizer

        try:
            return cls(RustTokenizer.from_file(str(path)), max_length)
        except Exception as error:  # the Rust side raises plain Exception
            raise ArtifactError(
                f"cannot read the tokenizer {path.name}: {error}; build the model again"
            ) from error

    def encode_texts(self, texts: Sequence[str]) -> list[Row]:
        """Rows of single texts, in order."""
        return [self._finish_single(e) for e in self._encode(texts)]

    def encode_pairs(self, query: str, passages: Sequence[str]) -> list[Row]:
        """Rows of (query, passage), in order.

        Where both do not fit, the passage is cut first, but the query gives way down to half of the room,
        so that a long query leaves the passage something to be read by.
        """
        encoded_query, *encoded_passages = self._encode([query, *passages])
        return [self._finish_pair(encoded_query, passage) for passage in encoded_passages]

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without special tokens and without a limit."""
        return len(self._encode([text])[0])

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        encoded: list[Encoding] = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return encoded

    def _finish_single(self, encoding: Encoding) -> Row:
        cut = max(0, len(encoding) - self._single_room)
        if cut:
            encoding.truncate(self._single_room)
        done = self._tokenizer.post_process(encoding)
        return Row(done.ids, done.type_ids, cut)

    def _finish_pair(self, query: Encoding, passage: Encoding) -> Row:
        query_keep = len(query)
        passage_keep = min(len(passage), self._pair_room - query_keep)
        if passage_keep < len(passage):
            half = self._pair_room // 2
            query_keep = min(len(query), max(half, self._pair_room - len(passage)))
            passage_keep = min(len(passage), self._pair_room - query_keep)
        cut = len(query) + len(passage) - query_keep - passage_keep
        if query_keep < len(query):
            # truncate() works in place and the query serves every passage.
            query = self._cut_copy(query, query_keep)
        if passage_keep < len(passage):
            passage.truncate(passage_keep)
        done = self._tokenizer.post_process(query, passage)
        return Row(done.ids, done.type_ids, cut)

    @staticmethod
    def _cut_copy(encoding: Encoding, keep: int) -> Encoding:
        import copy

        shortened = copy.deepcopy(encoding)
        shortened.truncate(keep)
        return shortened
