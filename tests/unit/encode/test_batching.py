import itertools
import random

from trireme.encode.batching import ROW_COUNTS, RunCost, plan_micro_batches


def test_every_row_is_in_exactly_one_micro_batch_and_the_budget_holds():
    rng = random.Random(7)
    for _ in range(50):
        lengths = [rng.randint(1, 300) for _ in range(rng.randint(1, 60))]
        batches = plan_micro_batches(lengths, 512)
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        assert all(len(batch) * max(lengths[row] for row in batch) <= 512 for batch in batches)


def test_one_long_row_does_not_pad_the_short_ones():
    assert plan_micro_batches([5, 500, 6, 5], 512) == [[1], [2, 0, 3]]


def test_rows_part_where_padding_costs_more_than_another_call():
    assert plan_micro_batches([8, 8, 20], 512, RunCost(4)) == [[2], [0, 1]]
    assert plan_micro_batches([8, 8, 20], 512, RunCost(25)) == [[2, 0, 1]]


def test_no_other_cut_of_the_sorted_rows_is_cheaper():
    rng = random.Random(5)
    for _ in range(30):
        lengths = sorted((rng.randint(1, 40) for _ in range(8)), reverse=True)
        plan = plan_micro_batches(lengths, 100, RunCost(6))
        cost = sum(len(batch) * lengths[batch[0]] + 6 for batch in plan)
        for cuts in range(2**7):
            bounds = [0, *(i + 1 for i in range(7) if cuts >> i & 1), 8]
            parts = [lengths[a:b] for a, b in itertools.pairwise(bounds)]
            if all(part[0] * len(part) <= 100 for part in parts):
                assert cost <= sum(part[0] * len(part) + 6 for part in parts)


def test_pairs_of_tokens_bound_a_micro_batch_where_a_session_holds_them():
    lengths = [8, 8, 8, 8, 4, 4, 20]
    held = RunCost(keeps_attention=True)
    batches = plan_micro_batches(lengths, 512, held, max_attention=128)
    assert [sorted(lengths[row] for row in batch) for batch in batches] == [[20], [8, 8], [8, 8], [4, 4]]
    assert plan_micro_batches(lengths, 512, RunCost(), 128) == plan_micro_batches(lengths, 512)


def test_many_rows_of_one_length_fill_the_budget():
    assert [len(batch) for batch in plan_micro_batches([10] * 100, 200)] == [20] * 5


def test_a_row_above_the_budget_runs_alone():
    assert plan_micro_batches([600, 10], 512) == [[0], [1]]


def test_no_rows_make_no_micro_batches():
    assert plan_micro_batches([], 512) == []


def test_a_session_of_few_shapes_gets_few_widths_and_row_counts():
    rng = random.Random(3)
    cost = RunCost(call_tokens=18, few_shapes=True)
    shapes = set()
    for _ in range(300):
        lengths = [rng.randint(3, 256) for _ in range(rng.randint(1, 64))]
        batches = plan_micro_batches(lengths, 2048, cost)
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        shapes |= {(len(batch), cost.width(max(lengths[row] for row in batch))) for batch in batches}
    assert {rows for rows, _ in shapes} <= set(ROW_COUNTS)
    assert all(rows * width <= 2048 for rows, width in shapes)
    assert len({width for _, width in shapes}) <= 57


def test_widths_are_rounded_up_by_less_than_a_step_and_not_past_the_longest_row():
    cost = RunCost(few_shapes=True, max_width=259)
    widths = [cost.width(longest) for longest in range(1, 260)]
    assert all(0 <= width - longest < max(2, longest / 8) for longest, width in enumerate(widths, 1))
    assert widths[-1] == 259
    assert RunCost().width(77) == 77


def test_rows_that_need_no_padding_keep_their_order_and_fill_the_budget():
    assert plan_micro_batches([5, 9, 2, 30, 1], 16, RunCost(pads=False)) == [[0, 1, 2], [3], [4]]
