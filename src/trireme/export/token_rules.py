"""What a checkpoint says of tokens by their texts, as numbers of its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint
from trireme.types import TokenRules


def register_markers(tokenizer: Any, markers: Iterable[str]) -> None:
    """Makes one token of each marker that the tokenizer knows and would cut up, as sentence-transformers does.

    PyLate and Stanford put the token itself before a text; so the text of it, put there, becomes that token.
    """
    from tokenizers import AddedToken

    known = {*tokenizer.added_tokens_encoder, *tokenizer.get_vocab()}
    added = []
    for marker in markers:
        whole = next((part for part in (marker, *marker.split(None, 1)[:1]) if part in known), None)
        if whole is not None and tokenizer.tokenize(whole) != [whole]:
            added.append(AddedToken(whole, normalized=False, special=True))
    if added:
        tokenizer.add_special_tokens({"additional_special_tokens": added})


def make_rules(checkpoint: Checkpoint, tokenizer: Any) -> TokenRules:
    """The rules of a checkpoint with other outputs than a vector of the text."""
    files, limit = checkpoint.tokens, checkpoint.max_length
    size = files.layers[-1].out_features if files.layers else checkpoint.hidden_size
    is_multi = "multi" in checkpoint.outputs
    rules = TokenRules(unweighted=find_unweighted(tokenizer) if files.lexical else ())
    if not is_multi:
        return rules
    return TokenRules(
        vector_size=size,
        unweighted=rules.unweighted,
        skips_first=files.skips_first,
        query_skips=_find_tokens(tokenizer, files.query_skips),
        passage_skips=_find_tokens(tokenizer, files.passage_skips),
        query_length=min(files.query_length, limit),
        passage_length=min(files.passage_length, limit),
        expansion_length=min(files.expansion_length, limit),
        expansion_token=_find_expansion(checkpoint, tokenizer) if files.expansion_length else 0,
        expansion_attends=files.expansion_attends,
    )


def find_unweighted(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that FlagEmbedding gives no weight: those around a text, padding, and the unknown one."""
    names = ("cls", "eos", "sep", "pad", "unk")
    found = {getattr(tokenizer, f"{name}_token_id") for name in names}
    return tuple(sorted(found - {None}))


def _find_tokens(tokenizer: Any, words: Iterable[str]) -> tuple[int, ...]:
    """The tokens of words that are one; others stand for no token of their own."""
    found = {word: tokenizer.convert_tokens_to_ids(word) for word in words}
    unknown = tokenizer.unk_token_id
    return tuple(
        sorted(
            token
            for word, token in found.items()
            if token is not None and (token != unknown or word == tokenizer.unk_token)
        )
    )


def _find_expansion(checkpoint: Checkpoint, tokenizer: Any) -> int:
    stated = checkpoint.tokens.expansion_token
    found = _find_tokens(tokenizer, [stated] if stated else [])
    token = found[0] if found else None
    if not stated:
        mask = tokenizer.mask_token_id
        token = tokenizer.eos_token_id if mask is None else mask
    if token is None:
        raise UnsupportedError(
            f"{checkpoint.folder}: queries are filled up with the token {stated or 'mask'!r}, which the tokenizer"
            " does not have"
        )
    return int(token)
