"""The rate of an encoder before its first request: full micro-batches through its own queue."""

from __future__ import annotations

import time

from trireme.encode.row_queue import RowQueue
from trireme.encode.tokenizer import Row

# What a server's start may take longer for it; a model whose one round takes longer has one round.
CALIBRATE_SECONDS = 0.3
# Tokens of a row: about a passage.
ROW_TOKENS = 128
# Micro-batches of a round for each stream: all but the last leave others waiting, and are counted.
ROUND_BATCHES = 3


def calibrate(
    queue: RowQueue,
    *,
    streams: int,
    max_length: int,
    max_batch_tokens: int,
    seconds: float = CALIBRATE_SECONDS,
) -> None:
    """Measures `queue.rate` with full micro-batches on all streams; what it ran is on no counter. Blocks.

    Raises what the session raises. Instances that start side by side measure each other's share of the cores, too.
    """
    width = max(1, min(ROW_TOKENS, max_length, max_batch_tokens))
    row = Row(ids=[0] * width, type_ids=[0] * width, truncated_tokens=0)
    rows = [row] * max(1, max_batch_tokens // width)
    # The first call of a shape may compile.
    _run(queue, rows, streams)
    queue.rate.reset()
    deadline = time.monotonic() + seconds
    while True:
        _run(queue, rows, streams * ROUND_BATCHES)
        if time.monotonic() >= deadline:
            break
    queue.rate.settle()
    queue.take_cost()


def _run(queue: RowQueue, rows: list[Row], times: int) -> None:
    for pending in [queue.submit(rows) for _ in range(times)]:
        pending.result()
