import pytest

from benchmarks.caching.prefixes import (
    BLOCK_TOKENS,
    PrefixCache,
    Prompt,
    pick_tenant,
    read_trace,
    replay,
    replay_all,
)
from trireme.errors import InvalidInputError


def prompt(*blocks, more=0):
    return Prompt(len(blocks) * BLOCK_TOKENS + more, blocks)


def test_only_whole_blocks_from_the_beginning_on_are_found():
    cache = PrefixCache(0)
    assert cache.read(prompt(1, 2, 3)) == 0
    assert cache.read(prompt(1, 2, 4, 3)) == 2 * BLOCK_TOKENS
    assert cache.read(prompt(9, 2, 3)) == 0


def test_a_block_that_is_not_full_is_never_found():
    half = Prompt(BLOCK_TOKENS + 100, (1, 2))
    cache = PrefixCache(0)
    cache.read(half)
    assert cache.read(half) == BLOCK_TOKENS
    assert len(cache) == 1


def test_the_last_token_is_computed_always():
    cache = PrefixCache(0)
    cache.read(prompt(1, 2))
    assert cache.read(prompt(1, 2)) == 2 * BLOCK_TOKENS - 1


def test_what_was_not_used_for_the_longest_goes_first_and_of_a_prompt_its_end():
    cache = PrefixCache(3)
    cache.read(prompt(1, 2))
    cache.read(prompt(7, 8))
    assert len(cache) == 3
    # Block 2 went, 1 stayed.
    assert cache.read(prompt(1, 2, more=5)) == BLOCK_TOKENS


def test_a_salt_keeps_tenants_apart():
    cache = PrefixCache(0)
    cache.read(prompt(1, more=1), 1)
    assert cache.read(prompt(1, more=1), 2) == 0
    assert cache.read(prompt(1, more=1), 1) == BLOCK_TOKENS


def test_the_turns_of_a_conversation_are_of_one_tenant():
    first, second = prompt(0, 5), prompt(0, 5, 6, 7)
    assert pick_tenant(first, 100, 1) == pick_tenant(second, 100, 1)
    assert len({pick_tenant(prompt(0, name), 100, 1) for name in range(200)}) > 50


def test_more_tenants_find_no_more_and_larger_caches_no_less():
    trace = [prompt(0, name % 7, 100 + name % 13) for name in range(60)]
    rows = {(row.blocks, row.tenants): row.share for row in replay_all(trace, (3, 10, 0), (1, 5), 1)}
    assert rows[3, 1] <= rows[10, 1] <= rows[0, 1]
    assert 0 < rows[0, 5] < rows[0, 1] < 1
    assert replay(trace, 0, 1, 1).input_tokens == 60 * 3 * BLOCK_TOKENS


def test_a_trace_is_read_and_another_file_is_refused_by_its_name(tmp_path):
    file = tmp_path / "trace.jsonl"
    file.write_text('{"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [4, 5]}\n')
    assert read_trace(file) == [Prompt(600, (4, 5))]
    file.write_text('{"input": 1}\n')
    with pytest.raises(InvalidInputError, match=r"trace\.jsonl"):
        read_trace(file)
