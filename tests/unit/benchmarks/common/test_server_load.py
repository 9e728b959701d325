import pytest

from benchmarks.common.server_load import compare_counts, read_counts

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
