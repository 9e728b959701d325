import string

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.generation.prompts import Prompts
from trireme.errors import InvalidInputError


def write_tokenizer(folder, words):
    """A byte-level tokenizer with tokens for letters, the space before a word, and whole words of two letters."""
    letters = ["\u0120", *string.ascii_lowercase]
    merges = [("\u0120", word[0]) for word in words] + [("\u0120" + word[0], word[1]) for word in words]
    merges = list(dict.fromkeys(merges))
    vocabulary = list(dict.fromkeys([*letters, *("".join(pair) for pair in merges)]))
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


PAIRS = [a + b for a in "abcde" for b in string.ascii_lowercase]


def test_a_prompt_has_exactly_its_tokens_and_the_same_seed_draws_the_same_ones(tmp_path):
    prompts = Prompts(write_tokenizer(tmp_path, PAIRS), 32)
    texts = prompts.texts(5, seed=1)
    assert {len(prompts.ids(text)) for text in texts} == {32}
    assert len(set(texts)) == 5
    assert texts == prompts.texts(5, seed=1) != prompts.texts(5, seed=2)
    with pytest.raises(InvalidInputError, match="instead of 32"):
        prompts.ids("ab")


def test_a_tokenizer_with_too_few_words_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="too few words"):
        Prompts(write_tokenizer(tmp_path, PAIRS[:20]), 32)
