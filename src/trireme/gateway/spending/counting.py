"""What one answer has used: as its provider says, or as far as it was seen."""

from __future__ import annotations

from dataclasses import dataclass

from trireme.budget.caps import MOST
from trireme.budget.ledger import CountedBy
from trireme.budget.prices import Tokens
from trireme.providers.chat import (
    Event,
    Finished,
    Native,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)

# Bytes of UTF-8 in a token, few: tokenizers make 3 to 5 of prose and of code.
BYTES_OF_TOKEN = 3
# A provider refused with one of these and had done nothing, where nothing of an answer came.
FREE = frozenset(
    {
        "connect",
        "rate_limit",
        "overloaded",
        "server",
        "auth",
        "quota",
        "not_found",
        "invalid",
        "too_long",
        "too_large",
    }
)


@dataclass(frozen=True, slots=True)
class Used:
    """What an attempt is charged. counted_by: as in the ledger's row."""

    tokens: Tokens
    reasoning: int
    counted_by: CountedBy


NOTHING = Used(Tokens(), 0, "counted")


class AnswerCount:
    """Counts the events of one attempt. input_bound, output_bound: tokens, at most.

    Output that no provider counted is the third part of its bytes, but at least one token for each part that came,
    and at most the bound: near the truth, and never below what is certain.
    """

    def __init__(self, input_bound: int, output_bound: int) -> None:
        self._input_bound = input_bound
        self._output_bound = output_bound
        self._usage = Usage()
        # Parts of text that are not empty, of all choices; each is one token or more.
        self.parts = 0
        self._bytes = 0
        # Whether content came after the provider's last count.
        self._is_ahead = False
        self.has_begun = False
        self.finished: set[int] = set()

    def note(self, event: Event) -> None:
        """Take an event in."""
        self.has_begun = True
        match event:
            case TextDelta(text=text) | RefusalDelta(text=text) | ThinkingDelta(text=text):
                self._add(text)
            case ToolDelta(arguments=text):
                self._add(text)
            case ToolStart(name=text):
                self._bytes += len(text.encode())
                self._is_ahead = True
            case Native():
                self._is_ahead = True
            case Started(input_tokens=tokens):
                if tokens is not None:
                    self._usage = Usage(input_tokens=tokens)
            case Usage():
                self._usage = _merged(self._usage, event)
                self._is_ahead = False
            case Finished(choice=choice):
                self.finished.add(choice)

    def used(self, outcome: str) -> Used:
        """What is charged for an attempt that ended so (`AttemptMeter.end`)."""
        if not self.has_begun and outcome in FREE:
            return NOTHING
        return self.so_far()

    def so_far(self) -> Used:
        """What has been used until now, if the request reached its provider."""
        said = self._usage
        said_output = clip_count(said.output_tokens or 0)
        cached, written = clip_count(said.cached_tokens or 0), clip_count(said.cache_write_tokens or 0)
        said_input = max(clip_count(said.input_tokens or 0), cached + written)
        # Servers that do not count say 0: of a prompt, or of text that came, that is no count.
        is_said = said.output_tokens is not None and (said_output > 0 or not self.parts)
        is_counted = is_said and not self._is_ahead
        output = said_output if is_counted else self._counted_output()
        if said.input_tokens is None or not said_input:
            counted_by: CountedBy = "counted" if is_counted or self.parts else "bound"
            return Used(Tokens(input=self._input_bound, output=output), 0, counted_by)
        tokens = Tokens(said_input, cached, written, output)
        counted_by = "provider" if is_counted or not (self._is_ahead or self.parts) else "counted"
        return Used(tokens, min(clip_count(said.reasoning_tokens or 0), output), counted_by)

    def _add(self, text: str) -> None:
        if text:
            self.parts += 1
            self._bytes += len(text.encode())
            self._is_ahead = True

    def _counted_output(self) -> int:
        likely = -(-self._bytes // BYTES_OF_TOKEN)
        # A provider that counts on the way has counted at least so many.
        least = max(self.parts, clip_count(self._usage.output_tokens or 0))
        return max(least, min(likely, self._output_bound))


def _merged(before: Usage, event: Usage) -> Usage:
    """Counts are cumulative; one that a later event leaves out still holds."""
    return Usage(
        event.input_tokens if event.input_tokens is not None else before.input_tokens,
        event.output_tokens if event.output_tokens is not None else before.output_tokens,
        event.cached_tokens if event.cached_tokens is not None else before.cached_tokens,
        event.cache_write_tokens if event.cache_write_tokens is not None else before.cache_write_tokens,
        event.reasoning_tokens if event.reasoning_tokens is not None else before.reasoning_tokens,
    )


def clip_count(count: int) -> int:
    """A provider's count of tokens as counters take it, which end at MOST: it may say anything."""
    return max(0, min(int(count), MOST // 4))
