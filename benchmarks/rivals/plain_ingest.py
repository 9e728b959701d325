"""Indexing as a first script does it: encode in batches of 32, then INSERT. In the rival's environment."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.rivals.common import BATCH, Job

TABLE = "plain_documents"


def ingest(engine: Any, job: Job) -> Job:
    """Seconds for all texts of `file`, one a line in JSON.

    many: executemany for each batch, else one INSERT at a time; a commit a batch.
    """
    import psycopg

    texts = [json.loads(one)["text"] for one in Path(job["file"]).read_text("utf-8").splitlines()]
    engine.embed(["a text to warm up with"] * BATCH)
    with psycopg.connect(job["url"]) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id text PRIMARY KEY, text text, embedding vector(384))")
        connection.commit()
        statement = f"INSERT INTO {TABLE} VALUES (%s, %s, %s::vector)"  # noqa: S608 - a constant
        began = time.perf_counter()
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            rows = [
                (f"d{start + place}", text, str(vector.tolist()))
                for place, (text, vector) in enumerate(zip(batch, engine.embed(batch), strict=True))
            ]
            if job["many"]:
                connection.cursor().executemany(statement, rows)
            else:
                for row in rows:
                    connection.execute(statement, row)
            connection.commit()
        seconds = time.perf_counter() - began
        connection.execute(f"DROP TABLE {TABLE}")
    return {"seconds": seconds}
