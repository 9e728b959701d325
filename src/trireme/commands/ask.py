"""`trireme ask`: an answer with its sources, in the terminal as it comes, or as one JSON object."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_scope
from trireme.commands.tables import plain
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.rag.ports import AnswerPart, Citation, Usage

# trireme.rag.ports.ANSWER_MODES, without loading numpy for every command.
MODES = ("auto", "extractive", "generative")
QUOTE_CHARACTERS = 200


def add_ask(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    ask = commands.add_parser("ask", help="answer a question from what is indexed, with its sources")
    ask.add_argument("question")
    ask.add_argument("--mode", choices=MODES, help="how to answer (server default: auto)")
    ask.add_argument("--top-k", type=int, help="passages an answer may come from (server default: 5)")
    ask.add_argument("--json", action="store_true", help="print one JSON object with citations and usage")
    ask.add_argument("--url", help="gRPC host:port of the server")
    ask.set_defaults(run=_ask)
    add_scope(ask)


def _ask(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.triton.call_route import STAYS
    from trireme.triton.client import TritonClient

    scope = (arguments.mode, arguments.top_k, settings.tenant, settings.collection)
    with (
        TritonClient(arguments.url or settings.grpc_url, route=STAYS) as client,
        closing(client.ask(arguments.question, *scope)) as parts,
    ):
        if arguments.json:
            print_answer_json(parts)
        else:
            print_answer(console, parts)
    return 0


def print_answer(console: Console, parts: Iterable[AnswerPart]) -> None:
    """The text as it comes, then a line for each source and one for what it cost. Blocks until the last part."""
    from trireme.rag.ports import AnswerPart

    last = AnswerPart()
    for last in parts:
        # Written at once and unwrapped: words come in pieces.
        console.out(plain(last.text), end="", highlight=False)
    console.out("\n", highlight=False)
    if last.usage is None:
        return
    for citation in last.citations:
        console.out(f"[{citation.number}] {_source_line(citation)}", style="bold", highlight=False)
        if last.usage.answer_mode == "generative":
            quote = textwrap.shorten(plain(citation.text), QUOTE_CHARACTERS, placeholder=" ...")
            console.out(f"    {quote}", highlight=False)
    if last.usage.answer_mode == "generative" and not last.usage.grounded:
        console.out("The answer cites no passage that supports it.", highlight=False)
    console.out(_cost_line(last.usage), style="dim", highlight=False)


def print_answer_json(parts: Iterable[AnswerPart]) -> None:
    """One JSON object on stdout: answer, citations, usage, finish_reason. Blocks until the last part."""
    from trireme.rag.ports import AnswerPart

    got = list(parts)
    last = got[-1] if got else AnswerPart()
    document = {
        "answer": "".join(part.text for part in got),
        "citations": [dataclasses.asdict(citation) for citation in last.citations],
        "usage": dataclasses.asdict(last.usage) if last.usage else None,
        "finish_reason": last.finish_reason,
    }
    print(json.dumps(document, ensure_ascii=False, indent=2))


def _source_line(citation: Citation) -> str:
    place = f"characters {citation.start} to {citation.end} of passage {citation.id}"
    return plain(f"{citation.source} ({place}, score {citation.score:.2f})")


def _cost_line(usage: Usage) -> str:
    mode = "nothing found" if usage.answer_mode == "none" else usage.answer_mode
    tokens = f", {usage.prompt_tokens} + {usage.completion_tokens} tokens" if usage.completion_tokens else ""
    first = usage.time_to_first_token_ms / 1000
    return f"{mode}{tokens}, first words after {first:.2f} s, all after {usage.total_ms / 1000:.2f} s"
