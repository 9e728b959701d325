"""One model on one engine, answering jobs from stdin, a line of JSON each.

    python -m benchmarks.gpu.pooling_engines NAME vllm|ours-vllm|ours-torch

`vllm` is vLLM's LLM over the checkpoint's folder; ours is a session behind the queue that served encoders have.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu.pooling_models import CHECKED, MAX_LENGTH, RERANKER, WORK, draw_rows
from benchmarks.rivals.common import Job, serve

STEP_TOKENS, STEP_ROWS = 16384, 1024
MEMORY_SHARE, KV_BYTES = 0.1, 8 << 30
Rows = Sequence[list[int]]


class Direct:
    """As vLLM's documentation has it: it reads pooling, layers behind it and normalization from the folder."""

    def __init__(self, name: str) -> None:
        from vllm import LLM

        self.is_reranker = name == RERANKER
        self.llm = LLM(
            str(WORK / name / ("source-head" if self.is_reranker else "source")),
            runner="pooling",
            dtype="bfloat16",
            max_model_len=MAX_LENGTH,
            max_num_seqs=STEP_ROWS,
            max_num_batched_tokens=STEP_TOKENS,
            gpu_memory_utilization=MEMORY_SHARE,
            kv_cache_memory_bytes=KV_BYTES,
            # The same rows come again in each pass.
            enable_prefix_caching=False,
            load_format="safetensors",
            seed=0,
            disable_log_stats=True,
        )

    def embed(self, rows: Rows, way: str) -> Any:
        """Unit vectors, or scores. way: "embed" makes lists of Python of vectors, as LLM.embed does; else they stay
        tensors."""
        prompts: Any = [{"prompt_token_ids": row} for row in rows]
        if self.is_reranker:
            from vllm import PoolingParams

            asked = PoolingParams(use_activation=False)
            scored = self.llm.encode(prompts, asked, pooling_task="classify", use_tqdm=False)
            return np.stack([one.outputs.data.float().numpy() for one in scored])[:, 0]
        if way == "embed":
            made = self.llm.embed(prompts, use_tqdm=False)
            return np.array([one.outputs.embedding for one in made], np.float32)
        found = self.llm.encode(prompts, pooling_task="embed", use_tqdm=False)
        return np.stack([one.outputs.data.float().numpy() for one in found])


class Ours:
    """A session of ours behind the queue of text encoders, normalized as they do."""

    def __init__(self, name: str, engine: str) -> None:
        import torch

        from trireme.encode.engines.table import open_session
        from trireme.encode.row_queue import RowQueue
        from trireme.encode.session import SessionOptions
        from trireme.encode.text_encoder import _normalize

        if streams := os.environ.get("POOL_STREAMS"):
            from trireme.encode.engines.vllm import VllmSession

            VllmSession.streams = int(streams)
        if engine == "vllm":
            from trireme.encode.engines import vllm

            arguments = vllm.engine_arguments
            # Several engines start on this card at once, which vLLM's own measuring of memory does not survive.
            vllm.engine_arguments = lambda *a: arguments(*a) | {"kv_cache_memory_bytes": KV_BYTES}
        # vLLM takes the only card by itself.
        device = 0 if engine == "torch" and torch.cuda.is_available() else None
        options = SessionOptions(device_id=device, max_length=MAX_LENGTH, gpu_memory_utilization=MEMORY_SHARE)
        self.session: Any = open_session(engine, WORK / name / f"ours-{engine}", options)
        self.queue = RowQueue(self.session, STEP_TOKENS, None if name == RERANKER else _normalize)

    def embed(self, rows: Rows, _way: str) -> Any:
        """Unit vectors, or scores."""
        from trireme.encode.tokenizer import Row

        return self.queue.submit([Row(row, [0] * len(row), 0) for row in rows]).result()

    def compare_probe(self) -> Job:
        """What a start of engine vllm found."""
        files = self.session._files
        return {
            f"probe_{name}": value for name, value in files.compare(self.session.run(files.probe)).items()
        }

    def kill_vllm(self, seconds: float) -> Job:
        """Ends vLLM's process as a kernel out of memory does: what a run says, and when one is answered again."""
        import psutil

        children = psutil.Process().children(recursive=True)
        cores = [one for one in children if "EngineCore" in f"{one.name()} {' '.join(one.cmdline())}"]
        cores = cores or [one for one in children if "resource_tracker" not in " ".join(one.cmdline())]
        from trireme.encode.tokenizer import Row

        row = Row([20] * (MAX_LENGTH - 1), [0] * (MAX_LENGTH - 1), 0)
        waiting = self.queue.submit([row] * 2000)
        time.sleep(0.2)
        said: Job = {"processes": len(cores)}
        began = time.monotonic()
        for core in cores:
            core.kill()
        said["waiting_run"] = _name_end(lambda: waiting.result(timeout=40))
        said["waiting_run_s"] = round(time.monotonic() - began, 2)
        while time.monotonic() - began < seconds:
            end = _name_end(lambda: self.queue.submit([row]).result(timeout=60))
            if end == "answered":
                said["answers_again_s"] = round(time.monotonic() - began, 1)
                break
            said["meanwhile"] = end
            time.sleep(0.5)
        return said


def _name_end(act: Callable[[], Any]) -> str:
    try:
        act()
    except Exception as error:  # whatever it is, it is what is told
        return f"{type(error).__name__}: {error}"[:200]
    return "answered"


def judge_scores(found: Any, reference: Any) -> dict[str, float]:
    """Of scores [rows]: order, and the largest difference over the spread of the reference's."""
    from trireme.encode.agreement import compare_scores

    return compare_scores([reference.reshape(-1)], [found])


def compare(found: Any, reference: Any) -> dict[str, float]:
    """Cosines to fp32 of whole vectors, and of what is left of them without the mean of all; how alike the texts of
    the reference are, which random weights make them."""

    def unit(rows: Any) -> Any:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    found, reference = unit(found.astype(np.float64)), unit(reference.astype(np.float64))
    middle = reference.mean(0)
    cosines = (found * reference).sum(1)
    centred = (unit(found - middle) * unit(reference - middle)).sum(1)
    between = (reference @ reference.T)[np.triu_indices(len(reference), 1)]
    return {
        "cosine_min": float(cosines.min()),
        "cosine_median": float(np.median(cosines)),
        "centred_min": float(centred.min()),
        "centred_median": float(np.median(centred)),
        "between_texts_median": float(np.median(between)),
    }


def open_engine() -> Callable[[Job], Job]:
    """What answers jobs: the first one opens the engine of the command line."""
    name, engine = sys.argv[1:]
    opened: list[Any] = []

    def answer(job: Job) -> Job:
        try:
            if job["do"] == "open":
                began = time.monotonic()
                opened.append(Direct(name) if engine == "vllm" else Ours(name, engine.removeprefix("ours-")))
                return {"ready_s": round(time.monotonic() - began, 1)}
            runner, rows = opened[0], draw_rows(name)
            if job["do"] == "pass":
                start = time.perf_counter()
                vectors = runner.embed(rows, job.get("way", ""))
                seconds = time.perf_counter() - start
                assert len(vectors) == len(rows)
                return {"seconds": seconds}
            if job["do"] == "check":
                reference = np.load(WORK / name / "reference.npy")
                judge = judge_scores if name == RERANKER else compare
                return judge(runner.embed(rows[:CHECKED], ""), reference)
            if job["do"] == "probe":
                return dict(runner.compare_probe())
            return dict(runner.kill_vllm(job["seconds"]))
        except BaseException:
            traceback.print_exc()
            raise

    return answer


if __name__ == "__main__":
    serve(open_engine)
    # Threads of vLLM's would keep the process.
    os._exit(0)
