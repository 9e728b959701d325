import random

from trireme.encode.batching import plan_micro_batches


def test_every_row_is_in_exactly_one_micro_batch_and_the_budget_holds():
    rng = random.Random(7)
    for _ in range(50):
        lengths = [rng.randint(1, 300) for _ in range(rng.randint(1, 60))]
        batches = plan_micro_batches(lengths, 512)
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        assert all(len(batch) * max(lengths[row] for row in batch) <= 512 for batch in batches)


def test_one_long_row_does_not_pad_the_short_ones():
    assert plan_micro_batches([5, 500, 6, 5], 512) == [[1], [2, 0, 3]]


def test_a_row_above_the_budget_runs_alone():
    assert plan_micro_batches([600, 10], 512) == [[0], [1]]


def test_no_rows_make_no_micro_batches():
    assert plan_micro_batches([], 512) == []
