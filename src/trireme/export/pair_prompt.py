"""What a language model that reranks reads: its chat template as a template of pairs, and its answers' tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from trireme.encode.pair_template import PASSAGE, QUERY, PairTemplate
from trireme.errors import InvalidInputError, UnsupportedError
from trireme.export.checkpoint import Checkpoint

ANSWERS = ("no", "yes")


def with_pair_prompt(checkpoint: Checkpoint, tokenizer: Any) -> Checkpoint:
    """`checkpoint` with template and answers as its `tokenizer` has them.

    Raises UnsupportedError where it must be told a template, or its tokenizer has no token for an answer.
    """
    if checkpoint.kind != "cross_encoder":
        return checkpoint
    template = checkpoint.template
    if not template and checkpoint.has_chat_template:
        template = _render(checkpoint, tokenizer)
    if checkpoint.answers is not None and not template:
        raise UnsupportedError(
            f"{checkpoint.folder} answers yes or no and has no chat template: give --template, the text that its"
            f" card shows with {QUERY} and {PASSAGE} in it"
        )
    if template:
        try:
            PairTemplate.parse(template)
        except InvalidInputError as error:
            raise UnsupportedError(f"{checkpoint.folder}: {error}") from None
    answers = checkpoint.answers
    if answers == ():
        answers = _find_answers(checkpoint, tokenizer)
    return replace(checkpoint, template=template, answers=answers)


def write_chat_template(template: str) -> str:
    """A chat template, in Jinja, that sentence-transformers renders a pair into the same text with."""
    parsed = PairTemplate.parse(template)
    roles = ("query", "document") if parsed.query_first else ("document", "query")
    texts = [f"{{{{ {json.dumps(part, ensure_ascii=False)} }}}}" for part in parsed.parts]
    contents = [
        f"{{% for message in messages if message.role == '{role}' %}}{{{{ message.content }}}}{{% endfor %}}"
        for role in roles
    ]
    return f"{texts[0]}{contents[0]}{texts[1]}{contents[1]}{texts[2]}"


def _render(checkpoint: Checkpoint, tokenizer: Any) -> str:
    system = [{"role": "system", "content": checkpoint.query_prompt}] if checkpoint.query_prompt else []
    pair = [{"role": "query", "content": QUERY}, {"role": "document", "content": PASSAGE}]
    try:
        text = str(tokenizer.apply_chat_template([*system, *pair], tokenize=False))
        PairTemplate.parse(text)
    except Exception as error:  # templates raise whatever they like
        raise UnsupportedError(
            f"{checkpoint.folder}: its chat template shows no message of the roles query and document"
            f" ({error!s:.100}); give --template, the text that its card shows with {QUERY} and {PASSAGE} in it"
        ) from error
    return text


def _find_answers(checkpoint: Checkpoint, tokenizer: Any) -> tuple[int, ...]:
    vocabulary = tokenizer.get_vocab()
    missing = [answer for answer in ANSWERS if answer not in vocabulary]
    if missing:
        raise UnsupportedError(
            f"{checkpoint.folder}: its tokenizer has no token {missing[0]!r}, whose logit is the score; name the"
            " tokens in a LogitScore module of modules.json"
        )
    return tuple(vocabulary[answer] for answer in ANSWERS)
