"""The neutral form between every surface and every provider: a call, and the events of its answer.

Surfaces (gateway/wire) read bodies into a `ChatCall` and write events; providers do the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Whose JSON a body is. completions: OpenAI's older text endpoint. responses: OpenAI's newest, always translated.
Surface = Literal["openai", "completions", "responses", "anthropic"]
Role = Literal["system", "user", "assistant", "tool"]
# refusal: the model declined, which is an answer. filter: a filter of the provider cut it.
FinishReason = Literal["stop", "stop_sequence", "length", "tool_use", "refusal", "filter", "pause"]
# vLLM's field beside OpenAI's response_format, and the type of a response_format that is one.
STRUCTURED = "structured_outputs"
# Fields of a client's own body that no provider gets: ours, and those that choose whose cache is read.
NEVER_SENT = ("trireme", "tenant", "cache_salt", "prompt_cache_key")


@dataclass(frozen=True, slots=True)
class Text:
    """Text of a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image by its URL; data:MEDIA_TYPE;base64,... where the bytes came along. detail: low, high, auto or ""."""

    url: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of a tool by the assistant. `arguments` is JSON text as the model wrote it, which may be invalid."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave for the call `id`. In a message of role "tool", which holds nothing else."""

    id: str
    text: str
    images: tuple[Image, ...] = ()
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning of the assistant. A `signature` is bound to the provider that made it."""

    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A part that only providers of the body's own surface can read, such as input_audio. kind: its type there."""

    kind: str


Part = Text | Image | ToolUse | ToolResult | Thinking | Foreign


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Consecutive turns of one role are allowed."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""

    @property
    def text(self) -> str:
        """Its texts, joined with line breaks."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `schema` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat or completion request. None: not given; the provider's default holds.

    body: the client's own JSON, which a provider of the same surface sends on, its model and a few fields changed,
    so that what we do not know survives. unknown: its top-level fields that stand nowhere below.
    prompt: of the surface completions, where messages is empty. tool_choice: auto, any, none, or a tool's name
    behind "tool:". choices: n. logprobs: None, or how many alternatives for each token (0: the token alone).
    response_format: OpenAI's object, or vLLM's as {"type": STRUCTURED, STRUCTURED: {...}}.
    model: as the client named it. betas: Anthropic's anthropic-beta header;
    api_version: its anthropic-version, "" where the client gave none.
    stop_when: of trireme.stop_when, when an answer is sufficient; {} for never, None leaves it to the model's row.
    The last block is the gateway's, never the client's: tenant, user and key_id of the key, `salt` (HMAC of the
    tenant), the collection of a rag answer whose client named none, and whether a rag model is asked for Findings:
    asks_evidence for its log-probabilities and details, asks_prompt for its prompt. Before it stand what a client
    may say of a rag answer: its collection, passages (top_k) and answer_mode.
    rerank_depth: how many passages a rag model may rerank, which the gateway lowers under load. eased_mode: the
    answer_mode of rag models that it sets then; unlike the client's own, other models may answer in their place.
    """

    surface: Surface
    model: str
    messages: tuple[Message, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    prompt: str | None = None
    stream: bool = False
    include_usage: bool = False

    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    logprobs: int | None = None
    response_format: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    betas: tuple[str, ...] = ()
    api_version: str = ""

    collection: str | None = None
    passages: int | None = None
    answer_mode: str | None = None
    stop_when: Mapping[str, Any] | None = None

    tenant: str = ""
    user: str = ""
    key_id: str = ""
    salt: str = ""
    default_collection: str = ""
    asks_evidence: bool = False
    asks_prompt: bool = False
    rerank_depth: int | None = None
    eased_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The first event. `model` is what the provider says that it runs. Held back until there is content.

    input_tokens: where the provider says them before the answer (Anthropic), else None.
    """

    model: str
    input_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text. logprobs: OpenAI's entries for it, as of a chat; of a provider's older endpoint its one table."""

    text: str
    choice: int = 0
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """New text of a refusal, where the provider keeps it apart."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """New reasoning text, or its signature, which comes last."""

    text: str = ""
    signature: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolStart:
    """A tool call begins. `index` counts the calls of this choice from 0; a new id is a new call, always."""

    index: int
    id: str
    name: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """More of the arguments (JSON text) of call `index`, cut anywhere. Never empty."""

    index: int
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """What an answer of ours rests on: `text` is passage[start:end] of `source`. number: the n of [n].

    document: the id of the passage's document; "" where an older rag does not say it.
    """

    number: int
    passage: str
    source: str
    start: int
    end: int
    score: float
    support: float
    text: str
    document: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a rag answer, after its last text. details: its usage as rag says it (JSON object)."""

    sources: tuple[Source, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a rag model knows before its answer's end, where the call asks for it. No client gets it.

    logprobs: of the tokens since the last Findings, nats. details: as far as they are known, as of Sources. prompt:
    messages {"role", "content"} with the passages that it found, for any model to answer; once.
    """

    logprobs: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    prompt: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Native:
    """A piece of an answer that only clients of `surface` can read, in its JSON; every other surface leaves it out.

    Of anthropic: a content block of a type that stands nowhere above, a citations_delta, a refusal's stop_details,
    and a content_block_stop between two blocks of text.
    """

    surface: Surface
    piece: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, cumulative: the last one counts. input_tokens includes cached_tokens and cache_write_tokens.

    None where the provider did not say; it is never estimated here.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one choice. Every choice has exactly one; without it an answer was cut."""

    reason: FinishReason
    choice: int = 0
    stop_sequence: str = ""


Event = (
    Started
    | TextDelta
    | RefusalDelta
    | ThinkingDelta
    | ToolStart
    | ToolDelta
    | Sources
    | Findings
    | Native
    | Usage
    | Finished
)


def is_content(event: Event) -> bool:
    """Whether a client that sees this event has seen a part of the answer. Lifecycle and counts are none."""
    match event:
        case TextDelta(text=text, logprobs=logprobs):
            return bool(text or logprobs)
        case RefusalDelta(text=text) | ThinkingDelta(text=text):
            return bool(text)
        case ToolStart() | ToolDelta() | Sources() | Native():
            return True
        case _:
            return False
