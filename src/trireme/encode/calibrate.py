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
    cores: int = 0,
    seconds: float = CALIBRATE_SECONDS,
) -> None:
    """Measures `queue.rate` with full micro-batches on all streams; what it ran is on no counter. Blocks.

    cores: what the session runs on; 0 on a device. Other models load meanwhile and take time from it: the rate is
    what its own processor time would give on so many cores, where that is more. A rate that is too high lets work
    wait, and is then measured anew; one that is too low would never be.
    Raises what the session raises.
    """
    width = max(1, min(ROW_TOKENS, max_length, max_batch_tokens))
    # Two ids, as a model may leave one out at a row's end: its padding.
    row = Row(ids=[n % 2 for n in range(width)], type_ids=[0] * width, truncated_tokens=0)
    rows = [row] * max(1, max_batch_tokens // width)
    # The first call of a shape may compile.
    _run(queue, rows, streams)
    queue.rate.reset()
    queue.take_cost()
    deadline, spent = time.monotonic() + seconds, time.process_time()
    while True:
        _run(queue, rows, streams * ROUND_BATCHES)
        if time.monotonic() >= deadline:
            break
    spent = time.process_time() - spent
    queue.rate.settle()
    alone = queue.take_cost().tokens * cores / spent if spent > 0 else 0.0
    if alone > queue.rate.value:
        queue.rate.reset()
        queue.rate.add(alone, 1.0)
        queue.rate.settle()


def _run(queue: RowQueue, rows: list[Row], times: int) -> None:
    for pending in [queue.submit(rows) for _ in range(times)]:
        pending.result()
