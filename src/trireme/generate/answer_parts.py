"""An answer in parts: reasoning, text, and calls of tools, as a model's own marks tell them apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trireme.errors import ArtifactError, InvalidInputError
from trireme.generate.pieces import Piece
from trireme.generate.reasoning import ReasoningMarks, ReasoningSplitter, find_marks
from trireme.generate.tokenizer import LlmTokenizer
from trireme.generate.tool_calls import ToolCallDelta, ToolCallParser, ToolFormat, join_deltas, schemas_of
from trireme.generate.tool_calls_formats import FORMATS, find_format
from trireme.generate.tool_choice import ToolChoice

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How one model's answers are read. shown: control tokens that are marks, and so part of the text that is read.

    calls: None where nobody knows how it writes one. reasoning: None where it has none.
    """

    calls: ToolFormat | None
    reasoning: ReasoningMarks | None
    shown: frozenset[int]

    @staticmethod
    def of(template: str, tokenizer: LlmTokenizer, tool_parser: str = "") -> AnswerForm:
        """template: its chat template's text. tool_parser: a row's name, "" for what the template says.

        Raises ArtifactError for a name that no row has.
        """
        if tool_parser and tool_parser not in FORMATS:
            raise ArtifactError(f"tool_parser must be one of {', '.join(FORMATS)}, got {tool_parser!r}")
        calls = FORMATS[tool_parser] if tool_parser else find_format(template)
        reasoning = find_marks(template, tokenizer.added_tokens)
        marks = (*(calls.marks if calls else ()), *((reasoning.begin, reasoning.end) if reasoning else ()))
        found = {tokenizer.token_id(mark) for mark in marks}
        return AnswerForm(calls, reasoning, frozenset(tokenizer.special_ids.intersection(found)))

    def make_reader(
        self,
        prompt: str,
        tools: Sequence[Mapping[str, Any]],
        choice: ToolChoice,
        *,
        wants_reasoning: bool,
        is_streamed: bool,
        is_held: bool = False,
    ) -> AnswerReader | None:
        """For an answer to `prompt`; tools: those whose calls are wanted. None: all of it is text.

        is_held: to a form from its first token on, so it does not go on with reasoning that the prompt begins.
        An answer that must be a call is that from its beginning, without reasoning. Raises InvalidInputError where
        calls are wanted of a model whose form of them is not known.
        """
        if tools and choice.is_forced:
            form = choice.make_form(self.calls.id_characters if self.calls else 0)
            return AnswerReader(ToolCallParser(form, schemas_of(tools), is_streamed=is_streamed), None)
        if tools and self.calls is None:
            raise InvalidInputError(
                "tools: this model's chat template does not say how it writes a call; set tool_parser in its recipe"
                f" to one of {', '.join(FORMATS)}, or leave tools out"
            )
        calls = reasoning = None
        if self.calls is not None and tools:
            calls = ToolCallParser(self.calls, schemas_of(tools), is_streamed=is_streamed)
        # A call is not looked for in reasoning, wanted or not.
        if self.reasoning is not None and (wants_reasoning or calls is not None):
            has_begun = not is_held and prompt.rstrip().endswith(self.reasoning.begin)
            reasoning = ReasoningSplitter(self.reasoning, has_begun=has_begun)
        if calls is None and reasoning is None:
            return None
        return AnswerReader(calls, reasoning)


class AnswerReader:
    """Reads the pieces of one answer. What fails in it leaves the rest of the answer as text."""

    def __init__(self, calls: ToolCallParser | None, reasoning: ReasoningSplitter | None) -> None:
        self._calls = calls
        self._reasoning = reasoning
        self._has_failed = False

    def wrap(self, deliver: Callable[[Piece], None]) -> Callable[[Piece], None]:
        """A receiver of pieces as the engine makes them, that hands them on in parts; those of nothing are not."""

        def read(piece: Piece) -> None:
            piece = self.read(piece)
            if piece.text or piece.reasoning or piece.tool_calls or piece.is_last:
                deliver(piece)

        return read

    def read(self, piece: Piece) -> Piece:
        """The piece in parts. finish_reason is tool_calls where the answer has ended with a whole call."""
        if self._has_failed:
            return piece
        try:
            reasoning, text, calls = self._split(piece.text, is_last=piece.is_last)
        except Exception:
            _log.exception("an answer could not be read for calls and reasoning")
            self._has_failed = True
            return piece
        reason = piece.finish_reason
        if reason == "stop" and self._calls is not None and self._calls.whole_calls:
            reason = "tool_calls"
        return replace(piece, text=text, reasoning=reasoning, tool_calls=calls, finish_reason=reason)

    def _split(self, text: str, *, is_last: bool) -> tuple[str, str, tuple[ToolCallDelta, ...]]:
        reasoning = ""
        if self._reasoning is not None:
            reasoning, text = self._reasoning.push(text)
            if is_last:
                last = self._reasoning.finish()
                reasoning, text = reasoning + last[0], text + last[1]
        if self._calls is None:
            return reasoning, text, ()
        text, calls = self._calls.push(text)
        if is_last:
            rest, more = self._calls.finish()
            text, calls = text + rest, (*calls, *more)
        return reasoning, text, tuple(join_deltas(calls))
