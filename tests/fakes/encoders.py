"""A tokenizer of whole words and a session whose answers a person can predict."""

import numpy as np
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from trireme.encode.batching import RunCost
from trireme.encode.session import pad_rows
from trireme.encode.tokenizer import Tokenizer

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghij"]


def word_tokenizer(max_length: int = 8) -> Tokenizer:
    """Every word of WORDS is one token: a = 4, b = 5, ..."""
    rust = RustTokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    rust.pre_tokenizer = WhitespaceSplit()
    rust.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return Tokenizer(rust, max_length)


class SumSession:
    """Embeds a row as [sum of ids, tokens, 0, ...]; padding adds nothing. Remembers every run's shape."""

    streams = 1

    def __init__(
        self,
        width: int = 4,
        inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
        cost: RunCost | None = None,
    ) -> None:
        self.cost = cost or RunCost()
        self.input_names = list(inputs)
        self.width = width
        self.shapes: list[tuple[int, int]] = []

    def run(self, batch):
        feeds = pad_rows(batch, self.cost)
        assert set(self.input_names) <= set(feeds)
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        self.shapes.append(ids.shape)
        output = np.zeros((len(ids), self.width), np.float32)
        output[:, 0] = (ids * mask).sum(1)
        if self.width > 1:
            output[:, 1] = mask.sum(1)
        return output


class OverlapSession:
    """Scores a pair by the number of query ids found in the passage."""

    cost = RunCost()
    streams = 1

    input_names = ("input_ids", "attention_mask", "token_type_ids")

    def run(self, batch):
        feeds = pad_rows(batch, self.cost)
        scores = []
        for row, mask, types in zip(
            feeds["input_ids"], feeds["attention_mask"], feeds["token_type_ids"], strict=True
        ):
            words = [(i, t) for i, m, t in zip(row, mask, types, strict=True) if m and i > 3]
            passage = {i for i, t in words if t == 1}
            scores.append(sum(i in passage for i, t in words if t == 0))
        return np.array(scores, np.float32)


class NamedSession(SumSession):
    """Several outputs: a token's weight is its id less 5, its vector [cos, sin] of its id."""

    output_names = ("embedding", "token_weights", "token_vectors")

    def __init__(self, **more) -> None:
        super().__init__(**more)
        self.asked: list[tuple[str, ...]] = []

    def run_named(self, batch, names):
        self.asked.append(tuple(names))
        feeds = pad_rows(batch, self.cost)
        ids, mask = feeds["input_ids"].astype(np.float32), feeds["attention_mask"]
        found = {
            "embedding": self.run(batch),
            "token_weights": ids - 5,
            "token_vectors": np.stack([np.cos(ids), np.sin(ids)], 2),
            "term_weights": np.concatenate([ids.sum(1)[:, None], 0 * ids[:, :1], mask.sum(1)[:, None]], 1),
        }
        return {name: found[name].astype(np.float32) for name in names}


class TermSession(NamedSession):
    """Weights of three words: the sum of a row's ids, nothing, the tokens that are seen."""

    output_names = ("term_weights",)
