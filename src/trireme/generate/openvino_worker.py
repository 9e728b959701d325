"""The process that holds an OpenVINO GenAI pipeline and steps it: JSON lines in, JSON lines out.

A process of its own, because `ContinuousBatchingPipeline.step` keeps Python's lock for as long as it computes
(2026.4.1): beside it no other thread of a server could answer. It also ends what a native crash can take along.

Lines in:  {"add": [number, [token ids], {sampling}]}, {"cancel": number}
Lines out: one first, {"ready": true} or {"failed": text}; then per step
           {"steps": [[number, [token ids], finish reason or ""], ...], "kv": share in use}; behind the reason
           stands [log-probabilities] where they were asked for
A request that the library refuses ends alone, with a finish reason of "refused: " and what it says.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import sys
import time
from pathlib import Path
from typing import Any

from trireme.generate.openvino_vocabulary import find_vocabulary, structured_config

READ_BYTES = 1 << 20
OWNER_PERIOD_SECONDS = 1.0


class EngineWorker:
    """One pipeline and the requests in it."""

    def __init__(self, options: dict[str, Any], out: Any) -> None:
        import openvino
        import openvino_genai as genai

        self._openvino: Any = openvino
        self._genai: Any = genai
        self._out = out
        self._owner_pid: int = options["owner_pid"]
        self._owner_seen = time.monotonic()
        self._eos = set(options["eos_token_ids"])
        self._handles: dict[int, Any] = {}
        # Of those that asked for log-probabilities.
        self._logged: set[int] = set()
        self._refused: list[list[Any]] = []
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = options["num_kv_blocks"]
        scheduler.enable_prefix_caching = options["prefix_caching"]
        scheduler.max_num_seqs = options["max_num_seqs"]
        scheduler.max_num_batched_tokens = options["max_num_batched_tokens"]
        vocabulary = find_vocabulary(Path(options["model_dir"]), min(self._eos, default=0))
        if vocabulary is None:
            self._pipeline: Any = genai.ContinuousBatchingPipeline(
                options["model_dir"], scheduler, "CPU", options["properties"]
            )
        else:
            self._pipeline = genai.ContinuousBatchingPipeline(
                options["model_dir"], vocabulary, scheduler, "CPU", **options["properties"]
            )

    def run(self, commands: int) -> None:
        """Step while there is work, else wait for commands on the descriptor; until it or the owner ends."""
        os.set_blocking(commands, False)
        selector = selectors.DefaultSelector()
        selector.register(commands, selectors.EVENT_READ)
        buffer = b""
        while not self._is_orphan():
            is_idle = (
                not self._refused and not self._handles and not self._pipeline.has_non_finished_requests()
            )
            while selector.select(OWNER_PERIOD_SECONDS if is_idle else 0):
                data = os.read(commands, READ_BYTES)
                if not data:
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
                is_idle = False
            if not is_idle:
                if self._pipeline.has_non_finished_requests():
                    self._pipeline.step()
                self._report()

    def _is_orphan(self) -> bool:
        """Whether the owner is gone. Triton leaves its stub, our parent, behind when it is killed, pipes open."""
        now = time.monotonic()
        if now - self._owner_seen < OWNER_PERIOD_SECONDS:
            return False
        self._owner_seen = now
        return is_orphan(self._owner_pid)

    def _obey(self, command: dict[str, Any]) -> None:
        if "add" in command:
            number, prompt, sampling = command["add"]
            try:
                tokens = self._openvino.Tensor(self._openvino.Type.i64, [1, len(prompt)])
                tokens.data[0] = prompt
                self._handles[number] = self._pipeline.add_request(number, tokens, self._config(sampling))
                if sampling["logprobs"] is not None:
                    self._logged.add(number)
            except Exception as error:  # whatever it is, it concerns this request alone
                self._refused.append([number, [], f"refused: {first_lines(error)}"])
        elif handle := self._handles.get(command["cancel"]):
            handle.cancel()

    def _config(self, sampling: dict[str, Any]) -> Any:
        stops = set(sampling["stop_token_ids"]) | (set() if sampling["ignore_eos"] else self._eos)
        config = self._genai.GenerationConfig()
        config.max_new_tokens = sampling["max_tokens"]
        config.min_new_tokens = sampling["min_tokens"]
        # The library's ignore_eos ignores stop token ids, too; without an eos it takes the checkpoint's.
        config.ignore_eos = not stops
        config.stop_token_ids = stops
        config.eos_token_id = min(stops, default=-1)
        config.repetition_penalty = sampling["repetition_penalty"]
        config.presence_penalty = sampling["presence_penalty"]
        config.frequency_penalty = sampling["frequency_penalty"]
        # At 0 the library gives greedy tokens 0 and drawn ones a chance after the temperature; from 1 on the chosen
        # token's by the raw logits, and no other's.
        config.logprobs = int(sampling["logprobs"] is not None)
        config.do_sample = sampling["temperature"] > 0
        if config.do_sample:
            config.temperature = sampling["temperature"]
            config.top_p = sampling["top_p"]
            # The library wants less than 1; there is no token between.
            config.min_p = min(sampling["min_p"], 0.999999)
            config.rng_seed = sampling["seed"]
            if sampling["top_k"]:
                config.top_k = sampling["top_k"]
        if sampling["structured"] is not None:
            config.structured_output_config = structured_config(self._genai, sampling["structured"])
        return config

    def _report(self) -> None:
        steps = [made for number in list(self._handles) if (made := self._read(number)) is not None]
        steps, self._refused = steps + self._refused, []
        usage = self._pipeline.get_metrics().cache_usage / 100
        line = json.dumps({"steps": steps, "kv": usage}, separators=(",", ":"))
        self._out.write(line.encode() + b"\n")
        self._out.flush()

    def _read(self, number: int) -> list[Any] | None:
        """What the step made for one request, or None."""
        handle, status = self._handles[number], self._genai.GenerationStatus
        tokens: list[int] = []
        logprobs: list[float] = []
        reason = ""
        while handle.can_read():
            for output in handle.read().values():
                tokens += output.generated_ids
                logprobs += output.generated_log_probs
                if output.finish_reason == self._genai.GenerationFinishReason.STOP:
                    # The token that ended it comes with the others.
                    tokens.pop()
                    reason = "stop"
                elif output.finish_reason != self._genai.GenerationFinishReason.NONE:
                    reason = "length"
        state = handle.get_status()
        if not reason and state in (status.CANCEL, status.STOP):
            reason = "cancelled"
        elif not reason and state == status.IGNORED:
            reason = "ignored"
        is_logged = number in self._logged
        if reason:
            del self._handles[number]
            self._logged.discard(number)
        if not tokens and not reason:
            return None
        if not is_logged:
            return [number, tokens, reason]
        # Of the token that ended it, too. Rounded: a float32 in decimals is long, and the plugin's error is larger.
        return [number, tokens, reason, [min(round(one, 6), 0.0) for one in logprobs[: len(tokens)]]]


def is_orphan(owner_pid: int) -> bool:
    """Whether our parent's parent is not `owner_pid` any more. False for 0."""
    return bool(owner_pid) and read_parent(os.getppid()) != owner_pid


def read_parent(pid: int) -> int:
    """The parent of a process, or 0 where there is no such process."""
    return int((_stat(pid) or "? 0").split()[1])


def read_state(pid: int) -> str:
    """The state of a process as the kernel has it, such as R, S, T or Z; empty where there is no such process."""
    return (_stat(pid) or " ")[:1].strip()


def _stat(pid: int) -> str:
    """State, parent and the rest of /proc/PID/stat, or nothing."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name before it is in brackets and may hold anything.
    return stat.rpartition(")")[2].strip()


def main() -> None:
    """Options as JSON in the first argument; ends when standard input does."""
    # Libraries may print: only our lines go to the pipe.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        try:
            worker = EngineWorker(json.loads(sys.argv[1]), out)
            out.write(b'{"ready":true}\n')
            out.flush()
            worker.run(sys.stdin.fileno())
        except Exception as error:  # the parent says it to the requests
            with contextlib.suppress(OSError):
                out.write(json.dumps({"failed": first_lines(error)}).encode() + b"\n")
                out.flush()
            os._exit(1)
    # Threads of the library must not keep the process.
    os._exit(0)


def first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300].replace(str(Path.cwd()), ".")


if __name__ == "__main__":
    main()
