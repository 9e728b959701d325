"""Trains the default LLM's tokenizer: byte-level BPE, so that every UTF-8 text round-trips.

    python vocabulary.py --data DATA --out OUT

Writes tokenizer.json, tokenizer_config.json and chat_template.jinja. Needs tokenizers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from texts import SOURCES, Excluded, is_held_out, read_documents
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SIZE = 8192
SPECIAL = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHARACTERS = {"wikipedia": 30_000_000, "wikinews": 20_000_000, "gutenberg": 15_000_000}
CONTEXT = 2048

CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{- raise_exception('A role is system, user or assistant, not ' + message['role']) }}"
    "{%- endif %}"
    "{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|assistant|>\\n' }}"
    "{%- endif %}"
)


def sample(data: Path) -> Iterator[str]:
    """The first training documents of each source, up to its number of characters."""
    excluded = Excluded(data)
    for source in SOURCES:
        left = CHARACTERS[source]
        for document in read_documents(data, source):
            if is_held_out(document) or excluded.covers(document):
                continue
            yield document.text[: min(left, 300_000)]
            left -= len(document.text[:300_000])
            if left <= 0:
                break


def train_vocabulary(texts: Iterator[str]) -> Tokenizer:
    """Byte-level BPE with GPT-2's word pattern and no unknown token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write(tokenizer: Tokenizer, out: Path) -> None:
    """The tokenizer as transformers' AutoTokenizer reads it, template included."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "additional_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "padding_side": "left",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Trains and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write(train_vocabulary(sample(options.data)), options.out)


if __name__ == "__main__":
    main()
