"""The rate that an encoder has before its first request."""

from fakes.encoders import SumSession
from trireme.encode.batching import RunCost
from trireme.encode.calibrate import ROUND_BATCHES, ROW_TOKENS, calibrate
from trireme.encode.row_queue import RowQueue
from trireme.types import BatchStats


def calibrated(session, **sizes):
    queue = RowQueue(session, max_batch_tokens=sizes.get("max_batch_tokens", 512))
    values = {"streams": session.streams, "max_length": 512, "max_batch_tokens": 512, "seconds": 0.0} | sizes
    calibrate(queue, **values)
    queue.close()
    return queue


def test_an_encoder_knows_its_rate_and_no_counter_what_was_run_for_it():
    queue = calibrated(SumSession())
    assert queue.rate.value > 0
    assert queue.take_cost() == BatchStats()


def test_full_micro_batches_of_rows_as_long_as_passages_are_run():
    session = SumSession(cost=RunCost(pads=False))
    calibrated(session)
    # The first is not measured.
    assert session.shapes == [(4, ROW_TOKENS)] * (1 + ROUND_BATCHES)


def test_rows_are_no_longer_than_the_model_or_its_micro_batches():
    short, narrow = SumSession(), SumSession()
    calibrated(short, max_length=16)
    calibrated(narrow, max_batch_tokens=32)
    assert {width for _, width in short.shapes} == {16}
    assert {width for _, width in narrow.shapes} == {32}


def test_processor_time_tells_where_others_take_the_cores_and_on_a_device_the_clock(monkeypatch):
    import trireme.encode.calibrate as module

    # Of all that is run a second of processor time is used, whatever the clock says.
    monkeypatch.setattr(module.time, "process_time", iter((5.0, 6.0)).__next__)
    tokens = ROUND_BATCHES * 512
    assert calibrated(SumSession(cost=RunCost(pads=False)), cores=1_000_000).rate.value == tokens * 1_000_000
    monkeypatch.setattr(module.time, "process_time", iter((5.0, 6.0)).__next__)
    assert calibrated(SumSession(cost=RunCost(pads=False)), cores=0).rate.value != 0
    monkeypatch.setattr(module.time, "process_time", iter((5.0, 5.0)).__next__)
    assert calibrated(SumSession(cost=RunCost(pads=False)), cores=2).rate.value > 0
