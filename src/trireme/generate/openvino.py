"""The CPU engine: OpenVINO GenAI's ContinuousBatchingPipeline, in a process of its own.

The pipeline schedules, batches, samples and caches prefixes; this side keeps the bounded queue and starts the
process again when it ends. See openvino_worker for why it is a process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import queue
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from trireme.errors import ArtifactError, InvalidInputError, SettingError, TriremeError, UnavailableError
from trireme.generate.adapter_marks import choice_size, mark_prompt
from trireme.generate.engine import Chunk, EngineOptions, EngineRequest, EngineStats, check_adapter
from trireme.generate.form_check import FormCheck
from trireme.generate.openvino_properties import compile_properties
from trireme.generate.openvino_worker import read_state
from trireme.generate.request_table import RequestTable

MODEL_FILE = "openvino_model.xml"
CONFIG_FILE = "config.json"
# Tokens of one block of the paged KV cache on CPU.
BLOCK_TOKENS = 32
# A value in the cache, in bytes; u8 has a scale and a zero point (two floats) per head beside it.
_VALUE_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "u8": 1.25}
MAX_RESTART_SECONDS = 30.0
WATCH_SECONDS = 1.0
# A process that a signal holds still, or that has requests and says nothing, for so long is replaced.
STOPPED_SECONDS = 10.0
STUCK_SECONDS = 300.0

_log = logging.getLogger(__name__)


class OpenVinoEngine:
    """Steps run in a child process. A step that fails, or a process that dies, fails what is open and starts anew.

    A request starts when the KV cache has room for its prompt and max_tokens, so none is thrown out later. The
    library has no cache salt: prefixes are shared between tenants. A form of an answer is tried in a process beside
    (see openvino_forms) before the request starts. It does not count prefix-cache hits,
    neither in all nor of a request: chunks have no cached_tokens. It says the log-probability of the
    chosen token alone. Adapters are part of the graph, which finds the choice in the prompt.
    """

    def __init__(self, options: EngineOptions) -> None:
        """Blocks until the model is compiled. Raises ArtifactError, and SettingError for a KV cache too small."""
        properties = compile_properties(options.threads)
        blocks = count_blocks(options, str(properties.get("KV_CACHE_PRECISION", "f16")))
        self._arguments = json.dumps(
            {
                "model_dir": str(options.model_dir),
                "eos_token_ids": options.eos_token_ids,
                "max_num_seqs": options.max_num_seqs,
                "max_num_batched_tokens": options.max_num_batched_tokens,
                "prefix_caching": options.prefix_caching,
                "num_kv_blocks": blocks,
                "properties": properties,
                "owner_pid": options.owner_pid,
            }
        )
        self._options = options
        self._vocabulary = _read_vocabulary(options) if options.adapters else 0
        self._table = RequestTable(options.max_num_seqs, options.max_waiting, blocks, BLOCK_TOKENS)
        self._lock = threading.Lock()
        self._count = itertools.count(1)
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        # Running for the table; their forms are tried before the process hears of them.
        self._unchecked: dict[str, EngineRequest] = {}
        self._forms = FormCheck(
            [_interpreter(), "-I"], options.model_dir, options.owner_pid, self._on_checked
        )
        self._kv_usage = 0.0
        self._restarts = 0
        self._closed = threading.Event()
        self._worker = _Process(self._arguments)
        self._heard_at = time.monotonic()
        self._reader = threading.Thread(target=self._read, name="openvino-engine", daemon=True)
        self._reader.start()
        self._watcher = threading.Thread(target=self._watch, name="openvino-watch", daemon=True)
        self._watcher.start()

    def submit(self, request: EngineRequest) -> None:
        check_adapter(request.adapter, self._options)
        if self._vocabulary and max(request.prompt) >= self._vocabulary:
            # To the graph such an id would be the choice of an adapter.
            raise InvalidInputError(
                f"the prompt has the token {max(request.prompt)}, but the ids of the model's tokens end at"
                f" {self._vocabulary - 1}"
            )
        if request.adapter and request.sampling.repetition_penalty != 1:
            # The library looks up each token of the prompt among the logits.
            raise InvalidInputError(
                "repetition_penalty must be 1 with an adapter on the openvino engine, got"
                f" {request.sampling.repetition_penalty:g}; presence_penalty and frequency_penalty may be set"
            )
        if request.sampling.logprobs:
            raise InvalidInputError(
                "top_logprobs must be 0: the openvino engine says the log-probability of the chosen token alone,"
                f" got {request.sampling.logprobs}"
            )
        self._table.submit(request)
        self._admit()

    def stream(self) -> Iterator[list[Chunk]]:
        return self._table.stream()

    def cancel(self, request_id: str) -> None:
        was_running = self._table.cancel(request_id)
        with self._lock:
            unchecked = self._unchecked.pop(request_id, None)
            # Whoever moved it to running has told the worker before it let go of the lock.
            if was_running and request_id in self._numbers:
                self._worker.send({"cancel": self._numbers[request_id]})
        if unchecked is not None:
            self._table.deliver([Chunk(request_id, finish_reason="cancelled")])
            self._admit()

    def stats(self) -> EngineStats:
        waiting, running = self._table.counts()
        waits, wait_seconds = self._table.waits()
        return EngineStats(
            # One that somebody stopped answers nobody, and says nothing of it.
            is_ready=self._table.is_up() and not self._worker.is_stopped(),
            waiting=waiting,
            running=running,
            kv_cache_usage=self._kv_usage if running else 0.0,
            restarts=self._restarts,
            waits=waits,
            wait_seconds=wait_seconds,
        )

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            self._worker.kill()
        self._forms.close()
        self._reader.join()
        self._watcher.join()
        self._table.close()

    @property
    def worker_pid(self) -> int:
        """Process id of the worker that serves now."""
        return self._worker.pid

    def _admit(self) -> None:
        with self._lock:
            for request in self._table.admit():
                if request.sampling.structured is None:
                    self._start(request)
                else:
                    self._unchecked[request.request_id] = request
                    self._forms.ask(request)

    def _start(self, request: EngineRequest) -> None:
        number = next(self._count)
        self._numbers[request.request_id] = number
        self._names[number] = request.request_id
        adapter = self._options.adapters.index(request.adapter) + 1 if request.adapter else 0
        prompt = mark_prompt(request.prompt, adapter, self._vocabulary)
        self._worker.send({"add": [number, prompt, _sampling(request)]})

    def _on_checked(self, request: EngineRequest, error: TriremeError | None) -> None:
        """Called by the thread that tries forms."""
        with self._lock:
            # Not one that was cancelled, or failed with the process, in the meantime.
            if self._unchecked.get(request.request_id) is not request:
                return
            del self._unchecked[request.request_id]
            if error is None:
                self._start(request)
                return
        self._table.deliver([Chunk(request.request_id, error=error)])
        self._admit()

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                reason = self._follow()
            except Exception:
                # Without this thread nobody would start another process.
                _log.exception("a report of the LLM engine could not be taken")
                reason = "a report of it could not be taken"
            if not self._closed.is_set():
                self._restart(reason)

    def _follow(self) -> str:
        """Delivers what the process reports, until it ends; why it did."""
        for report in self._worker.reports():
            if "failed" in report:
                return str(report["failed"])
            self._heard_at = time.monotonic()
            self._kv_usage = report["kv"]
            self._table.deliver([self._chunk(*made) for made in report["steps"]])
            self._admit()
        return "its process ended"

    def _watch(self) -> None:
        """Ends a process that does not go on by itself: its reader then starts another."""
        stopped = 0.0
        while not self._closed.wait(WATCH_SECONDS):
            worker = self._worker
            stopped = stopped + WATCH_SECONDS if worker.is_stopped() else 0.0
            # None that it knows: those whose forms are tried run for the table alone.
            if not self._names:
                self._heard_at = time.monotonic()
            is_stuck = time.monotonic() - self._heard_at > STUCK_SECONDS
            if stopped > STOPPED_SECONDS or is_stuck:
                _log.error("the LLM engine stands still; its process %d is ended", worker.pid)
                self._heard_at, stopped = time.monotonic(), 0.0
                worker.end()

    def _chunk(self, number: int, tokens: list[int], reason: Any, logprobs: Sequence[float] = ()) -> Chunk:
        request_id = self._names[number]
        if reason:
            with self._lock:
                del self._names[number], self._numbers[request_id]
        if isinstance(reason, str) and reason.startswith("refused: "):
            said = reason.removeprefix("refused: ")
            return Chunk(
                request_id, error=InvalidInputError(f"sampling_parameters: the LLM engine says: {said}")
            )
        # No alternatives: an empty list for each token.
        made = Chunk(request_id, tuple(tokens), logprobs=tuple(logprobs), top_logprobs=((),) * len(logprobs))
        if reason == "ignored":
            error = UnavailableError("the KV cache has no room left; raise kv_cache_gb or lower max_num_seqs")
            return replace(made, error=error)
        return replace(made, finish_reason=reason)

    def _restart(self, reason: str) -> None:
        pause = 1.0
        while not self._closed.is_set():
            self._worker.kill()
            _log.error(
                "the LLM engine failed (%s) with %d requests; it starts again",
                reason,
                sum(self._table.counts()),
            )
            failure = f"the LLM engine failed ({reason}) and starts again; try again in a moment"
            self._table.go_down(UnavailableError(failure))
            try:
                worker = _Process(self._arguments)
            except TriremeError as error:
                reason = str(error)
                self._closed.wait(pause)
                pause = min(2 * pause, MAX_RESTART_SECONDS)
                continue
            with self._lock:
                self._numbers, self._names, self._unchecked = {}, {}, {}
                self._worker = worker
                self._restarts += 1
            if self._closed.is_set():
                worker.kill()
            else:
                self._table.come_up()
                _log.warning("the LLM engine is up again, start %d after a failure", self._restarts)
            return


class _Process:
    """One worker process, with a thread that writes to it so that `send` never blocks."""

    def __init__(self, arguments: str) -> None:
        """Blocks until the pipeline is there. Raises ArtifactError with the library's reason."""
        # -I: neither the folder it starts in nor PYTHON variables change what is imported.
        command = [_interpreter(), "-I", "-m", "trireme.generate.openvino_worker", arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        first = self._first_report()
        if "failed" in first:
            self._process.kill()
            self._process.communicate()
            raise ArtifactError(f"OpenVINO cannot load the model: {first['failed']}")
        self._writer = threading.Thread(target=self._write, name="openvino-writer", daemon=True)
        self._writer.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_stopped(self) -> bool:
        """Whether a signal holds the process still."""
        return read_state(self.pid) in ("T", "t")

    def send(self, command: dict[str, Any]) -> None:
        """Hand over a command; lost when the process is gone. Does not block."""
        self._commands.put(command)

    def reports(self) -> Iterator[dict[str, Any]]:
        """What the process says; blocks; ends with it."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        with self._process.stdout as lines:
            for line in lines:
                # One that was killed may leave half a line.
                if not line.endswith(b"\n"):
                    return
                yield json.loads(line)

    def end(self) -> None:
        """Kill the process; `reports` ends. Does not block."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and the thread. Safe to call twice."""
        self._process.kill()
        self._process.wait()
        self._commands.put(None)
        self._writer.join()

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - for the type checker
        # A process that is gone is the reader's to see.
        with contextlib.suppress(OSError), pipe:
            while (command := self._commands.get()) is not None:
                pipe.write(json.dumps(command, separators=(",", ":")).encode() + b"\n")
                if self._commands.empty():
                    pipe.flush()

    def _first_report(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"failed": "its process ended at once; the log may say why"}


def _interpreter() -> str:
    """This Python. Inside Triton's stub sys.executable may be empty: then the first python3 on the path."""
    return sys.executable or shutil.which("python3") or "python3"


def _sampling(request: EngineRequest) -> dict[str, Any]:
    sampling = asdict(request.sampling)
    if sampling["seed"] is None:
        sampling["seed"] = secrets.randbits(32)
    return sampling


def _read_vocabulary(options: EngineOptions) -> int:
    path = options.model_dir / CONFIG_FILE
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} does not say the size of the vocabulary: {error!r}") from None


def count_blocks(options: EngineOptions, precision: str) -> int:
    """Blocks of the KV cache in kv_cache_gb (1e9 bytes). Raises SettingError when one request may not fit."""
    path = options.model_dir / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        heads = int(config["num_attention_heads"])
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        values = config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * head_dim * 2
        values += 2 * choice_size(len(options.adapters))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} does not say the shape of the KV cache: {error!r}") from None
    token_bytes = values * _VALUE_BYTES[precision]
    blocks = int(options.kv_cache_gb * 1e9 / (token_bytes * BLOCK_TOKENS))
    if blocks * BLOCK_TOKENS < options.max_model_len:
        needed = (options.max_model_len + BLOCK_TOKENS) * token_bytes / 1e9
        raise SettingError(
            f"kv_cache_gb is {options.kv_cache_gb:g}, but one request of max_model_len"
            f" {options.max_model_len} needs {needed:.3g}; raise it or lower max_model_len"
        )
    return blocks
