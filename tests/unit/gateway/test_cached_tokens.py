"""What a model's prefix cache had, from its provider's usage to each surface's, and to the metric of the tiers."""

import json

import pytest

from fakes.gateways import SECRET, Echo, FakeGateway
from trireme.providers.chat import Finished, Started, TextDelta, Usage

TURNS = [{"role": "user", "content": "hi"}]
BODIES = {
    "/v1/chat/completions": {"model": "llm", "messages": TURNS},
    "/v1/completions": {"model": "llm", "prompt": "hi"},
    "/v1/responses": {"model": "llm", "input": "hi"},
    "/v1/messages": {"model": "llm", "messages": TURNS, "max_tokens": 9},
}


def said_on(path, usage):
    """The cached tokens of a body's usage; None where it says none."""
    if path == "/v1/messages":
        return usage.get("cache_read_input_tokens")
    field = "input_tokens_details" if path == "/v1/responses" else "prompt_tokens_details"
    return usage.get(field, {}).get("cached_tokens")


def gateway_of(cached):
    def script(call, model):
        yield Started(model)
        yield TextDelta("one")
        yield Usage(7, 1, cached)
        yield Finished("stop")

    return FakeGateway(Echo(script))


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("cached", [None, 0, 4])
def test_each_surface_says_what_the_prefix_cache_had(path, cached):
    with gateway_of(cached) as gateway:
        status, _, raw = gateway.ask("POST", path, BODIES[path])
    assert status == 200, raw
    # The Responses API has no answer without the count.
    expected = 0 if path == "/v1/responses" and cached is None else cached
    assert said_on(path, json.loads(raw)["usage"]) == expected


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_says_what_the_prefix_cache_had(path):
    wants = {"stream_options": {"include_usage": True}} if path.endswith("completions") else {}
    with gateway_of(4) as gateway:
        _, _, raw = gateway.ask("POST", path, {**BODIES[path], "stream": True, **wants})
    lines = [line.removeprefix(b"data: ") for line in raw.split(b"\n") if line.startswith(b"data: {")]
    events = [json.loads(line) for line in lines]
    usages = [event.get("usage") or event.get("response", {}).get("usage") for event in events]
    assert said_on(path, [usage for usage in usages if usage][-1]) == 4


def test_the_tier_counts_them_by_tenant():
    with gateway_of(4) as gateway:
        for _ in range(2):
            gateway.ask("POST", "/v1/chat/completions", BODIES["/v1/chat/completions"])
        _, _, raw = gateway.ask("GET", "/metrics", secret=SECRET)
    assert b'trireme_cache_tokens_total{tenant="acme",tier="prefix"} 8.0' in raw


def test_an_engine_that_does_not_count_leaves_the_tier_alone():
    with gateway_of(None) as gateway:
        gateway.ask("POST", "/v1/chat/completions", BODIES["/v1/chat/completions"])
        _, _, raw = gateway.ask("GET", "/metrics", secret=SECRET)
    assert b'tier="prefix"' not in raw
