import pytest

from trireme.triton.load import load_of

TRITON = """
nv_inference_request_success{model="a",version="1"} 40
nv_inference_request_failure{model="a",reason="BACKEND",version="1"} 2
nv_inference_pending_request_count{model="a",version="1"} 3
nv_inference_compute_infer_duration_us{model="a",version="1"} 8e6
nv_inference_count{model="a",version="1"} 40
nv_inference_exec_count{model="a",version="1"} 10
"""
OURS = """
trireme_backlog_seconds{model="a"} 1.5
trireme_backlog_seconds{model="llm"} 4
trireme_backlog_seconds{model="ingest"} 900
trireme_queue_depth{instance="a_0",model="a"} 2
trireme_queue_depth{instance="a_1",model="a"} 3
trireme_queue_depth{instance="llm_0",model="llm"} 6
trireme_queue_depth{model="ingest"} 1000
vllm:num_requests_running{model="llm"} 4
vllm:num_requests_waiting{model="llm"} 6
trireme_request_failures_total{code="INVALID_ARG",model="a"} 9
trireme_request_failures_total{code="UNAVAILABLE",model="a"} 1
trireme_request_failures_total{code="INTERNAL",model="llm"} 2
"""


def test_models_say_what_waits_and_the_queue_of_all_replicas_is_nobodys():
    load = load_of(TRITON + OURS)
    assert load.is_measured
    assert load.backlog == {"a": 1.5, "llm": 4.0}
    assert load.backlog_seconds == 5.5
    # Three of the five that wait for `a` are in Triton's queue; what waits for the LLM has two names.
    assert (load.pending, load.waiting, load.running, load.in_flight) == (3, 8, 4, 15)
    assert (load.answered, load.failed) == (42.0, 3.0)


def test_without_them_it_is_estimated_from_tritons_own_figures():
    load = load_of(TRITON)
    assert not load.is_measured
    # 10 batches of four took 0.2 s each: 0.05 s for a request, of which three wait.
    assert load.backlog_seconds == pytest.approx(0.15)


def test_a_page_that_has_nothing_is_no_load():
    load = load_of("")
    assert (load.in_flight, load.backlog_seconds, load.answered, load.is_measured) == (0, 0, 0, False)


def test_what_is_no_number_counts_as_none():
    assert (
        load_of(
            'trireme_backlog_seconds{model="a"} NaN\nvllm:num_requests_running{model="a"} +Inf\n'
        ).in_flight
        == 0
    )


@pytest.mark.parametrize("value", ["1e308", "-5", "NaN", "+Inf", "1e16"])
def test_what_is_no_count_counts_as_none(value):
    names = ("nv_inference_pending_request_count", "trireme_backlog_seconds", "vllm:num_requests_running")
    load = load_of("".join(f'{name}{{model="{model}"}} {value}\n' for name in names for model in "ab"))
    assert load.in_flight == 0
    assert load.backlog_seconds == 0
