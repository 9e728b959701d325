"""Which bound holds for which target."""

import asyncio

import pytest

from fakes.providers import ScriptedProvider, target_of
from fakes.spending import FILE, call_of
from trireme.errors import UnsupportedError
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.spending.bounds import Bounds, ChatBound, bound_of_pairs, bound_of_texts
from trireme.gateway.spending.estimates import input_bound


class Own:
    """Estimates of a model of our own: 5 by its tokenizer, 9 without it."""

    def __init__(self, has_files=True):
        self.has_files = has_files
        self.exact = []

    def input_bound(self, call, model):
        return 9

    def is_long(self, call):
        return call.messages[0].text == "long"

    def count_exact(self, call, model):
        self.exact.append(model)
        if not self.has_files:
            raise UnsupportedError("its tokenizer is not at hand")
        return 5

    def output_limit(self, model):
        return 64 if self.has_files else None


def bound(own, call, name="local", is_capped=True):
    bounds = Bounds(parse_gateway_file(FILE.encode(), "gateway.toml"), own)
    target = target_of(ScriptedProvider(), name=name)

    async def both():
        return [await bounds.chat(call, target, is_capped=is_capped) for _ in range(2)]

    return asyncio.run(both())


def test_our_own_model_is_counted_by_its_tokenizer_once_and_again_where_a_text_is_long():
    own = Own()
    assert bound(own, call_of()) == [ChatBound(5, 64, False), ChatBound(9, 64, False)]
    assert len(own.exact) == 1
    assert [one.input for one in bound(own, call_of("long"))] == [5, 5]


@pytest.mark.parametrize("call", [call_of(), call_of("long")])
def test_without_its_files_or_without_a_budget_bytes_are_the_bound(call):
    assert [one.input for one in bound(Own(has_files=False), call)] == [9, 9]
    own = Own()
    assert bound(own, call, is_capped=False)[0].input == input_bound(call, "triton")
    assert own.exact == []


def test_other_providers_are_bound_by_bytes_and_by_what_the_file_says():
    first, _ = bound(Own(), call_of(), name="a")
    assert first == ChatBound(input_bound(call_of(), "openai"), 4096, True)
    named, _ = bound(Own(), call_of(max_tokens=7, choices=3), name="a")
    assert (named.output, named.must_send) == (21, False)


def test_pairs_read_the_query_with_each_text():
    assert bound_of_texts(["abc", "de"]) == 5 + 2 * 32
    assert bound_of_pairs("query", ["abc", "de"]) == 5 + 2 * 32 + 2 * 5
