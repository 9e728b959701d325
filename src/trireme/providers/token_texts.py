"""Texts of token ids, and how many tokens texts are, by the tokenizer files of our own models."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trireme.artifacts.contracts import split_adapter
from trireme.artifacts.repository import version_dir
from trireme.errors import ArtifactError, InvalidInputError, UnsupportedError

TOKENIZER_FILE = "tokenizer.json"
# Tokenizers that are kept, a few MB each.
MOST_TOKENIZERS = 4
LOOK_SECONDS = 1.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class TokenTexts:
    """Decodes ids of models whose folders lie in `repository`. Thread-safe; blocks on a model's file."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._tokenizers: OrderedDict[tuple[Path, float], Any] = OrderedDict()
        self._looked_at: dict[str, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def decode(self, model: str, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row, its special tokens left out.

        Raises UnsupportedError for a model whose tokenizer is not at hand, InvalidInputError that names the row of
        an id outside of its vocabulary, or of ids that are no text.
        """
        tokenizer = self._load(model)
        texts: list[str] = tokenizer.decode_batch([list(row) for row in rows], skip_special_tokens=True)
        for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
            # Ids that it does not know it leaves out without a word.
            unknown = [one for one in row if tokenizer.id_to_token(one) is None]
            if unknown:
                raise InvalidInputError(
                    f"input[{place}] holds {unknown[0]}, which is no token of model {model!r}; send its own",
                    "input",
                )
            if not text:
                raise InvalidInputError(f"input[{place}] holds special tokens alone; send text", "input")
        return texts

    def count(self, model: str, texts: Sequence[str]) -> int:
        """Tokens of all texts, each by itself, without special ones. A control token written in a text counts as
        its letters, one token a byte: nothing lets it be one there. Blocks: 1 to 2 MB a second.

        Raises UnsupportedError for a model whose tokenizer is not at hand.
        """
        return _count(self._load(model), texts)

    def count_if_loaded(self, model: str, texts: Sequence[str]) -> int | None:
        """As `count`, or None where that would read the model's file. Whether it was built anew is looked at once
        in LOOK_SECONDS."""
        now = time.monotonic()
        looked, tokenizer = self._looked_at.get(model, (0.0, None))
        if tokenizer is None or now - looked > LOOK_SECONDS:
            if not self.is_loaded(model):
                return None
            tokenizer = self._load(model)
            if len(self._looked_at) >= MOST_TOKENIZERS:
                self._looked_at.clear()
            self._looked_at[model] = (now, tokenizer)
        return _count(tokenizer, texts)

    def is_loaded(self, model: str) -> bool:
        """Whether `count` needs no file for the model."""
        try:
            path = self._find(model)
            key = (path, path.stat().st_mtime)
        except (UnsupportedError, OSError):
            return False
        with self._lock:
            return key in self._tokenizers

    def _load(self, model: str) -> Any:
        path = self._find(model)
        try:
            key = (path, path.stat().st_mtime)
            with self._lock:
                if key not in self._tokenizers:
                    from tokenizers import Tokenizer

                    self._tokenizers[key] = Tokenizer.from_file(str(path))
                self._tokenizers.move_to_end(key)
                while len(self._tokenizers) > MOST_TOKENIZERS:
                    self._tokenizers.popitem(last=False)
                return self._tokenizers[key]
        # The library raises Exception itself for a file that it cannot read.
        except Exception:
            raise _not_at_hand(model) from None

    def _find(self, model: str) -> Path:
        # An adapter reads as its model does. Names come from clients, and go into a path.
        served = split_adapter(model)[0]
        if not _NAME.fullmatch(served):
            raise _not_at_hand(model)
        try:
            return version_dir(self._repository, served) / TOKENIZER_FILE
        except ArtifactError:
            raise _not_at_hand(model) from None


def _count(tokenizer: Any, texts: Sequence[str]) -> int:
    control = [
        token.content.encode() for token in tokenizer.get_added_tokens_decoder().values() if token.content
    ]
    found = 0
    for text in map(_whole, texts):
        found += len(tokenizer.encode(text, add_special_tokens=False).ids)
        raw = text.encode()
        found += sum(raw.count(mark) * (len(mark) + 2) for mark in control if mark in raw)
    return found


def _whole(text: str) -> str:
    """Without half a surrogate pair, which JSON may hold and UTF-8 may not: three bytes, as it would be."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _not_at_hand(model: str) -> UnsupportedError:
    return UnsupportedError(
        f"input: token arrays of model {model[:80]!r} cannot be read here, its tokenizer is not at hand; send text"
    )
