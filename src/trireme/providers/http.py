"""Calls of a provider's HTTP API: one pool of connections, our own headers alone, every fault a ProviderError."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from trireme.errors import SettingError
from trireme.observe.trace import call_headers
from trireme.providers.port import AttemptLimits, ProviderError, Remedy

if TYPE_CHECKING:
    import aiohttp

# Of an error's body that is read, and of what is quoted from it.
ERROR_BYTES = 64 << 10
QUOTED = 300
ANSWER_BYTES = 64 << 20
# A 429 that asks for more than this is no matter of waiting.
SHORT_WAIT = 5.0
CONNECTIONS = 1_000
CONNECT_SECONDS = 10.0
AGENT = "trireme"
HIDDEN = "[key]"
# Letters of a key that may stand at the end of a quotation: so many words end alike.
SHOWN_OF_KEY = 4

_ROTATE = frozenset({401, 402, 403})
_BY_STATUS: dict[int, tuple[Remedy, str]] = {
    **dict.fromkeys(_ROTATE, ("rotate", "auth")),
    404: ("next", "not_found"),
    408: ("again", "timeout"),
    409: ("again", "server"),
    413: ("give_up", "too_large"),
    425: ("again", "server"),
    500: ("again", "server"),
    502: ("again", "server"),
    503: ("again", "overloaded"),
    504: ("again", "timeout"),
    529: ("again", "overloaded"),
}
_TOO_LONG = ("context_length", "context length", "maximum context", "prompt is too long", "too many tokens")
# Types and codes of an error that say so, and the beginning of a message. Words anywhere in it may be the client's.
_NO_CREDIT = ("insufficient_quota", "billing_error")
_NO_CREDIT_TEXT = "your credit balance"


class HttpApi:
    """One provider with one of its keys, for one event loop. `headers` hold the key: they are never logged.

    A client's own headers never come here. Nothing is redirected, no cookie is kept, no proxy of the environment
    is used.
    """

    def __init__(self, name: str, url: str, headers: Mapping[str, str], key: str = "") -> None:
        """url: of the API, such as https://api.openai.com/v1. key: the secret within `headers`, which is cut out of
        whatever the provider says. Connects when it is first used. Raises SettingError for what is no URL."""
        if not url.startswith(("http://", "https://")):
            raise SettingError(f"providers.{name}.url must begin with http:// or https://")
        self._name = name
        self._url = url.rstrip("/")
        self._urls: dict[str, Any] = {}
        self._key = key
        self._headers = {"content-type": "application/json", "user-agent": AGENT, **headers}
        self._session: aiohttp.ClientSession | None = None

    @contextmanager
    def key_hidden(self) -> Iterator[None]:
        """Within it no ProviderError quotes the key: some providers repeat what they were sent."""
        try:
            yield
        except ProviderError as error:
            error.args = tuple(self._hide(str(text)) for text in error.args)
            raise

    def _hide(self, text: str) -> str:
        if not self._key:
            return text
        text = text.replace(self._key, HIDDEN)
        # A quotation that was shortened may end within it.
        for size in range(len(self._key) - 1, SHOWN_OF_KEY, -1):
            if text.endswith(self._key[:size]):
                return text[:-size] + HIDDEN
        return text

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def stream(
        self, path: str, body: Any, limits: AttemptLimits, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a streamed answer, as they come. Closing it, or cancelling its task, ends the connection.

        Raises ProviderError, also in the middle.
        """
        clock = _Clock(limits, self._name)
        async with self._open(path, body, clock, headers) as response:
            pieces = response.content.iter_any()
            while True:
                try:
                    async with clock.part():
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                yield piece

    async def post(
        self, path: str, body: Any, limits: AttemptLimits, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of a whole answer. Raises ProviderError."""
        clock = _Clock(limits, self._name)
        async with self._open(path, body, clock, headers) as response:
            raw = bytearray()
            pieces = response.content.iter_any()
            while True:
                try:
                    async with clock.part():
                        raw += await anext(pieces)
                except StopAsyncIteration:
                    return bytes(raw)
                if len(raw) > ANSWER_BYTES:
                    raise ProviderError(f"{self._name} sent over {ANSWER_BYTES} bytes", "next", "malformed")

    @asynccontextmanager
    async def _open(
        self, path: str, body: Any, clock: _Clock, headers: Mapping[str, str] | None
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """A response of status 200. What goes wrong until it is closed becomes a ProviderError."""
        import aiohttp

        data = msgspec.json.encode(body)
        response: aiohttp.ClientResponse | None = None
        try:
            async with clock.first():
                response = await self._session_now().post(
                    self._url_of(path),
                    data=data,
                    headers={**self._headers, **call_headers(), **(headers or {})},
                    allow_redirects=False,
                )
                if response.status != 200:
                    with self.key_hidden():
                        raise await self._refused(response)
            yield response
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
            raise ProviderError(f"no connection to {self._name}", "again", "connect") from None
        except aiohttp.ServerDisconnectedError:
            raise ProviderError(f"{self._name} closed the connection", "again", "connect") from None
        except aiohttp.ClientError:
            raise ProviderError(f"{self._name} broke off its answer", "again", "cut") from None
        except OSError:
            raise ProviderError(f"no connection to {self._name}", "again", "connect") from None
        finally:
            # What was not read to its end must not be read by the next request: the connection goes.
            if response is not None:
                response.close()

    async def _refused(self, response: aiohttp.ClientResponse) -> ProviderError:
        raw = b""
        async for piece in response.content.iter_any():
            raw += piece
            if len(raw) >= ERROR_BYTES:
                break
        if self._key:
            raw = raw.replace(self._key.encode(), HIDDEN.encode())
        return refused(self._name, response.status, response.headers, raw)

    def _url_of(self, path: str) -> Any:
        """The URL of a path, parsed once. There are as many as a provider has endpoints."""
        from yarl import URL

        if path not in self._urls:
            self._urls[path] = URL(f"{self._url}{path}")
        return self._urls[path]

    def _session_now(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Ours are three of another kind.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                trust_env=False,
                auto_decompress=True,
                read_bufsize=1 << 18,
            )
        return self._session


class _Clock:
    """The three deadlines of one attempt."""

    def __init__(self, limits: AttemptLimits, name: str) -> None:
        self._limits = limits
        self._name = name
        self._end = time.monotonic() + limits.total
        self._has_begun = False

    def first(self) -> _Within:
        """Within the time until the first byte of an answer."""
        return _Within(self._left(self._limits.first), self._name)

    def part(self) -> _Within:
        """Within the time until the next part; the first one belongs to the answer's first byte."""
        seconds = self._limits.between if self._has_begun else self._limits.first
        self._has_begun = True
        return _Within(self._left(seconds), self._name)

    def _left(self, seconds: float) -> float:
        return max(0.0, min(seconds, self._end - time.monotonic()))


class _Within:
    """Ends its block after `seconds` with a ProviderError."""

    def __init__(self, seconds: float, name: str) -> None:
        self._seconds = seconds
        self._name = name
        self._is_late = False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._give_up)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if not self._is_late:
            return
        if kind is asyncio.CancelledError:
            if self._task is not None and self._task.uncancel() > 0:
                # Somebody else cancels, too: theirs counts.
                return
            raise ProviderError(
                f"{self._name} sent nothing for {self._seconds:.3g} s", "again", "timeout"
            ) from None
        if self._task is not None:
            self._task.uncancel()

    def _give_up(self) -> None:
        self._is_late = True
        if self._task is not None:
            self._task.cancel()


def refused(name: str, status: int, headers: Mapping[str, str], raw: bytes) -> ProviderError:
    """What a status other than 200 means for the attempt. `raw`: the beginning of its body."""
    # What it says of a key is the operator's to know, not the client's.
    said = "" if status in _ROTATE else _read_message(raw)
    wait = read_retry_after(headers)
    text = f"{name} answered {status}" + (f": {said}" if said else "")
    remedy, kind = classify(status, _read_code(raw), _read_message(raw), wait)
    return ProviderError(text, remedy, kind, status=status, retry_after=wait)


def classify(status: int, code: str, said: str, wait: float) -> tuple[Remedy, str]:
    """Remedy and kind of a fault. code: the error's type and code. said: its message. wait: seconds asked for."""
    code, said = code.lower(), said.lower()
    is_used_up = any(word in code for word in _NO_CREDIT) or said.startswith(_NO_CREDIT_TEXT)
    if status in (400, 429) and is_used_up:
        return "rotate", "quota"
    if status == 429:
        return ("again" if wait <= SHORT_WAIT else "next"), "rate_limit"
    if 400 <= status < 500 and any(word in f"{code} {said}" for word in _TOO_LONG):
        return "larger", "too_long"
    # A redirect, and a status that nobody knows, are faults of the provider.
    return _BY_STATUS.get(status, ("give_up", "invalid") if 400 <= status < 500 else ("next", "server"))


def read_retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of retry-after-ms or retry-after (seconds, or a date); 0 where neither says any."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        raw = headers.get(name, "")
        try:
            if raw:
                return max(0.0, float(raw) * scale)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(raw).timestamp() - time.time())
        except (ValueError, TypeError):
            continue
    return 0.0


def _read_error(raw: bytes) -> Any:
    """What stands under "error" in a body, else the body itself; None where it is no JSON."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value.get("error", value) if isinstance(value, dict) else None


def _read_code(raw: bytes) -> str:
    """Type and code of an error, each shortened: they are the provider's own words."""
    error = _read_error(raw)
    if not isinstance(error, dict):
        return ""
    return " ".join(str(error.get(name) or "")[:40] for name in ("type", "code"))


def _read_message(raw: bytes) -> str:
    """The message within an error's body, in one line and shortened; "" where there is none."""
    error = _read_error(raw)
    text = error.get("message", "") if isinstance(error, dict) else error
    return " ".join(text.split())[:QUOTED] if isinstance(text, str) else ""
