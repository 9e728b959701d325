import os

import pytest
from server_load import (
    compare_counts,
    read_counts,
    read_family_time,
    read_others_time,
    read_processor_time,
)

PAGE = """# HELP nv_inference_request_success Number of successful inference requests
nv_inference_request_success{model="embedding",version="1"} %d
nv_inference_queue_duration_us{model="embedding",version="1"} %d
nv_inference_request_success{model="idle",version="1"} 5
trireme_encoder_tokens_total{model="embedding",version="1"} %d
trireme_encoder_pad_tokens_total{model="embedding",version="1"} %d
trireme_encoder_micro_batches_total{model="embedding",version="1"} %d
nv_cpu_utilization 0.5
"""


def test_counters_are_read_by_model():
    counts = read_counts(PAGE % (10, 2000, 900, 100, 3))
    assert counts["embedding"]["requests"] == 10
    assert counts["idle"] == {"requests": 5}


def test_versions_of_a_model_are_added_up():
    page = (
        'nv_inference_request_success{model="m",version="1"} 2\n'
        'nv_inference_request_success{model="m",version="2"} 3\n'
    )
    assert read_counts(page) == {"m": {"requests": 5}}


def test_a_run_is_what_the_counters_grew_by():
    before, after = (read_counts(PAGE % numbers) for numbers in ((10, 0, 0, 0, 1), (30, 4e4, 750, 250, 6)))
    [load] = compare_counts(before, after)
    assert (load.model, load.requests) == ("embedding", 20)
    assert load.queue_ms == pytest.approx(2)
    assert (load.tokens, load.tokens_per_micro_batch, load.pad_share) == (750, 150, 0.25)


def test_a_model_without_requests_is_left_out():
    counts = read_counts(PAGE % (10, 0, 0, 0, 0))
    assert compare_counts(counts, counts) == ()


def test_processor_time_is_summed_over_a_session(tmp_path):
    for process, name, session, ticks in (
        (1, "server", 7, 100),
        (2, "a (stub) x", 7, 50),
        (3, "other", 8, 9),
    ):
        (tmp_path / str(process)).mkdir()
        rest = f"S 0 0 {session} 0 0 0 0 0 0 0 {ticks} {ticks} 0"
        (tmp_path / str(process) / "stat").write_text(f"{process} ({name}) {rest}\n", encoding="utf-8")
    (tmp_path / "stat").write_text("cpu  300 0 100 9999 9999 0 0 50 0 0\ncpu0 1 1\n", encoding="utf-8")
    time = read_processor_time(7, tmp_path)
    tick = os.sysconf("SC_CLK_TCK")
    assert time.session_s == pytest.approx(300 / tick)
    assert time.machine_s == pytest.approx(400 / tick)


def test_this_machine_can_be_read():
    time = read_processor_time(os.getsid(0))
    assert 0 <= time.session_s <= time.machine_s


def test_the_time_of_others_leaves_out_a_process_and_all_below_it(tmp_path):
    tick = os.sysconf("SC_CLK_TCK")
    # pid, parent, own ticks, ticks of ended children
    for pid, parent, own, ended in ((10, 1, 5, 20), (11, 10, 30, 0), (12, 11, 40, 0), (13, 1, 100, 0)):
        (tmp_path / str(pid)).mkdir()
        fields = ["S", str(parent), "0", "0", *["0"] * 7, str(own), "0", str(ended), "0"]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a b) {' '.join(fields)}\n")
    (tmp_path / "stat").write_text("cpu  200 0 50 900 7 0 0 3 0 0\ncpu0 1\n")
    assert read_others_time(10, tmp_path) == (253 - 95) / tick
    assert read_family_time(10, tmp_path) == 95 / tick
