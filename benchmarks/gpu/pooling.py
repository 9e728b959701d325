"""Three embedding models and a reranker of real shapes on one GPU: vLLM alone, ours on engine vllm and on torch.

    for NAME in bge-m3 qwen3-embedding-0.6b embeddinggemma-300m qwen3-reranker-0.6b:
        python -m benchmarks.gpu.pooling_models NAME
    OUT=FOLDER POOL_SECONDS=430 python -m benchmarks.gpu.pooling

All engines start at once and are then measured in turn, the others idle. Writes OUT/pool.json as it goes, what
matters most first.
"""

import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.pooling_models import NAMES, RERANKER, WORK, draw_rows
from benchmarks.rivals.common import Job, read_versions

OUT = Path(os.environ.get("OUT", WORK))
SECONDS = float(os.environ.get("POOL_SECONDS", "430"))
PASSES = 3
START_SECONDS, JOB_SECONDS = 230.0, 60.0
# What starts may not take of SECONDS.
MEASURE_SECONDS = 110.0
# Said before anything ran: cosines to fp32, in bf16 and with weights that bf16 holds.
BOUNDS = {"cosine_median": 0.999, "cosine_min": 0.99}
SCORE_BOUNDS = {"rank_correlation": 0.97, "score_difference": 0.05}
DEATH = ("bge-m3", "ours-vllm")
ENGINES = ("vllm", "ours-vllm", "ours-torch")
Pair = tuple[str, str]


class Contestant:
    """The process of one model on one engine."""

    def __init__(self, pair: Pair) -> None:
        name, engine = pair
        # Engines that start side by side would compile into one folder.
        environ = os.environ | {"VLLM_CACHE_ROOT": str(WORK / f"cache-{name}-{engine}")}
        with (WORK / f"{name}-{engine}.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.pooling_engines", name, engine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
                start_new_session=True,
            )
        self._answers: queue.Queue[Job] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.tell(do="open")

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._answers.put(json.loads(line))
        self._answers.put({"error": "its process has ended"})

    def tell(self, **job: Any) -> None:
        """Sends a job. A process that has ended answers so."""
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()

    def hear(self, seconds: float) -> Job:
        """The next answer."""
        seconds = max(0.5, seconds)
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            return {"error": f"no answer within {seconds:.0f} s"}

    def ask(self, within: float, **job: Any) -> Job:
        """Sends a job and waits so many seconds."""
        self.tell(**job)
        return self.hear(within)

    def end(self) -> None:
        """Ends it with all that it started."""
        with suppress(OSError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        self._reader.join(timeout=5)
        for stream in (self.process.stdin, self.process.stdout):
            # Nobody reads what is still in the pipe.
            with suppress(OSError):
                if stream is not None:
                    stream.close()


class Run:
    """One run, which ends in time."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + SECONDS
        self.said: dict[str, Any] = {
            "bounds": BOUNDS,
            "score_bounds": SCORE_BOUNDS,
            "rows": _count_rows(),
            "machine": _describe_machine(),
            "models": {name: {} for name in NAMES},
        }

    @property
    def left(self) -> float:
        """Seconds."""
        return self._deadline - time.monotonic()

    def figures(self, pair: Pair) -> dict[str, Any]:
        """What is known of one contestant."""
        figures: dict[str, Any] = self.said["models"][pair[0]].setdefault(pair[1], {})
        return figures

    def save(self) -> None:
        """Writes what is known by now."""
        (OUT / "pool.json").write_text(json.dumps(self.said, indent=1) + "\n")

    def start(self) -> dict[Pair, Contestant]:
        """Those that became ready; the others have ended."""
        started = {pair: Contestant(pair) for pair in _find_pairs()}
        limit = time.monotonic() + min(START_SECONDS, self.left - MEASURE_SECONDS)
        live = {}
        for pair, one in started.items():
            answer = one.hear(limit - time.monotonic())
            self.figures(pair).update(answer)
            print(pair, answer, flush=True)
            self.save()
            if "error" in answer:
                one.end()
            else:
                live[pair] = one
        return live

    def measure(self, live: dict[Pair, Contestant]) -> None:
        """A warm-up and agreement, then passes in turn, then rates."""
        for pair, one in live.items():
            figures = self.figures(pair)
            figures["warm_up"] = self._ask(one, do="pass")
            figures.update(self._ask(one, do="check"))
            if pair[1] == "ours-vllm":
                figures.update(self._ask(one, do="probe"))
            figures |= {"passes_s": [], "embed_s": []}
            self.save()
        for _ in range(PASSES):
            for pair, one in live.items():
                self._add_pass(self.figures(pair), "passes_s", self._ask(one, do="pass"))
                if pair[1] == "vllm" and pair[0] != RERANKER:
                    self._add_pass(self.figures(pair), "embed_s", self._ask(one, do="pass", way="embed"))
            self.save()
        for pair in live:
            self._finish(pair)
        self.save()

    def _ask(self, one: Contestant, **job: Any) -> Job:
        return one.ask(min(JOB_SECONDS, self.left), **job)

    def _add_pass(self, figures: dict[str, Any], name: str, answer: Job) -> None:
        if "seconds" in answer:
            figures[name].append(answer["seconds"])
        else:
            figures["error"] = answer["error"]

    def _finish(self, pair: Pair) -> None:
        figures = self.figures(pair)
        for name, rate in (("passes_s", "tokens_per_s"), ("embed_s", "embed_tokens_per_s")):
            if figures[name]:
                figures[rate] = self.said["rows"]["tokens"] / statistics.median(figures[name])
        figures["within_bounds"] = _keeps(figures, pair[0])
        print(pair, json.dumps(figures), flush=True)

    def kill(self, one: Contestant) -> None:
        """What becomes of a run whose vLLM is killed."""
        death = one.ask(self.left, do="kill", seconds=self.left - 5)
        if "waiting_run" in death:
            self.figures(DEATH)["death"] = death
        print("death", death, flush=True)
        self.save()


def _keeps(figures: dict[str, Any], name: str) -> bool:
    """Whether it agrees with fp32 as was said beforehand."""
    if name == RERANKER:
        rank, difference = figures.get("rank_correlation", 0.0), figures.get("score_difference", 1.0)
        return rank >= SCORE_BOUNDS["rank_correlation"] and difference <= SCORE_BOUNDS["score_difference"]
    return all(figures.get(key, 0) >= least for key, least in BOUNDS.items())


def _find_pairs() -> list[Pair]:
    """Those whose files are there."""
    pairs = [(name, engine) for name in NAMES for engine in ENGINES]
    return [
        pair for pair in pairs if (WORK / pair[0] / ("source" if pair[1] == "vllm" else pair[1])).is_dir()
    ]


def _count_rows() -> dict[str, int]:
    lengths = [len(row) for row in draw_rows(_find_pairs()[0][0])]
    return {
        "count": len(lengths),
        "tokens": sum(lengths),
        "shortest": min(lengths),
        "longest": max(lengths),
    }


def _describe_machine() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = {"vllm": ""} | read_versions("vllm", "torch", "transformers", "triton")
    cores = len(os.sched_getaffinity(0))
    return {"gpu": gpu, "cores": cores, "versions": versions, "when": time.strftime("%Y-%m-%d")}


def main() -> None:
    run = Run()
    ends: list[Callable[[], None]] = []
    try:
        live = run.start()
        ends += [one.end for one in live.values()]
        for name in NAMES:
            run.measure({pair: one for pair, one in live.items() if pair[0] == name})
        for pair, one in live.items():
            if pair != DEATH:
                one.end()
        if DEATH in live and run.left > JOB_SECONDS / 2:
            run.kill(live[DEATH])
    finally:
        for end in ends:
            end()


if __name__ == "__main__":
    main()
