"""Sessions of packed encoders on torch: half precision on CUDA with recorded graphs, any precision on the CPU."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trireme.encode.batching import RunCost
from trireme.encode.packed.bert import Operators, PackedBert, Tokens, TorchOperators, read_packed
from trireme.encode.session import SessionOptions, TokenBatch, check_rows
from trireme.errors import UnavailableError
from trireme.types import FloatArray

# Sizes that a CUDA graph is recorded for: up to so many tokens, in steps of so many. Larger batches run without
# one: there the GPU is busy for longer than the host needs to launch its kernels.
GRAPH_SIZES = ((1024, 64), (4096, 256), (16384, 1024))


class TorchSession:
    """A packed encoder of a version folder. On CUDA runs of several threads overlap but for the GPU's own work."""

    cost = RunCost(call_tokens=0, pads=False)

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        """Blocks for seconds on CUDA, where graphs are recorded.

        Raises ArtifactError for files it cannot read, UnavailableError for a GPU that is absent or full.
        """
        device = torch.device("cpu" if options.device_id is None else f"cuda:{options.device_id}")
        threads = options.threads or (options.cores if options.instances > 1 else 0)
        if threads and device.type == "cpu":
            torch.set_num_threads(threads)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UnavailableError(
                f"torch {torch.__version__} sees no GPU; install torch for CUDA, or build for the target cpu"
            )
        self._graphs: _Graphs | None = None
        try:
            config, weights = read_packed(folder, device)
            self._model = PackedBert(config, weights, _choose_operators(device))
            if device.type == "cuda" and not isinstance(self._model.operators, TorchOperators):
                self._graphs = _Graphs(self._model, device)
        except torch.OutOfMemoryError as error:
            raise UnavailableError(
                f"{device} has no room for this model: {error}; use fewer instances"
            ) from error
        self.input_names = ["input_ids", *(["token_type_ids"] if config.has_segments else [])]
        # Beside a run on the GPU the next one is packed.
        self.streams = 2 if device.type == "cuda" else 1
        self._has_segments = config.has_segments
        self._device = device
        self._stream = _new_stream(device) if device.type == "cuda" else None
        self._lock = threading.Lock()

    def run(self, batch: TokenBatch) -> FloatArray:
        """Pooled rows, logits or scores: float32 [rows, ...].

        Raises InvalidInputError for a row longer than the position table, or an empty one, and
        UnavailableError where the GPU has no room for the batch.
        """
        check_rows(batch.lengths, self._model.positions)
        if self._stream is None:
            with torch.inference_mode():
                tokens = _place(
                    _pack(batch, len(batch.ids), self._has_segments), batch.lengths, len(batch.ids)
                )
                output: FloatArray = self._model.finish(self._model.encode(tokens), tokens).numpy()
                return output
        try:
            return self._run_cuda(batch, self._stream)
        except torch.OutOfMemoryError as error:
            raise UnavailableError(
                f"{self._device} has no room for {len(batch.ids)} tokens; lower max_batch_tokens"
            ) from error

    def _run_cuda(self, batch: TokenBatch, stream: torch.cuda.Stream) -> FloatArray:
        size = None if self._graphs is None else self._graphs.size_for(len(batch.ids))
        packed = _pack(batch, size or len(batch.ids), self._has_segments)
        # The caching allocator of pinned memory waits for copies under way before it gives a block out again.
        host = torch.empty(len(packed), dtype=torch.int32, pin_memory=True)
        host.numpy()[:] = packed
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.inference_mode(), self._lock, torch.cuda.stream(stream):
            if self._graphs is None or size is None:
                tokens = _place(host.to(self._device, non_blocking=True), batch.lengths, len(batch.ids))
                hidden = self._model.encode(tokens)
            else:
                tokens, hidden = self._graphs.replay(host, batch.lengths, size)
            result = self._model.finish(hidden, tokens)
            output = torch.empty(result.shape, dtype=torch.float32, pin_memory=True)
            output.copy_(result, non_blocking=True)
            done.record(stream)
        done.synchronize()
        answer: FloatArray = output.numpy()
        return answer


class _Graphs:
    """CUDA graphs of `PackedBert.encode`, one for each number of tokens that batches are filled up to.

    The shapes of rows do not matter: kernels read from memory where rows begin. All graphs share their memory, so
    one may run only after what another left is used up; one stream sees to that.
    """

    def __init__(self, model: PackedBert, device: torch.device) -> None:
        self._model = model
        self.sizes = [
            size
            for (last, step), before in zip(GRAPH_SIZES, (0, *(end for end, _ in GRAPH_SIZES)), strict=False)
            for size in range(before + step, last + 1, step)
        ]
        largest = self.sizes[-1]
        self._input = torch.zeros(5 * largest + 1, dtype=torch.int32, device=device)
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        stream = _new_stream(device)
        pool = torch.cuda.graph_pool_handle()
        with torch.inference_mode(), torch.cuda.stream(stream):
            # The largest first: smaller ones then find room in its memory.
            for size in reversed(self.sizes):
                self._record(size, stream, pool)
        stream.synchronize()

    def size_for(self, tokens: int) -> int | None:
        """The smallest recorded size that holds `tokens`; None where there is none."""
        return next((size for size in self.sizes if size >= tokens), None)

    def replay(self, host: Tensor, lengths: npt.NDArray[np.int64], size: int) -> tuple[Tokens, Tensor]:
        """Enqueues a copy of the packed input and a run; states [size, H], to be used before the next replay."""
        self._input[: len(host)].copy_(host, non_blocking=True)
        graph, hidden = self._recorded[size]
        graph.replay()
        return _place(self._input[: len(host)], lengths, size), hidden

    def _record(self, size: int, stream: torch.cuda.Stream, pool: Any) -> None:
        # Made-up rows of 16 tokens: kernels are compiled in the first run, outside of the recording.
        lengths = np.full(size // 16, 16, np.int64)
        batch = TokenBatch(np.zeros(size, np.int64), np.zeros(size, np.int64), lengths)
        packed = torch.from_numpy(_pack(batch, size, has_segments=True))
        self._input[: len(packed)].copy_(packed)
        tokens = _place(self._input[: len(packed)], lengths, size)
        self._model.finish(self._model.encode(tokens), tokens)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            hidden = self._model.encode(tokens)
        self._recorded[size] = (graph, hidden)


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pack(batch: TokenBatch, size: int, has_segments: bool) -> npt.NDArray[np.int32]:
    """ids, type_ids, starts and ends of `size` tokens, then offsets [rows + 1], in one int32 array.

    Tokens beyond the batch's own are rows of one token each, which nothing reads.
    """
    count, rows = len(batch.ids), len(batch.lengths)
    packed = np.zeros(4 * size + rows + 1, np.int32)
    offsets = packed[4 * size :]
    np.cumsum(batch.lengths, out=offsets[1:])
    packed[:count] = batch.ids
    if has_segments:
        packed[size : size + count] = batch.type_ids
    starts, ends = packed[2 * size : 3 * size], packed[3 * size : 4 * size]
    starts[:count], ends[:count] = (
        np.repeat(offsets[:-1], batch.lengths),
        np.repeat(offsets[1:], batch.lengths),
    )
    starts[count:] = np.arange(count, size, dtype=np.int32)
    ends[count:] = starts[count:] + 1
    return packed


def _place(packed: npt.NDArray[np.int32] | Tensor, lengths: npt.NDArray[np.int64], size: int) -> Tokens:
    """The parts of what `_pack` made."""
    flat = torch.from_numpy(packed) if isinstance(packed, np.ndarray) else packed
    ids, types, starts, ends = flat[: 4 * size].view(4, size)
    return Tokens(ids, types, starts, ends, flat[4 * size :], lengths.tolist())


def _choose_operators(device: torch.device) -> Operators:
    """Kernels of our own on CUDA where they can be compiled, else torch's operators."""
    if device.type != "cuda":
        return TorchOperators()
    try:
        from trireme.encode.packed.gpu_kernels import KernelOperators

        KernelOperators().pool(
            torch.zeros(1, 16, dtype=torch.float16, device=device), _one_token(device), "mean"
        )
    except (
        Exception
    ) as error:  # no OpenAI Triton, or no C compiler for it: whatever it is, torch can do the work
        warnings.warn(
            f"the GPU kernels cannot be compiled ({error}); torch's operators run instead, slower",
            stacklevel=2,
        )
        return TorchOperators()
    return KernelOperators()


def _one_token(device: torch.device) -> Tokens:
    batch = TokenBatch(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.int64))
    return _place(torch.from_numpy(_pack(batch, 1, has_segments=False)).to(device), batch.lengths, 1)
