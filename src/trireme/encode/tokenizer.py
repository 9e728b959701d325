"""Rust tokenizers, with the number of tokens that the length limit cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from trireme.encode.pair_template import PairTemplate
from trireme.encode.windows import Spans, find_windows
from trireme.errors import ArtifactError, OverLengthError

WORD = re.compile(r"\S+")
# Words whose sizes are remembered, and how long these may be: about 20 MB.
MOST_WORDS = 200_000
LONGEST_WORD = 80
# Of texts that are tokenized together: their tokens take about 100 bytes for each character.
CHARACTERS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row for a model: token and segment ids, special tokens included, and the tokens cut off.

    own_tokens: of a window of a longer text, those that no other window of it has.
    """

    ids: list[int]
    type_ids: list[int]
    truncated_tokens: int
    own_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Frame:
    """Special tokens around one or two texts: ids before, between and after, and each text's segment id."""

    before: list[int]
    between: list[int]
    after: list[int]
    before_types: list[int]
    between_types: list[int]
    after_types: list[int]
    segments: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class Tokenizer:
    """A tokenizer.json cut to `max_length` tokens, special tokens included. Thread-safe; never pads."""

    def __init__(self, rust_tokenizer: Any, max_length: int) -> None:
        """Raises ArtifactError for a tokenizer that has no token for a letter."""
        rust_tokenizer.no_padding()
        rust_tokenizer.no_truncation()
        self._tokenizer = rust_tokenizer
        self._single = self._read_template(pair=False)
        self._pair = self._read_template(pair=True)
        self.max_length = max_length
        self._word_sizes: dict[str, int] = {}
        self._ends: dict[PairTemplate, list[int]] = {}

    @classmethod
    def load(cls, path: Path, max_length: int) -> Tokenizer:
        """Read a tokenizer.json. Raises ArtifactError where the file cannot be read."""
        from tokenizers import Tokenizer as RustTokenizer

        try:
            rust_tokenizer = RustTokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises plain Exception
            raise ArtifactError(
                f"cannot read the tokenizer {path.name}: {error}; build the model again"
            ) from error
        return cls(rust_tokenizer, max_length)

    def cut_at(self, max_length: int) -> Tokenizer:
        """The same tokenizer, which cuts at `max_length` tokens where this one cuts later."""
        other = copy(self)
        other.max_length = min(self.max_length, max_length)
        return other

    def encode_texts(self, texts: Sequence[str]) -> list[Row]:
        """Rows of single texts, in order."""
        template, room = self._single, self.max_length - self._single.size
        rows = []
        for ids in self._encode(texts):
            kept = ids[:room]
            types = [*template.before_types, *template.segments[:1] * len(kept), *template.after_types]
            rows.append(Row([*template.before, *kept, *template.after], types, len(ids) - len(kept)))
        return rows

    def encode_pairs(self, query: str, passages: Sequence[str]) -> list[Row]:
        """Rows of (query, passage), in order.

        Where both do not fit, the longer is cut first, and both down to half of the room, as transformers'
        "longest_first" does: a long query leaves the passage something to be read by.
        """
        found = self._encode([query, *passages])
        query_ids = next(found)
        return [self._join(query_ids, ids) for ids in found]

    def encode_filled(self, template: PairTemplate, query: str, passages: Sequence[str]) -> list[Row]:
        """Rows of `template` filled with the query and each passage, in order; no special tokens are added.

        What is too long is cut before the template's end, which says what is asked, as sentence-transformers does.
        """
        end = self._end_of(template)
        rows = []
        for ids in self._encode([template.fill(query, passage) for passage in passages]):
            over = max(0, len(ids) - self.max_length)
            kept = [*ids[: max(0, self.max_length - len(end))], *end][-self.max_length :] if over else ids
            rows.append(Row(kept, [0] * len(kept), over))
        return rows

    def split_text(self, text: str, prompt: str = "") -> list[Row]:
        """Rows of the windows of `prompt` and `text`, each with the prompt before it: nothing is cut off.

        Raises OverLengthError for a prompt that takes more than half of what the model reads.
        """
        frame = self._single
        spans = self._spans(prompt + text)
        head = spans.count_before(len(prompt)) if prompt else 0
        room = self.max_length - frame.size - head
        self._check_room("the prompt", head, room)
        rows = []
        for start, end in find_windows(spans, head, len(spans.ids), room):
            ids = [*spans.ids[:head], *spans.ids[start:end]]
            types = [*frame.before_types, *frame.segments[:1] * len(ids), *frame.after_types]
            rows.append(Row([*frame.before, *ids, *frame.after], types, 0, end - start))
        return rows

    def split_pair(self, query: str, passage: str) -> list[Row]:
        """Rows of the query with each window of the passage: nothing is cut off. Raises as `split_text`."""
        (query_ids,) = self._encode([query])
        spans = self._spans(passage)
        room = self.max_length - self._pair.size - len(query_ids)
        self._check_room("the query", len(query_ids), room)
        windows = find_windows(spans, 0, len(spans.ids), room)
        return [self._join(query_ids, spans.ids[start:end]) for start, end in windows]

    def split_filled(self, template: PairTemplate, query: str, passage: str) -> list[Row]:
        """As `split_pair`, of a template that is filled with both."""
        start, text = template.place_of_passage(query), template.fill(query, passage)
        spans = self._spans(text)
        head, tail = spans.count_before(start), spans.count_before(start + len(passage))
        around = len(spans.ids) - (tail - head)
        self._check_room("the template with the query", around, self.max_length - around)
        rows = []
        for first, last in find_windows(spans, head, tail, self.max_length - around):
            ids = [*spans.ids[:head], *spans.ids[first:last], *spans.ids[tail:]]
            rows.append(Row(ids, [0] * len(ids), 0, last - first))
        return rows

    def _check_room(self, what: str, tokens: int, room: int) -> None:
        if room < tokens or room < 1:
            raise OverLengthError(
                f"{what} has {tokens} tokens, more than half of the {self.max_length} that the model reads, which"
                " leaves windows of a text too little; send a shorter one, or over_length truncate"
            )

    def _spans(self, text: str) -> Spans:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Spans(text, encoding.ids, encoding.offsets)

    def _end_of(self, template: PairTemplate) -> list[int]:
        """The last tokens that any two texts in `template` share."""
        if template not in self._ends:
            first, second = self._encode([template.fill("0", "0"), template.fill("1 2 3 4", "1 2 3 4")])
            pairs = zip(reversed(first), reversed(second), strict=False)
            count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            self._ends[template] = first[len(first) - count :]
        return self._ends[template]

    def count_all(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens and without a limit, counted word by word.

        Exact where a tokenizer never joins two words in one token, as nearly all do. Words that were counted
        before are remembered, which makes this about ten times as fast as encoding.
        """
        if len(self._word_sizes) > MOST_WORDS:
            self._word_sizes = {}
        sizes = self._word_sizes
        words = [WORD.findall(text) for text in texts]
        new = list(set(chain.from_iterable(words)).difference(sizes))
        counted: dict[str, int] = {}
        if new:
            spaced = [" " + word for word in new]
            encodings = self._tokenizer.encode_batch_fast(spaced, add_special_tokens=False)
            counted = {word: len(encoding) for word, encoding in zip(new, encodings, strict=True)}
            sizes.update((word, size) for word, size in counted.items() if len(word) <= LONGEST_WORD)
        return [_add_up(found, sizes, counted) for found in words]

    def _encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The ids of each text, of so many characters at once: a long text is held whole only until it is cut."""
        for part in _divide(texts):
            # The fast one leaves offsets out, which nobody asks for.
            yield from (e.ids for e in self._tokenizer.encode_batch_fast(part, add_special_tokens=False))

    def _join(self, query: list[int], passage: list[int]) -> Row:
        template, room = self._pair, self.max_length - self._pair.size
        # An odd token is the longer one's.
        half = (room + (len(query) > len(passage))) // 2
        query_keep = min(len(query), max(half, room - len(passage)))
        passage_keep = min(len(passage), room - query_keep)
        ids = [
            *template.before,
            *query[:query_keep],
            *template.between,
            *passage[:passage_keep],
            *template.after,
        ]
        first, second = template.segments
        types = [*template.before_types, *[first] * query_keep, *template.between_types]
        types += [*[second] * passage_keep, *template.after_types]
        return Row(ids, types, len(query) + len(passage) - query_keep - passage_keep)

    def _read_template(self, pair: bool) -> _Frame:
        """What the tokenizer's post-processor puts around texts, read off one letter.

        Cutting plain lists of ids and joining them by this is the same for every template, and does not copy
        the encodings of long texts.
        """
        done = self._tokenizer.encode("a", "a") if pair else self._tokenizer.encode("a")
        places = [[i for i, part in enumerate(done.sequence_ids) if part == n] for n in range(1 + pair)]
        if not all(places):
            raise ArtifactError("the tokenizer has no token for the letter a; check tokenizer.json")
        start, end = places[0][0], places[0][-1] + 1
        second, last = (places[1][0], places[1][-1] + 1) if pair else (end, end)
        ids, types = done.ids, done.type_ids
        return _Frame(
            before=ids[:start],
            between=ids[end:second],
            after=ids[last:],
            before_types=types[:start],
            between_types=types[end:second],
            after_types=types[last:],
            segments=tuple(types[part[0]] for part in places),
        )


def _divide(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in parts of CHARACTERS_AT_ONCE at most, or of one text."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > CHARACTERS_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part


def _add_up(words: list[str], sizes: dict[str, int], counted: dict[str, int]) -> int:
    try:
        return sum(map(sizes.__getitem__, words))
    except KeyError:
        # Long words are counted each time.
        return sum(sizes[word] if word in sizes else counted[word] for word in words)
