"""Runs one engine in its own environment: a job a line on stdin, an answer a line on stdout, both JSON.

It imports nothing of ours but what stands beside it, so that it starts in every rival's environment.
Jobs: load, count, embed, rerank, vectors; an answer is {"ok": true, ...} or {"ok": false, "error": ...}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from engines import Engine, load_engine


def read_job_texts(job: dict[str, Any]) -> list[Any]:
    """`count` items of the job's file from `start` on, from the beginning again behind the end."""
    document = json.loads(Path(job["file"]).read_text(encoding="utf-8"))
    items = document.get("texts") or document["queries"]
    count = job.get("count", len(items))
    return [items[(job.get("start", 0) + i) % len(items)] for i in range(count)]


def embed(engine: Engine, job: dict[str, Any]) -> dict[str, Any]:
    """Embeds in calls of `call` texts until `seconds` are over or the texts are done. Times of each call."""
    texts, size = read_job_texts(job), job["call"]
    calls, done = [], 0
    started, busy = time.perf_counter(), time.process_time()
    while done < len(texts) and time.perf_counter() - started < job["seconds"]:
        before = time.perf_counter()
        engine.embed(texts[done : done + size])
        calls.append(time.perf_counter() - before)
        done += len(texts[done : done + size])
    return {
        "texts": done,
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - busy,
        "calls_s": calls,
    }


def rerank(engine: Engine, job: dict[str, Any]) -> dict[str, Any]:
    """Scores one query's passages a call, until `seconds` are over or the queries are done."""
    queries = read_job_texts(job)
    calls, pairs = [], 0
    started, busy = time.perf_counter(), time.process_time()
    for one in queries:
        if calls and time.perf_counter() - started >= job["seconds"]:
            break
        before = time.perf_counter()
        engine.rerank(one["query"], one["passages"], one["prior"])
        calls.append(time.perf_counter() - before)
        pairs += len(one["passages"])
    return {
        "texts": pairs,
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - busy,
        "calls_s": calls,
    }


def write_vectors(engine: Engine, job: dict[str, Any]) -> dict[str, Any]:
    """Vectors of all texts of the file, saved as float32 [texts, dimensions] to `out`."""
    import numpy as np

    vectors = engine.embed(read_job_texts(job))
    np.save(job["out"], np.asarray(vectors, np.float32))
    return {"texts": len(vectors)}


def answer(engine: Engine | None, job: dict[str, Any]) -> tuple[Engine | None, dict[str, Any]]:
    """The engine after the job, and the job's answer. Raises whatever the engine raises."""
    if job["do"] == "load":
        loaded = load_engine(job["engine"], Path(job["model"]), Path(job["work"]), job["threads"])
        return loaded, {"versions": loaded.versions()}
    if engine is None:
        raise ValueError("the first job must be load")
    if job["do"] == "count":
        return engine, {"tokens": engine.count(read_job_texts(job))}
    does = {"embed": embed, "rerank": rerank, "vectors": write_vectors}
    return engine, does[job["do"]](engine, job)


def main() -> None:
    # Libraries print to stdout as they like: the answers keep the real one, all else goes to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine: Engine | None = None
    for line in sys.stdin:
        try:
            engine, said = answer(engine, json.loads(line))
            reply = {"ok": True, **said}
        except Exception as error:  # the library's own word is the answer
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"[:600]}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
