"""Any API of OpenAI's format: OpenAI, vLLM, text-generation-inference, Ollama, other gateways."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from trireme.errors import UnsupportedError
from trireme.providers.chat import ChatCall, Event, Surface
from trireme.providers.http import HttpApi
from trireme.providers.openai_bodies import find_fault, write_body
from trireme.providers.openai_events import OpenAIEvents
from trireme.providers.port import AttemptLimits
from trireme.providers.registry import ProviderOptions
from trireme.providers.sse import SseReader


class OpenAIProvider:
    """See ChatProvider."""

    surfaces: tuple[Surface, ...] = ("openai", "completions")

    def __init__(self, options: ProviderOptions) -> None:
        """Raises SettingError for a URL that is none."""
        headers = {"authorization": f"Bearer {options.key}"} if options.key else {}
        self._name = options.name
        self._cache_salt = options.cache_salt
        self._api = HttpApi(options.name, options.url, headers, options.key)

    def find_fault(self, call: ChatCall, model: str) -> str:
        """See ChatProvider."""
        return find_fault(call)

    async def chat(self, call: ChatCall, model: str, limits: AttemptLimits) -> AsyncGenerator[Event, None]:
        """See ChatProvider."""
        path = "/completions" if call.surface == "completions" else "/chat/completions"
        body = write_body(call, model, self._cache_salt)
        reader = OpenAIEvents(model, self._name, call.choices)
        with self._api.key_hidden():
            if not call.stream:
                for event in reader.read_whole(await self._api.post(path, body, limits)):
                    yield event
                reader.check_end()
                return
            frames = SseReader()
            async with aclosing(self._api.stream(path, body, limits)) as pieces:
                async for piece in pieces:
                    for frame in frames.feed(piece):
                        for event in reader.read(frame):
                            yield event
                    # Some servers keep the connection open behind their last word.
                    if reader.is_done:
                        break
            reader.check_end()

    async def count_tokens(self, call: ChatCall, model: str) -> int:
        """See ChatProvider: the format has no way to ask."""
        raise UnsupportedError(f"{self._name} cannot count tokens; ask a model of another provider")

    async def close(self) -> None:
        """See ChatProvider."""
        await self._api.close()
