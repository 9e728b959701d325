"""Sessions on vLLM's pooling runner (version 0.24): families whose graph is not ours, on a GPU.

vLLM runs its scheduler and the model in a process of its own, and puts together what waits, whichever run it came
with. Here rows are handed over and their pooled states collected, by an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trireme.encode.batching import RunCost
from trireme.encode.pooling_files import PoolingConfig, read_pooling_files
from trireme.encode.session import SessionOptions, TokenBatch, check_rows
from trireme.errors import ArtifactError, InvalidInputError, TriremeError, UnavailableError
from trireme.types import FloatArray
from trireme.vllm_environment import ENVIRONMENT, show_device

RESTART_PAUSE_SECONDS = 5.0
SHUTDOWN_SECONDS = 3.0
# Of one step of vLLM; a row of any length must fit.
STEP_TOKENS = 16384
STEP_ROWS = 1024

_POOLINGS = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
_DTYPES = {"fp16": "float16", "bf16": "bfloat16"}
T = TypeVar("T")

_log = logging.getLogger(__name__)


class VllmSession:
    """A checkpoint of a version folder, its states pooled by vLLM; what stands behind pooling is done here.

    When vLLM's process dies, runs fail with UnavailableError, and it is started again in the background.
    """

    cost = RunCost(call_tokens=0, pads=False)
    # Beside a run on the GPU the next one is handed over.
    streams = 2

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        """Blocks for a minute: vLLM compiles the model, and what it makes is compared with the original's.

        Raises ArtifactError for files that it cannot load or whose outputs are too far off, UnavailableError where
        there is no vLLM.
        """
        self._files = read_pooling_files(folder)
        self._arguments = engine_arguments(folder, self._files.config, options)
        self._devices = show_device(options.device_id, os.environ)
        self.input_names = ["input_ids"]
        self._numbers = itertools.count()
        self._llm: Any = None
        self._death: asyncio.Future[None]
        # Of runs that wait for vLLM.
        self._waiting: set[asyncio.Task[Any]] = set()
        self._supervisor: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            self._wait_for(self._start())
            figures = self._files.compare(self.run(self._files.probe))
        except TriremeError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise _explain(error, folder) from error
        told = ", ".join(f"{name} {value:.6f}" for name, value in figures.items())
        _log.info("%s, compared with the original: %s", folder, told)

    def run(self, batch: TokenBatch) -> FloatArray:
        """Vectors of the rows, float32 [rows, D], not normalized; scores [rows] or logits [rows, labels].

        Raises InvalidInputError for a row that is empty or too long, or an id beyond the table of words, and
        UnavailableError where vLLM's process is gone.
        """
        config = self._files.config
        check_rows(batch.lengths, config.max_length)
        # On the GPU it would end the process.
        if int(batch.ids.min()) < 0 or int(batch.ids.max()) >= config.vocabulary:
            raise InvalidInputError(f"a token's id is not within 0 to {config.vocabulary - 1}")
        if self._llm is None:
            raise _is_down()
        rows = [self._files.cut(row) for row in np.split(batch.ids, np.cumsum(batch.lengths)[:-1])]
        return self._files.finish(self._wait_for(self._pool(rows)))

    def close(self) -> None:
        """Ends vLLM's process; runs that wait fail. Blocks, for as long as a start takes; idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ending.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            # A loop that has stopped would never come to it.
            if self._is_closed:
                work.close()
                raise _is_down()
            waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        return waiting.result()

    # From here on: the event loop's thread.

    async def _start(self) -> None:
        try:
            await self._open()
        except Exception as error:
            raise _explain(error, Path(self._arguments["model"])) from error
        self._supervisor = asyncio.create_task(self._supervise())

    async def _open(self) -> None:
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        os.environ.update(self._devices)
        from vllm.config import PoolerConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        # Said outright: what a checkpoint says of pooling is read where it is built. Vectors are normalized above.
        pooler = PoolerConfig(seq_pooling_type=_POOLINGS[self._files.config.pooling], use_activation=False)
        # Made inside the running loop, so that it reads outputs, and notices a death, from the start.
        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**self._arguments, pooler_config=pooler))
        death: asyncio.Future[None] = self._loop.create_future()
        llm.output_handler.add_done_callback(lambda _: _announce(death))
        try:
            # Its first request would ask this; if the process has died by then, nothing answers.
            await asyncio.wait_for(llm.get_supported_tasks(), timeout=60)
        except BaseException:
            # Its memory is the next start's.
            _shut_down(llm)
            raise
        self._death, self._llm = death, llm

    async def _supervise(self) -> None:
        """Starts vLLM again, each time that it has died."""
        while True:
            await self._death
            _log.error("vLLM's process has ended; it is started again")
            dead, self._llm = self._llm, None
            _shut_down(dead)
            while self._llm is None:
                # Runs that were waiting learn of the end meanwhile: a start holds the loop.
                await asyncio.sleep(RESTART_PAUSE_SECONDS)
                try:
                    await self._open()
                except Exception:
                    _log.exception("vLLM did not start")

    async def _pool(self, rows: Sequence[npt.NDArray[np.int64]]) -> FloatArray:
        """Pooled states [rows, H], or logits of vLLM's own head."""
        if self._llm is None:
            raise _is_down()
        run = asyncio.current_task()
        assert run is not None  # noqa: S101 - for the type checker
        self._waiting.add(run)
        run.add_done_callback(self._waiting.discard)
        collecting = asyncio.create_task(self._collect(self._llm, rows))
        ends: set[asyncio.Future[Any]] = {collecting, self._death}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            collecting.cancel()
            raise _is_down()
        try:
            return np.stack(collecting.result())
        except Exception as error:
            _log.error("vLLM failed a run: %s", error)
            raise UnavailableError(
                "vLLM failed while it worked on these rows; send them again in a minute"
            ) from error

    async def _collect(self, llm: Any, rows: Sequence[npt.NDArray[np.int64]]) -> list[FloatArray]:
        from vllm import PoolingParams
        from vllm.inputs.engine import tokens_input

        # vLLM copies them for each request.
        parameters = PoolingParams(task=self._files.config.task, use_activation=False)
        waiting = [
            await llm.add_request(str(next(self._numbers)), tokens_input(row.tolist()), parameters)
            for row in rows
        ]
        outputs = [await collector.get() for collector in waiting]
        return [output.outputs.data.float().numpy() for output in outputs]

    async def _end(self) -> None:
        supervisors = [self._supervisor] if self._supervisor is not None else []
        for supervisor in supervisors:
            supervisor.cancel()
        _shut_down(self._llm)
        self._llm = None
        # None of them would go on once the loop has stopped; nor would tasks that the shutdown cancelled.
        await asyncio.gather(*supervisors, *self._waiting, return_exceptions=True)
        await asyncio.sleep(0)


def engine_arguments(folder: Path, config: PoolingConfig, options: SessionOptions) -> dict[str, Any]:
    """What AsyncEngineArgs is made of, the pooler aside; the rest is as the checkpoint says."""
    tokens = max(STEP_TOKENS, config.max_length)
    return {
        # Of one that is not absolute vLLM asks the hub.
        "model": str(folder.resolve()),
        "runner": "pooling",
        "dtype": _DTYPES[config.precision],
        # No pickled weights, no code of the checkpoint's own, no text.
        "load_format": "safetensors",
        "trust_remote_code": False,
        "skip_tokenizer_init": True,
        "language_model_only": True,
        "max_model_len": config.max_length,
        "max_num_seqs": STEP_ROWS,
        "max_num_batched_tokens": tokens,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        # What a row gets, and how long it takes, does not depend on what others sent before.
        "enable_prefix_caching": False,
        "seed": 0,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }


def _announce(death: asyncio.Future[None]) -> None:
    # Whoever waited for it may have cancelled it.
    if not death.done():
        death.set_result(None)


def _shut_down(llm: Any) -> None:
    """Never raises: whoever ends it has something else to do."""
    try:
        if llm is not None:
            llm.shutdown(timeout=SHUTDOWN_SECONDS)
    except Exception:
        _log.exception("vLLM did not end as it should")


def _is_down() -> UnavailableError:
    return UnavailableError("vLLM is not running; send the request again in a minute")


def _explain(error: Exception, folder: Path) -> TriremeError:
    if isinstance(error, ImportError):
        return UnavailableError(f"vLLM cannot be imported: {error}; serve from an image that has it")
    reason = str(error).strip().splitlines()
    return ArtifactError(
        f"cannot load {folder} with vLLM: {reason[-1] if reason else type(error).__name__}; the server's log has"
        " the details"
    )
