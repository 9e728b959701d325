"""The engine on GPUs: vLLM's AsyncLLM (version 0.24), its event loop in a thread of its own.

vLLM runs its scheduler and model in a process of its own; here its outputs are only collected. One task per
request would wake once per request and step: instead vLLM's statistics hook, which it calls once after each
step, empties all requests' collectors into one list.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trireme.errors import ArtifactError, InvalidInputError, TriremeError, UnavailableError
from trireme.generate.chunk_queue import ChunkQueue
from trireme.generate.engine import (
    Chunk,
    EngineOptions,
    EngineRequest,
    EngineStats,
    Sampling,
    check_adapter,
)
from trireme.generate.vllm_arguments import (
    engine_arguments,
    lora_request,
    sampling_parameters,
    visible_devices,
)
from trireme.generate.vllm_output import engine_failed, read_output
from trireme.vllm_environment import ENVIRONMENT

RESTART_PAUSE_SECONDS = 5.0
# What vLLM's process is asked first: one that has died leaves it unanswered.
ASK_SECONDS = 60.0
# Below the time that a stopping tritonserver gives its models.
SHUTDOWN_SECONDS = 3.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Counts:
    """vLLM's scheduler as it was after its last step."""

    running: int = 0
    kv_cache_usage: float = 0.0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    waits: int = 0
    wait_seconds: float = 0.0


class _StepHook:
    """A vLLM stat logger: called in the event loop once after each step, when all collectors are filled."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine

    def __call__(self, *_: Any) -> _StepHook:
        """vLLM asks for a factory that is given its configuration and the engine's index."""
        return self

    def record(self, scheduler_stats: Any = None, iteration_stats: Any = None, *_: Any, **__: Any) -> None:
        self._engine._count_waits(iteration_stats)
        self._engine._end_step(scheduler_stats)

    def log(self) -> None:
        """Nothing to print; `stats` has the counts."""

    def log_engine_initialized(self) -> None:
        """Nothing to print."""

    def record_sleep_state(self, *_: Any) -> None:
        """This engine does not sleep."""


class _Signal:
    """Not a request: the serving loop ends."""


_DIED, _CLOSED = _Signal(), _Signal()


class VllmEngine:
    """Continuous batching on one GPU, or on several that share the weights.

    The folder is a Hugging Face checkpoint in safetensors.

    At most max_num_seqs + max_waiting requests are in flight. kv_cache_gb and threads are not used: the cache
    takes what gpu_memory_utilization leaves. When vLLM's process dies, all requests fail with UnavailableError,
    and it is started again in the background; until then `submit` refuses. Counts in `stats` are the
    scheduler's own, after its last step.
    """

    def __init__(self, options: EngineOptions) -> None:
        """Blocks until the model is loaded. Raises ArtifactError where it cannot be."""
        self._options = options
        self._devices = visible_devices(options, os.environ)
        self._chunks = ChunkQueue()
        self._lock = threading.Lock()
        self._unfinished: set[str] = set()
        self._is_ready = False
        self._is_closed = False
        self._restarts = 0
        self._counts = _Counts()
        # The four below belong to the event loop's thread.
        self._collectors: dict[str, Any] = {}
        # Alternatives that a request asked for, where it asked for log-probabilities.
        self._alternatives: dict[str, int | None] = {}
        self._commands: asyncio.Queue[EngineRequest | str | _Signal]
        self._llm: Any = None
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._failure: TriremeError | None = None
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def submit(self, request: EngineRequest) -> None:
        """See `Engine.submit`. Raises InvalidInputError for an id that is already running."""
        check_adapter(request.adapter, self._options)
        limit = self._options.max_num_seqs + self._options.max_waiting
        with self._lock:
            if not self._is_ready:
                raise UnavailableError("the engine is not running; send the request again in a minute")
            if len(self._unfinished) >= limit:
                running = min(self._counts.running, limit)
                raise UnavailableError(
                    f"{limit - running} requests wait already and {running} run;"
                    " try again later or raise max_waiting"
                )
            if request.request_id in self._unfinished:
                raise InvalidInputError(f"request id {request.request_id!r} is in use")
            self._unfinished.add(request.request_id)
            self._post(request)

    def stream(self) -> Iterator[list[Chunk]]:
        """See `Engine.stream`. A consumer that is slower than the steps gets several steps' tokens in one chunk."""
        while chunks := self._chunks.take():
            yield chunks

    def cancel(self, request_id: str) -> None:
        """See `Engine.cancel`."""
        with self._lock:
            if request_id in self._unfinished:
                self._post(request_id)

    def stats(self) -> EngineStats:
        """See `Engine.stats`."""
        counts = self._counts
        running = counts.running
        return EngineStats(
            is_ready=self._is_ready,
            waiting=max(0, len(self._unfinished) - running),
            running=running,
            kv_cache_usage=counts.kv_cache_usage,
            prefix_cache_queries=counts.prefix_cache_queries,
            prefix_cache_hits=counts.prefix_cache_hits,
            restarts=self._restarts,
            waits=counts.waits,
            wait_seconds=counts.wait_seconds,
        )

    def close(self) -> None:
        """See `Engine.close`. A start that is under way is waited for."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._is_ready = False
                self._post(_CLOSED)
        self._thread.join()

    def _post(self, command: EngineRequest | str | _Signal) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._commands.put_nowait(command))

    # From here on: the event loop's thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._supervise())
        finally:
            self._chunks.close()
            with self._lock:
                self._loop.close()
            self._started.set()

    async def _supervise(self) -> None:
        while not self._is_closed:
            # A fresh one: an engine's end may still be announced after it was noticed.
            self._commands = asyncio.Queue()
            try:
                self._llm = await self._open()
            except Exception as error:
                _log.exception("vLLM did not start")
                if not self._started.is_set():
                    self._failure = _explain(error, self._options)
                    return
                await asyncio.sleep(RESTART_PAUSE_SECONDS)
                continue
            self._counts.running = 0
            with self._lock:
                self._is_ready = not self._is_closed
            self._started.set()
            try:
                await self._serve()
            finally:
                await self._end_all()
                self._llm.shutdown(timeout=SHUTDOWN_SECONDS)
                # The requests' last words and the tasks that the shutdown cancelled.
                await asyncio.sleep(0)
            self._restarts += not self._is_closed

    async def _open(self) -> Any:
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        os.environ.update(self._devices)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        # Made inside the running loop, so that it reads outputs, and notices a death, from the start.
        llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**engine_arguments(self._options)), stat_loggers=[_StepHook(self)]
        )
        commands = self._commands
        llm.output_handler.add_done_callback(lambda _: commands.put_nowait(_DIED))
        try:
            # Its first request would ask this.
            await asyncio.wait_for(llm.get_supported_tasks(), timeout=ASK_SECONDS)
            # One that cannot be loaded would fail whoever asks for it first.
            for name in self._options.adapters:
                await self._load_adapter(llm, name)
        except BaseException:
            # Its memory is the next start's.
            llm.shutdown(timeout=SHUTDOWN_SECONDS)
            raise
        return llm

    async def _load_adapter(self, llm: Any, name: str) -> None:
        """Takes as long as its files do. Raises what vLLM raises, and RuntimeError where its process ends."""
        loading = asyncio.ensure_future(llm.add_lora(lora_request(name, self._options)))
        await asyncio.wait({loading, llm.output_handler}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            raise RuntimeError(f"its process ended while it read the adapter {name}")
        loading.result()

    async def _serve(self) -> None:
        """Carry out commands until vLLM dies or `close` is called."""
        while True:
            command = await self._commands.get()
            if isinstance(command, _Signal):
                return
            try:
                if isinstance(command, EngineRequest):
                    await self._admit(command)
                elif command in self._collectors:
                    await self._llm.abort(command)
                    self._collect(command)
            except Exception:
                # What else fails here is vLLM's process, gone; its end is the next command.
                _log.exception("vLLM does not answer")
                return

    async def _admit(self, request: EngineRequest) -> None:
        from vllm.inputs.engine import tokens_input

        request_id = request.request_id
        if request_id not in self._unfinished:
            return
        prompt = tokens_input(list(request.prompt), cache_salt=request.cache_salt or None)
        try:
            parameters = sampling_parameters(request.sampling, self._stop_token_ids(request.sampling))
            self._alternatives[request_id] = request.sampling.logprobs
            self._collectors[request_id] = await self._llm.add_request(
                request_id, prompt, parameters, lora_request=lora_request(request.adapter, self._options)
            )
        except ValueError as error:
            self._finish(request_id)
            self._chunks.put(
                [Chunk(request_id, error=InvalidInputError(f"vLLM refuses the request: {error}"))]
            )
            return
        # It may have ended while it was being added; no step would tell.
        self._collect(request_id)

    def _stop_token_ids(self, sampling: Sampling) -> tuple[int, ...]:
        """Ids that end an answer, those of the request left out. A form ends with the tokenizer's own."""
        if sampling.structured is None:
            return self._options.eos_token_ids
        own = getattr(self._llm.tokenizer, "eos_token_id", None)
        return (*self._options.eos_token_ids, *([] if own is None else [own]))

    def _count_waits(self, iteration: Any) -> None:
        """vLLM says how long a request waited once it has ended (IterationStats.finished_requests)."""
        for ended in getattr(iteration, "finished_requests", ()):
            self._counts.waits += 1
            self._counts.wait_seconds += ended.queued_time

    def _end_step(self, scheduler: Any) -> None:
        if scheduler is not None:
            counts = self._counts
            counts.running = scheduler.num_running_reqs
            counts.kv_cache_usage = scheduler.kv_cache_usage
            counts.prefix_cache_queries += scheduler.prefix_cache_stats.queries
            counts.prefix_cache_hits += scheduler.prefix_cache_stats.hits
        self._collect(*self._collectors)

    def _collect(self, *request_ids: str) -> None:
        chunks = []
        for request_id in request_ids:
            try:
                output = self._collectors[request_id].get_nowait()
                if output is not None:
                    chunks.append(read_output(request_id, output, self._alternatives[request_id]))
            except Exception as error:
                _log.error("vLLM failed request %s: %s", request_id, error)
                chunks.append(Chunk(request_id, error=engine_failed()))
        for chunk in chunks:
            if chunk.is_last:
                self._finish(chunk.request_id)
        if chunks:
            self._chunks.put(chunks)

    async def _end_all(self) -> None:
        """Give every unfinished request its last chunk: cancelled after `close`, else the error."""
        with self._lock:
            self._is_ready = False
        self._counts.running = 0
        self._counts.kv_cache_usage = 0.0
        if self._is_closed and not self._llm.errored:
            await self._llm.abort(list(self._collectors))
            self._collect(*self._collectors)
        left = [
            Chunk(request_id, finish_reason="cancelled")
            if self._is_closed
            else Chunk(request_id, error=engine_failed())
            for request_id in self._unfinished
        ]
        for chunk in left:
            self._finish(chunk.request_id)
        self._chunks.put(left)

    def _finish(self, request_id: str) -> None:
        self._collectors.pop(request_id, None)
        self._alternatives.pop(request_id, None)
        with self._lock:
            self._unfinished.discard(request_id)


def _explain(error: Exception, options: EngineOptions) -> TriremeError:
    if isinstance(error, ImportError):
        return UnavailableError(f"vLLM cannot be imported: {error}; serve from an image that has it")
    reason = str(error).strip().splitlines()
    return ArtifactError(
        f"vLLM did not start with {options.model_dir}: {reason[-1] if reason else type(error).__name__};"
        " the server's log has the details"
    )
