"""One suite for every SemanticIndex, the fake in memory and the real PostgreSQL."""

import dataclasses
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fakes.memory_semantic import MemorySemanticIndex
from trireme.cache.index import Indexed
from trireme.errors import InvalidInputError

DIMENSIONS = 8
MOST, MOST_OF_PARTITION = 30, 10
# So few that the tests' partitions are searched in both ways.
EXACT_BELOW = 6


def unit(*numbers):
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.linalg.norm(vector)


def question(key, vector, tenant="acme", *, partition="p", seconds=60.0, text=None):
    return Indexed(tenant, partition, key, text or f"what is {key}", vector, seconds)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def index(request):
    if request.param == "memory":
        made = MemorySemanticIndex(DIMENSIONS, MOST, MOST_OF_PARTITION)
    else:
        from trireme.postgres.semantic import PostgresSemanticIndex, SemanticBounds

        made = PostgresSemanticIndex(
            request.getfixturevalue("database").url,
            uuid.uuid4().hex,
            DIMENSIONS,
            SemanticBounds(EXACT_BELOW, MOST, MOST_OF_PARTITION),
        )
    yield made
    made.close()


def keys(index, vector, tenant="acme", partition="p", count=4):
    return [one.key for one in index.find(tenant, partition, vector, count)]


def test_the_nearest_questions_come_first_with_their_cosine(index):
    for key, vector in {"far": unit(0, 1), "near": unit(1, 0.1), "same": unit(1), "half": unit(1, 1)}.items():
        index.keep(question(key, vector))
    found = index.find("acme", "p", unit(1), 3)
    assert [one.key for one in found] == ["same", "near", "half"]
    assert [one.similarity for one in found] == pytest.approx([1.0, 0.995, 0.7071], abs=0.002)
    assert found[0].text == "what is same"
    assert found[0].made_at > 1_700_000_000


def test_an_empty_partition_has_nothing_near(index):
    assert index.find("acme", "p", unit(1), 4) == []


def test_no_other_partition_and_no_other_tenant_sees_a_question(index):
    index.keep(question("a", unit(1)))
    assert keys(index, unit(1)) == ["a"]
    for tenant, partition in (("acme", "q"), ("Acme", "p"), ("acme ", "p"), ("acm\u0435", "p"), ("", "p")):
        assert keys(index, unit(1), tenant, partition) == []


def test_a_partition_of_one_tenant_is_not_changed_by_another(index):
    index.keep(question("a", unit(1)))
    index.keep(question("a", unit(0, 1), tenant="other"))
    index.forget("other", "p", ["a"])
    (found,) = index.find("acme", "p", unit(1), 4)
    assert found.similarity == pytest.approx(1.0, abs=0.002)
    assert keys(index, unit(0, 1), "other") == []


def test_a_key_is_kept_once_in_a_partition_and_the_last_counts(index):
    index.keep(question("a", unit(0, 1), text="an older question"))
    index.keep(question("a", unit(1), text="a newer one"))
    (found,) = index.find("acme", "p", unit(1), 4)
    assert (found.text, round(found.similarity, 2)) == ("a newer one", 1.0)


def test_a_question_whose_time_is_over_is_not_found_and_is_swept(index):
    index.keep(question("over", unit(1), seconds=1e-6))
    index.keep(question("here", unit(1, 0.1)))
    assert keys(index, unit(1)) == ["here"]
    assert index.sweep() == 1
    assert index.sweep() == 0


def test_forgotten_questions_are_not_found(index):
    for key in "abc":
        index.keep(question(key, unit(1)))
    index.forget("acme", "p", ["a", "c", "never"])
    assert keys(index, unit(1)) == ["b"]
    index.forget("acme", "p", [])


def test_the_oldest_of_a_full_partition_go(index):
    for n in range(MOST_OF_PARTITION + 3):
        index.keep(question(f"k{n}", unit(1, n / 100)))
    found = keys(index, unit(1), count=100)
    assert found == [f"k{n}" for n in range(3, MOST_OF_PARTITION + 3)]


def test_a_full_index_is_swept_of_its_oldest_questions(index):
    for n in range(MOST + 5):
        index.keep(question(f"k{n}", unit(1), partition=f"p{n}"))
    assert index.sweep() == 5
    assert [n for n in range(MOST + 5) if not keys(index, unit(1), partition=f"p{n}")] == list(range(5))


def test_a_small_partition_is_found_among_nearer_questions_of_large_ones(index):
    for n in range(9):
        for partition in ("large", "larger"):
            index.keep(question(f"k{n}", unit(1, n / 1000), partition=partition, tenant="other"))
    for n, key in enumerate("abcde"):
        index.keep(question(key, unit(1, 1 + n / 10), partition="small"))
    assert keys(index, unit(1), partition="small") == ["a", "b", "c", "d"]


def test_recall_is_whole_in_a_partition_of_more_than_are_compared_one_by_one(index):
    for n in range(MOST_OF_PARTITION):
        index.keep(question(f"k{n}", unit(1, n / 10)))
        index.keep(question(f"k{n}", unit(1, n / 10), tenant="other", partition="q"))
    # From here on it may have an index of its own.
    index.sweep()
    assert keys(index, unit(1)) == ["k0", "k1", "k2", "k3"]
    index.keep(question("k0", unit(1), tenant="acme"))
    assert keys(index, unit(1)) == ["k0", "k1", "k2", "k3"]
    assert keys(index, unit(1), count=20) == [f"k{n}" for n in range(MOST_OF_PARTITION)]


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": ""},
        {"partition": "p\x00"},
        {"key": "k" * 129},
        {"text": ""},
        {"text": "\ud800"},
        {"text": "x" * 8193},
        {"seconds": 0.0},
        {"vector": np.zeros(DIMENSIONS, np.float32)},
        {"vector": np.full(DIMENSIONS, np.nan, np.float32)},
        {"vector": np.ones(DIMENSIONS + 1, np.float32)},
    ],
)
def test_what_cannot_be_kept_is_refused(index, changes):
    with pytest.raises(InvalidInputError):
        index.keep(dataclasses.replace(question("a", unit(1)), **changes))
    assert keys(index, unit(1)) == []


def test_a_vector_of_another_length_finds_nothing_and_says_why(index):
    with pytest.raises(InvalidInputError, match="shape"):
        index.find("acme", "p", np.ones(3, np.float32), 4)


def test_several_threads_keep_and_find_at_once(index):
    def work(n):
        index.keep(question(f"k{n}", unit(1, n), partition=f"p{n % 4}"))
        return keys(index, unit(1, n), partition=f"p{n % 4}", count=1)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(24)))
    assert all(len(one) == 1 for one in found)


def test_a_large_partition_that_has_shrunk_is_still_found(index):
    for n in range(MOST_OF_PARTITION):
        index.keep(question(f"k{n}", unit(1, n / 10)))
    index.sweep()
    assert keys(index, unit(1), count=1) == ["k0"]
    index.forget("acme", "p", [f"k{n}" for n in range(MOST_OF_PARTITION - 1)])
    assert keys(index, unit(1)) == [f"k{MOST_OF_PARTITION - 1}"]
    index.sweep()
    assert keys(index, unit(1)) == [f"k{MOST_OF_PARTITION - 1}"]


def test_a_closed_index_opens_again(index):
    index.keep(question("a", unit(1)))
    index.close()
    index.close()
    assert keys(index, unit(1)) == ["a"]
