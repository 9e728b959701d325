"""What comes out of a generator, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trireme.errors import TriremeError
from trireme.generate.engine import FinishReason
from trireme.generate.logprobs import TokenLogprob
from trireme.generate.tool_calls import ToolCallDelta

# tool_calls: stop, behind a whole call of a tool.
EndReason = FinishReason | Literal["tool_calls"]


@dataclass(frozen=True, slots=True)
class PieceTimes:
    """Seconds since a request came: until the engine took it, its first token, its end. None: nobody knows."""

    waited: float | None
    first: float | None
    total: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer. A finish_reason or an error makes it the last, which carries the token counts.

    cached_tokens: see Chunk. logprobs: where they were asked for, of the tokens that make `text` (see TokenLog).
    times: of the last piece. reasoning, tool_calls: where they were asked for, in place of their text.
    """

    text: str = ""
    finish_reason: EndReason = ""
    error: TriremeError | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    times: PieceTimes | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()

    @property
    def is_last(self) -> bool:
        """True when nothing more comes."""
        return bool(self.finish_reason) or self.error is not None
