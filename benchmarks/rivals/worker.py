"""Runs one engine in its own environment: a job a line on stdin, an answer a line on stdout, both JSON.

Of ours it imports only what stands beside it, so that it starts in every rival's environment.
Jobs: load, count, embed, rerank, vectors, ingest; an error is an answer: {"error": ...}.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.rivals.common import Job, serve
from benchmarks.rivals.plain_ingest import ingest


class Engine(Protocol):
    """What a user could pick to embed and rerank in process on a CPU: one loaded model. Blocks."""

    def versions(self) -> dict[str, str]:
        """The distributions that do the work, with their versions."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text that the model runs: special ones included, cut at its limit."""

    def embed(self, texts: Sequence[str]) -> Any:
        """[texts, dimensions]; one that only ranks has no such verb."""

    def rerank(self, query: str, passages: Sequence[str], prior: Sequence[float]) -> Any:
        """[passages]; one that only embeds has no such verb."""


def load_engine(name: str, model: Path, work: Path, threads: int) -> Engine:
    """`name` is LIBRARY/VARIANT. Raises ValueError for an unknown one, else what the library raises."""
    library, _, variant = name.partition("/")
    if library == "sentence-transformers":
        from benchmarks.rivals.st_engine import CrossEncoderEngine, SentenceEngine

        kind = CrossEncoderEngine if variant.endswith("-pairs") else SentenceEngine
        return kind(variant.removesuffix("-pairs"), model, work, threads)
    if library == "trireme":
        from benchmarks.rivals.trireme_engine import TriremeEngine

        return TriremeEngine(model, threads)
    if library == "onnxruntime":
        from benchmarks.rivals.ort_engine import OrtEngine

        return OrtEngine(model, threads)
    raise ValueError(f"no engine named {name!r}")


def read_job_texts(job: Job) -> list[Any]:
    """`count` items of the job's file from `start` on, from the beginning again behind the end."""
    document = json.loads(Path(job["file"]).read_text(encoding="utf-8"))
    items = document.get("texts") or document["queries"]
    count = job.get("count", len(items))
    return [items[(job.get("start", 0) + i) % len(items)] for i in range(count)]


def time_calls(calls: Iterable[tuple[Callable[[], Any], int]], seconds: float) -> Job:
    """Makes calls, each of so many texts, until `seconds` are over or no more come; one at least."""
    times, texts = [], 0
    started, busy = time.perf_counter(), time.process_time()
    for call, count in calls:
        if times and time.perf_counter() - started >= seconds:
            break
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
        texts += count
    passed = time.perf_counter() - started
    return {"texts": texts, "seconds": passed, "cpu_s": time.process_time() - busy, "calls_s": times}


def embed(engine: Engine, job: Job) -> Job:
    """Embeds in calls of `call` texts."""
    texts, size = read_job_texts(job), job["call"]
    parts = (texts[start : start + size] for start in range(0, len(texts), size))
    return time_calls(((lambda part=part: engine.embed(part), len(part)) for part in parts), job["seconds"])


def rerank(engine: Engine, job: Job) -> Job:
    """Scores one query's passages a call."""

    def ask(one: Job) -> Callable[[], Any]:
        return lambda: engine.rerank(one["query"], one["passages"], one["prior"])

    return time_calls(((ask(one), len(one["passages"])) for one in read_job_texts(job)), job["seconds"])


def write_vectors(engine: Engine, job: Job) -> Job:
    """Vectors of all texts of the file, saved as float32 [texts, dimensions] to `out`."""
    import numpy as np

    vectors = engine.embed(read_job_texts(job))
    np.save(job["out"], np.asarray(vectors, np.float32))
    return {"texts": len(vectors)}


def count(engine: Engine, job: Job) -> Job:
    return {"tokens": engine.count(read_job_texts(job))}


JOBS = {"count": count, "embed": embed, "rerank": rerank, "vectors": write_vectors, "ingest": ingest}


class Worker:
    """An engine, once it is loaded, and its jobs. Raises whatever the engine raises."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine

    def answer(self, job: Job) -> Job:
        if job["do"] == "load":
            self._engine = load_engine(job["engine"], Path(job["model"]), Path(job["work"]), job["threads"])
            return {"versions": self._engine.versions()}
        if self._engine is None:
            raise ValueError("the first job must be load")
        return JOBS[job["do"]](self._engine, job)


if __name__ == "__main__":
    serve(lambda: Worker().answer)
