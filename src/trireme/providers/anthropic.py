"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from trireme.providers.anthropic_bodies import find_fault, write_body, write_count_body, write_headers
from trireme.providers.anthropic_events import AnswerReader, read_count, read_whole
from trireme.providers.chat import ChatCall, Event, Surface
from trireme.providers.http import HttpApi
from trireme.providers.port import AttemptLimits
from trireme.providers.registry import ProviderOptions
from trireme.providers.sse import SseReader

PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"
COUNT_LIMITS = AttemptLimits(first=30.0, between=30.0, total=30.0)


class AnthropicProvider:
    """See ChatProvider."""

    surfaces: tuple[Surface, ...] = ("anthropic",)

    def __init__(self, options: ProviderOptions) -> None:
        """Raises SettingError for a URL that is none; with /v1 at its end or without."""
        headers = {"x-api-key": options.key} if options.key else {}
        url = options.url.rstrip("/").removesuffix("/v1")
        self._api = HttpApi(options.name, url, headers, options.key)

    def find_fault(self, call: ChatCall, model: str) -> str:
        """See ChatProvider."""
        return find_fault(call)

    async def chat(self, call: ChatCall, model: str, limits: AttemptLimits) -> AsyncGenerator[Event, None]:
        """See ChatProvider."""
        body, headers = write_body(call, model), write_headers(call)
        keeps_ids = call.surface == "anthropic"
        with self._api.key_hidden():
            if not call.stream:
                for event in read_whole(await self._api.post(PATH, body, limits, headers), keeps_ids):
                    yield event
                return
            frames, reader = SseReader(), AnswerReader(keeps_ids)
            async with aclosing(self._api.stream(PATH, body, limits, headers)) as pieces:
                async for piece in pieces:
                    for frame in frames.feed(piece):
                        for event in reader.read(frame.data):
                            yield event
                    # Whoever keeps the connection open behind its last word is not waited for.
                    if reader.is_stopped:
                        break
            reader.finish()

    async def count_tokens(self, call: ChatCall, model: str) -> int:
        """See ChatProvider."""
        body, headers = write_count_body(call, model), write_headers(call)
        with self._api.key_hidden():
            return read_count(await self._api.post(COUNT_PATH, body, COUNT_LIMITS, headers))

    async def close(self) -> None:
        """See ChatProvider."""
        await self._api.close()
