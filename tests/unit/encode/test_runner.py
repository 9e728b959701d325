from fakes.encoders import SumSession, word_tokenizer
from trireme.encode.batching import RunCost
from trireme.encode.runner import run_rows, warm_up


def test_outputs_come_back_in_the_order_of_the_rows():
    rows = word_tokenizer().encode_texts(["a", "a b c d e", "b", "c d"])
    output, _ = run_rows(SumSession(), rows, max_batch_tokens=8)
    assert output[:, 0].tolist() == [sum(row.ids) for row in rows]


def test_the_cost_counts_tokens_padding_and_micro_batches():
    rows = word_tokenizer().encode_texts(["a", "a b c"])
    _, stats = run_rows(SumSession(), rows, max_batch_tokens=100)
    assert (stats.tokens, stats.pad_tokens, stats.micro_batches) == (8, 2, 1)


def test_padding_counts_the_rounded_width_and_nothing_where_a_session_does_not_pad():
    rows = word_tokenizer().encode_texts(["a", "a b c d"])
    _, stats = run_rows(SumSession(cost=RunCost(call_tokens=9, few_shapes=True)), rows, 100)
    assert (stats.tokens, stats.pad_tokens, stats.micro_batches) == (9, 3, 1)
    _, stats = run_rows(SumSession(cost=RunCost(pads=False)), rows, 100)
    assert (stats.tokens, stats.pad_tokens, stats.micro_batches) == (9, 0, 1)


def test_no_rows_run_nothing():
    session = SumSession()
    output, stats = run_rows(session, [], 100)
    assert len(output) == 0
    assert session.shapes == []
    assert stats.micro_batches == 0


def test_a_warm_up_runs_every_width_alone_then_more_rows():
    session = SumSession(cost=RunCost(call_tokens=1, few_shapes=True, max_width=9))
    assert warm_up(session, 9) == 12
    widths = [4, 6, 8, 9]
    assert session.shapes == [(rows, width) for rows in (1, 2, 4) for width in widths]


def test_a_warm_up_runs_every_shape_once_for_each_stream():
    session = SumSession(cost=RunCost(call_tokens=1, few_shapes=True, max_width=4))
    session.streams = 2
    assert warm_up(session, 4) == 6
    assert session.shapes == [(1, 4), (1, 4), (2, 4), (2, 4), (4, 4), (4, 4)]


def test_a_warm_up_ends_with_its_time_and_is_left_out_where_shapes_cost_nothing():
    session = SumSession(cost=RunCost(few_shapes=True))
    assert warm_up(session, 512, seconds=-1) == 0
    assert warm_up(SumSession(), 512) == 0
