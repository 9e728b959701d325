"""Prints an answer with its sources: in the terminal as it comes, or as one JSON object."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from trireme.rag.ports import AnswerPart, Citation, Usage

if TYPE_CHECKING:
    from rich.console import Console

QUOTE_CHARACTERS = 200


def print_answer(console: Console, parts: Iterable[AnswerPart]) -> None:
    """The text as it comes, then a line for each source and one for what it cost. Blocks until the last part."""
    last = AnswerPart()
    for last in parts:
        # Written at once and unwrapped: words come in pieces.
        console.out(_plain(last.text), end="", highlight=False)
    console.out("\n", highlight=False)
    if last.usage is None:
        return
    for citation in last.citations:
        console.out(f"[{citation.number}] {_source_line(citation)}", style="bold", highlight=False)
        if last.usage.answer_mode == "generative":
            quote = textwrap.shorten(_plain(citation.text), QUOTE_CHARACTERS, placeholder=" ...")
            console.out(f"    {quote}", highlight=False)
    if last.usage.answer_mode == "generative" and not last.usage.grounded:
        console.out("The answer cites no passage that supports it.", highlight=False)
    console.out(_cost_line(last.usage), style="dim", highlight=False)


def print_answer_json(parts: Iterable[AnswerPart]) -> None:
    """One JSON object on stdout: answer, citations, usage, finish_reason. Blocks until the last part."""
    got = list(parts)
    last = got[-1] if got else AnswerPart()
    document = {
        "answer": "".join(part.text for part in got),
        "citations": [dataclasses.asdict(citation) for citation in last.citations],
        "usage": dataclasses.asdict(last.usage) if last.usage else None,
        "finish_reason": last.finish_reason,
    }
    print(json.dumps(document, ensure_ascii=False, indent=2))  # noqa: T201 - a program reads this


def _source_line(citation: Citation) -> str:
    place = f"characters {citation.start} to {citation.end} of passage {citation.id}"
    return _plain(f"{citation.source} ({place}, score {citation.score:.2f})")


def _cost_line(usage: Usage) -> str:
    mode = "nothing found" if usage.answer_mode == "none" else usage.answer_mode
    tokens = f", {usage.prompt_tokens} + {usage.completion_tokens} tokens" if usage.completion_tokens else ""
    first = usage.time_to_first_token_ms / 1000
    return f"{mode}{tokens}, first words after {first:.2f} s, all after {usage.total_ms / 1000:.2f} s"


def _plain(text: str) -> str:
    """Without control characters: a document must not be able to steer the terminal."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else "\ufffd" for mark in text)
