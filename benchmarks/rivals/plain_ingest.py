"""Indexing as a first script does it: encode in batches of 32, then INSERT. In the rival's environment.

Takes the checkpoint's folder. Jobs: load, answered once the model is loaded; and ingest, with "url", "file" (one
text a line, JSON) and "many", answered with "seconds".
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.rivals.common import BATCH, Job, serve

TABLE = "plain_documents"


def ingest(model: Any, url: str, texts: list[str], many: bool) -> float:
    """Seconds for all texts. many: executemany for each batch, else one INSERT at a time; a commit a batch."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id text PRIMARY KEY, text text, embedding vector(384))")
        connection.commit()
        statement = f"INSERT INTO {TABLE} VALUES (%s, %s, %s::vector)"  # noqa: S608 - a constant
        began = time.perf_counter()
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            vectors = model.encode(batch, batch_size=BATCH, show_progress_bar=False)
            rows = [
                (f"d{start + place}", text, str(vector.tolist()))
                for place, (text, vector) in enumerate(zip(batch, vectors, strict=True))
            ]
            if many:
                connection.cursor().executemany(statement, rows)
            else:
                for row in rows:
                    connection.execute(statement, row)
            connection.commit()
        seconds = time.perf_counter() - began
        connection.execute(f"DROP TABLE {TABLE}")
    return seconds


def make() -> Any:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
    model.encode(["a text to warm up with"] * BATCH, show_progress_bar=False)

    def answer(job: Job) -> Job:
        if job["do"] == "load":
            return {}
        texts = [json.loads(one)["text"] for one in Path(job["file"]).read_text("utf-8").splitlines()]
        return {"seconds": ingest(model, job["url"], texts, job["many"])}

    return answer


if __name__ == "__main__":
    serve(make)
