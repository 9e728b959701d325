"""Every fault of a provider at every place, as clients of both surfaces see it: a whole answer, or an error."""

import json

import pytest

from fakes import upstreams
from fakes.gateways import FakeGateway
from fakes.upstreams import FAULTS, PLACES
from trireme.providers.attempts import AttemptPolicy
from trireme.providers.breaker import BreakerPolicy
from trireme.providers.port import AttemptLimits
from trireme.providers.registry import ProviderOptions, open_provider

TEXT = "one two three four five six seven eight nine"
LIMITS = AttemptLimits(first=0.4, between=0.4, total=3.0)
# The faults of one case must not close the circuit of the next.
PATIENT = AttemptPolicy(pause=0.0, breaker=BreakerPolicy(failures=1_000_000))
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


class Late:
    """A provider that is opened in the gateway's event loop, at its first call."""

    def __init__(self, kind, url):
        self._open = lambda: open_provider(kind, ProviderOptions(kind, url, "sk-test"))
        self._provider = None
        self.surfaces = (kind,)

    def __getattr__(self, name):
        if self._provider is None:
            self._provider = self._open()
        return getattr(self._provider, name)


@pytest.fixture(scope="module", params=["openai", "anthropic"])
def running(request):
    """A gateway over providers of one wire; the fake sends pieces a moment apart."""
    kind = request.param
    with upstreams.serving() as upstream:
        upstream.slow = 1.0
        provider = Late(kind, upstream.url + ("/v1" if kind == "openai" else ""))
        file = f'[providers.p]\nkind = "{kind}"'
        with FakeGateway(provider, file=file, limits=LIMITS, policy=PATIENT) as gateway:
            yield gateway, upstream, provider


def text_of(surface, body, *, stream):
    """The text that a client puts together, and whether it was told that the answer is whole."""
    if not stream:
        value = json.loads(body)
        if surface == "openai":
            return value["choices"][0]["message"]["content"], True
        return "".join(block["text"] for block in value["content"]), True
    frames = [frame for frame in body.decode().split("\n\n") if frame]
    values = [
        json.loads(line[6:]) for frame in frames for line in frame.splitlines() if line.startswith("data: {")
    ]
    if surface == "openai":
        deltas = [one["delta"].get("content") or "" for value in values for one in value.get("choices", ())]
        return "".join(deltas), frames[-1] == "data: [DONE]"
    deltas = [value["delta"].get("text", "") for value in values if value["type"] == "content_block_delta"]
    return "".join(deltas), values[-1]["type"] == "message_stop"


@pytest.mark.parametrize("surface", sorted(PATHS))
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_gets_a_whole_answer_or_is_told_that_it_is_none(running, surface, stream, place, fault):
    gateway, upstream, _ = running
    calls = len(upstream.calls)
    model = f"p:fault-{fault}-{place}"
    body = {
        "model": model,
        "max_tokens": 50,
        "stream": stream,
        "messages": [{"role": "user", "content": TEXT}],
    }
    status, _, raw = gateway.ask("POST", PATHS[surface], body)
    assert 1 <= len(upstream.calls) - calls <= 3
    if status != 200:
        error = json.loads(raw)["error"]
        assert error["message"]
        assert status in (502, 503, 504, 529)
        return
    text, is_whole = text_of(surface, raw, stream=stream)
    if is_whole:
        assert text == TEXT
        assert b'"error"' not in raw
    else:
        assert TEXT.startswith(text)
        assert raw.count(b'"error"') >= 1
        assert b"[DONE]" not in raw
        assert b"message_stop" not in raw
