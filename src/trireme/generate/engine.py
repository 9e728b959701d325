"""The engine port: token ids in, token ids out. Text, chat templates and stop strings live above it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from trireme.errors import InvalidInputError, TriremeError

FinishReason = Literal["", "stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class StructuredOutput:
    """What the whole answer must be; see `generate.structured`.

    text: a JSON schema, a regular expression, or a grammar in EBNF with a rule named root.
    """

    kind: Literal["json", "regex", "grammar"]
    text: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen, and when to end. Checked by `generate.sampling` before it gets here.

    temperature 0 is greedy. top_k 0 and top_p 1 leave all tokens in. seed None draws a new one.
    Stop strings are not here: the text layer finds them and cancels.
    logprobs: None, or how many of the likeliest tokens are named beside each chosen one (0: the chosen one alone).
    structured: the answer ends with it, or is cut by max_tokens; min_tokens is 0 then and ignore_eos false.
    """

    max_tokens: int
    # Before so many tokens no eos and no stop token id ends the answer; at most max_tokens.
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    structured: StructuredOutput | None = None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One prompt of at least one token. `cache_salt` keeps tenants from sharing cached prefixes.

    adapter: one of the engine's, by name, that answers in the model's place, "" for none: no prefixes are shared.
    """

    request_id: str
    prompt: tuple[int, ...]
    sampling: Sampling
    cache_salt: str = ""
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens of one request. A finish_reason or an error makes it the request's last.

    The token that ended it (eos or a stop token id) is not among `tokens`.
    cached_tokens: how many tokens of the prompt the prefix cache had. Said by the first chunk that a step makes for
    the request, so that it is known however the answer ends; later ones may repeat it. None: the engine does not
    count, or no step read the prompt.
    logprobs: where they were asked for, of each of `tokens` the natural logarithm of its probability, at most 0, by
    the model's own distribution: before temperature, penalties, min_tokens and what narrows the draw.
    waited: seconds that the request waited before the engine took it, said by the first chunk alone. None: it was
    not taken, or the engine does not say.
    top_logprobs: for each, the likeliest tokens with theirs, likeliest first, as many as were asked for; the chosen
    one may be among them.
    """

    request_id: str
    tokens: tuple[int, ...] = ()
    finish_reason: FinishReason = ""
    error: TriremeError | None = None
    cached_tokens: int | None = None
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()
    waited: float | None = None

    @property
    def is_last(self) -> bool:
        """True when nothing more comes for this request."""
        return bool(self.finish_reason) or self.error is not None


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. Counters only grow; kv_cache_usage is in [0, 1].

    waits, wait_seconds: requests that have started, or with vLLM ended, and how long they had waited together.
    """

    is_ready: bool
    waiting: int
    running: int
    kv_cache_usage: float
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    restarts: int = 0
    waits: int = 0
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is opened with. `model_dir` holds the exported model; lengths are in tokens.

    max_waiting bounds the requests that are submitted and not yet running; one more is refused.
    """

    model_dir: Path
    eos_token_ids: tuple[int, ...]
    max_model_len: int
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    max_waiting: int = 256
    prefix_caching: bool = True
    kv_cache_gb: float = 1.0
    gpu_memory_utilization: float = 0.9
    # Cards that share the weights, the first ones that are visible; with 1 the one of device_id (None: the first).
    tensor_parallel_size: int = 1
    device_id: int | None = None
    # Threads for one step; 0 means one per core.
    threads: int = 0
    # Names of the LoRAs that requests may choose among, and the largest of their ranks.
    adapters: tuple[str, ...] = ()
    adapter_rank: int = 0
    # The process that started this one: an engine's own processes end with it. 0: they do not watch an owner.
    owner_pid: int = 0


def check_adapter(name: str, options: EngineOptions) -> None:
    """Raises InvalidInputError for an adapter that the engine does not have; "" is none."""
    if not name or name in options.adapters:
        return
    there = ", ".join(options.adapters)
    raise InvalidInputError(
        f"lora_name {name[:64]!r} is no adapter of this model; "
        + (f"there are: {there}" if there else "it has none: leave it out")
    )


class Engine(Protocol):
    """Continuous batching behind five verbs; safe to call from any thread."""

    def submit(self, request: EngineRequest) -> None:
        """Queue a request; does not block. Raises UnavailableError when the queue is full or the engine is down.

        Raises InvalidInputError where sampling.logprobs asks for more alternatives than the engine gives, and for
        an adapter that it does not have, with the names of those it has. A sampling.structured that it cannot hold
        is the InvalidInputError of the request's last chunk.
        """

    def stream(self) -> Iterator[list[Chunk]]:
        """What each step made, for all requests; blocks between steps, ends after `close`. One consumer.

        Every submitted request gets exactly one last chunk, also when a step fails (UnavailableError in it).
        """

    def cancel(self, request_id: str) -> None:
        """End a request; its last chunk says cancelled. Unknown or ended ids are left alone. Does not block."""

    def stats(self) -> EngineStats:
        """Counts of now. Does not block on a step."""

    def close(self) -> None:
        """Cancel what runs, end `stream`, give back memory. Blocks until the engine's threads are gone."""
