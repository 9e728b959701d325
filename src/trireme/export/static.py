"""Static embeddings: a table with a vector for each token, whose mean is a text's (model2vec, StaticEmbedding)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from trireme.checkpoints.config import WEIGHTS_FILE
from trireme.errors import UnsupportedError

TOKENIZER = "tokenizer.json"


class WordTable(nn.Module):
    """As an encoder that looks at no other token: [B, L] ids -> states [B, L, H]."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding(table.shape[0], table.shape[1], _weight=table)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of words."""
        words: nn.Embedding = self.words
        return words

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """An object with last_hidden_state; the mask is for who pools."""
        return SimpleNamespace(last_hidden_state=self.words(input_ids))


def load_table(folder: Path, variant: str) -> WordTable:
    """The table in fp32, in the form of StaticEmbedding or of model2vec. Raises UnsupportedError for another."""
    from safetensors.torch import load_file

    path = folder / (f"model.{variant}.safetensors" if variant else WEIGHTS_FILE)
    weights = load_file(path)
    table = weights.get("embedding.weight", weights.get("embeddings"))
    if table is None or table.dim() != 2:
        raise UnsupportedError(f"{path} holds no table 'embedding.weight' or 'embeddings'")
    table = table.float()
    if "mapping" in weights:
        table = table[weights["mapping"].long()]
    if "weights" in weights:
        table = table * weights["weights"].float()[:, None]
    return WordTable(table)


def load_words(folder: Path) -> Any:
    """The tokenizer, which puts no special tokens around a text. Raises UnsupportedError where there is none."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the Rust side raises plain Exception
        raise UnsupportedError(f"{folder / TOKENIZER} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.post_processor = None
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
