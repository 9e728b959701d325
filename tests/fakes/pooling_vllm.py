"""A stand-in for vLLM's pooling runner: a row's states are those of its tokens, a token's are made of its id."""

import asyncio
import sys
import types
from typing import Any

import numpy as np

HIDDEN = 4


def states_of(ids: Any) -> np.ndarray:
    """[tokens, HIDDEN], float32."""
    return np.sin(np.outer(np.asarray(ids) + 1, np.arange(1, HIDDEN + 1))).astype(np.float32)


def pool(ids: Any, kind: str) -> np.ndarray:
    """[HIDDEN] of one row, as vLLM's poolers named MEAN, CLS and LAST make it."""
    states = states_of(ids)
    return {"MEAN": states.mean(0), "CLS": states[0], "LAST": states[-1]}[kind]


def label(ids: Any) -> np.ndarray:
    """[2]: what a head of vLLM's own makes of one row's last token."""
    return pool(ids, "LAST")[:2] * 3


class _Tensor:
    """As much of a torch tensor as is asked of it."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def float(self) -> "_Tensor":
        return self

    def numpy(self) -> np.ndarray:
        return self._values


class _Collector:
    def __init__(self) -> None:
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, output: Any) -> None:
        self._outputs.put_nowait(output)

    async def get(self) -> Any:
        output = await self._outputs.get()
        if isinstance(output, Exception):
            raise output
        return output


class StandIn:
    """An AsyncLLM. `is_held`: it answers nothing until it dies or is let go."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.is_held, self.is_shut_down, self.fails = False, False, False
        self.prompts: list[list[int]] = []
        self.parameters: list[Any] = []
        self._waiting: list[_Collector] = []
        self._loop = asyncio.get_running_loop()
        self._death = asyncio.Event()
        self.output_handler = self._loop.create_task(self._handle())

    async def _handle(self) -> None:
        await self._death.wait()

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return ("embed", "token_embed")

    async def add_request(self, request_id: str, prompt: Any, parameters: Any) -> _Collector:
        ids = prompt["prompt_token_ids"]
        assert all(type(token) is int for token in ids)
        self.prompts.append(ids)
        self.parameters.append(parameters)
        collector = _Collector()
        self._waiting.append(collector)
        if self.fails:
            collector.put(RuntimeError("EngineCore encountered an issue"))
        elif not self.is_held:
            kind = self.arguments["pooler_config"].seq_pooling_type
            pooled = _Tensor(label(ids) if parameters.task == "classify" else pool(ids, kind))
            collector.put(types.SimpleNamespace(outputs=types.SimpleNamespace(data=pooled)))
        return collector

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_shut_down = True
        self._death.set()

    def die(self) -> None:
        """As when its process is killed: those who wait hear nothing."""
        self._loop.call_soon_threadsafe(self._death.set)


def install(monkeypatch: Any) -> list[Any]:
    """Every AsyncLLM that is started, in order; an exception among them makes the next start raise it."""
    started: list[Any] = []

    class AsyncLLM:
        @staticmethod
        def from_engine_args(arguments: Any) -> StandIn:
            if started and isinstance(started[-1], Exception):
                raise started.pop()
            started.append(StandIn(vars(arguments)))
            return started[-1]

    def namespace(**values: Any) -> Any:
        return types.SimpleNamespace(**values)

    def tokens_input(ids: list[int]) -> dict[str, Any]:
        return {"type": "token", "prompt_token_ids": ids}

    modules = {
        "vllm": {"PoolingParams": namespace},
        "vllm.config": {"PoolerConfig": namespace},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": namespace},
        "vllm.inputs": {},
        "vllm.inputs.engine": {"tokens_input": tokens_input},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": AsyncLLM},
    }
    for name, content in modules.items():
        fake = types.ModuleType(name)
        vars(fake).update(content)
        monkeypatch.setitem(sys.modules, name, fake)
    return started
