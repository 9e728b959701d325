"""Indexing as a first script does it: encode in batches of 32, then INSERT. In the rival's environment.

A job a line on stdin: {"url", "file" (one text a line, JSON), "many"}; an answer a line on stdout:
{"seconds"} or {"error"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BATCH = 32
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


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
    model.encode(["a text to warm up with"] * BATCH, show_progress_bar=False)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            texts = [json.loads(one)["text"] for one in Path(job["file"]).read_text("utf-8").splitlines()]
            said: dict[str, Any] = {"seconds": ingest(model, job["url"], texts, job["many"])}
        except Exception as error:  # whatever it is, it is the answer
            said = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
