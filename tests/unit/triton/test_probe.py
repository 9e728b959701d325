"""A look at a server that is whole, and at ones that are not."""

import asyncio
import time

import grpc
import pytest
from tritonclient.grpc import model_config_pb2

from fakes.triton_replica import serving_replica
from trireme.triton.probe import Probe


@pytest.fixture
def replica():
    with serving_replica("a", "b") as running:
        yield running


def look(replica, *models, seconds=20.0):
    async def once():
        probe = Probe(replica.address, replica.metrics, models, seconds)
        try:
            return await probe.look()
        finally:
            await probe.close()

    return asyncio.run(once())


def ask(replica, model, seconds=20.0):
    async def once():
        probe = Probe(replica.address, replica.metrics)
        try:
            return await probe.ask(model, seconds)
        finally:
            await probe.close()

    return asyncio.run(once())


def says(model, value, age=0.0):
    labels = f'{{instance="{model}_0",model="{model}"}}'
    return (
        f"trireme_model_ready{labels} {value}\n"
        f"trireme_model_checked_seconds{labels} {time.time() - age:.15g}\n"
    )


def test_a_whole_server_has_its_models_and_its_load(replica):
    replica.page = (
        'nv_inference_pending_request_count{model="a"} 2\nnv_inference_request_success{model="a"} 5\n'
        f'trireme_model_loaded_seconds{{model="a",digest="d1",version="v"}} {time.time():.15g}\n'
    )
    found = look(replica)
    assert (found.fault, found.models, found.not_ready) == ("", ("a", "b"), {})
    assert found.load.pending == 2
    assert found.answered == {"a": 5.0}
    assert found.loads == {"a": ("d1",)}


def test_a_model_that_is_not_loaded_says_why(replica):
    replica.index |= {"a": ("UNAVAILABLE", "no weights"), "b": ("LOADING", ""), "idle": ("", "")}
    assert look(replica).not_ready == {"a": "no weights", "b": "it is LOADING"}


def test_a_model_that_triton_calls_not_ready_is_not(replica):
    replica.unready.add("b")
    assert set(look(replica).not_ready) == {"b"}


def test_a_model_of_ours_must_say_that_its_database_answers_and_must_have_said_so_of_late(replica):
    replica.configs["a"].backend = "retriever"
    assert "not said yet" in look(replica).not_ready["a"]
    replica.page = says("a", 0)
    assert "database" in look(replica).not_ready["a"]
    replica.page = says("a", 1, age=60.0)
    assert "database" in look(replica).not_ready["a"]
    replica.page = says("a", 1)
    assert look(replica).not_ready == {}


def test_only_the_models_that_were_named_and_what_they_call_must_be_there(replica):
    replica.index["c"] = ("UNAVAILABLE", "no weights")
    assert look(replica, "a").models == ("a",)
    replica.configs["a"].ensemble_scheduling.step.add(model_name="b")
    replica.configs["b"].parameters["steps"].string_value = "c"
    found = look(replica, "a")
    assert found.models == ("a", "b", "c")
    assert found.not_ready == {"c": "no weights"}
    assert "does not have it" in look(replica, "typo").not_ready["typo"]


def test_of_a_server_that_locks_its_index_the_counted_models_are_taken(replica):
    replica.is_locked = True
    replica.page = 'nv_inference_request_success{model="a"} 0\n'
    assert look(replica).models == ("a",)


def test_a_server_without_metrics_says_nothing_of_its_models(replica):
    replica.page = None
    assert look(replica).fault == "metrics_away"
    replica.page = 'nv_inference_request_success{model="a"} not a number\n'
    assert look(replica).fault == "metrics_away"


@pytest.mark.parametrize("page", ["", "go_goroutines 7\n", "<html>not found</html>\n", 'up{job="nv_x"} 1\n'])
def test_a_page_that_is_not_tritons_is_a_fault_and_not_a_server_without_work(replica, page):
    replica.head, replica.page = "", page
    found = look(replica)
    assert (found.fault, found.load) == ("metrics_foreign", None)
    assert f"{replica.metrics[0]}:{replica.metrics[1]}" in found.detail and "--metrics-url" in found.detail
    # A server without a model has such a page too, but says that it is Triton.
    replica.head = "nv_pinned_memory_pool_total_bytes 0\n"
    assert look(replica).fault in ("", "metrics_away")


def test_a_refused_connection_and_silence_are_told_apart(replica):
    replica.hangs.set()
    assert look(replica, seconds=0.3).fault == "server_silent"
    replica.hangs.clear()
    replica.stop_grpc()
    assert look(replica).fault == "server_away"


def test_an_answer_and_a_refusal_are_words_of_the_model_and_a_dead_process_has_none(replica):
    assert ask(replica, "a") == "answered"

    def refuse(code, text):
        def infer(_, context):
            context.abort(code, text)

        return infer

    replica.infer = refuse(grpc.StatusCode.INVALID_ARGUMENT, "the text is empty")
    assert ask(replica, "a") == "answered"
    replica.infer = refuse(grpc.StatusCode.INTERNAL, "Stub process 'a_0' is not healthy.")
    assert ask(replica, "a") == "gone"


def test_a_model_that_the_server_does_not_know_has_said_nothing(replica):
    assert ask(replica, "nobody") == "owed"


def test_a_model_that_owes_its_answer_has_said_nothing(replica):
    replica.hangs.set()
    assert ask(replica, "a", 0.3) == "owed"


def test_a_model_that_answers_in_parts_is_asked_by_a_stream(replica):
    replica.configs["a"].model_transaction_policy.decoupled = True
    replica.stream = lambda request, context: iter(["the text is empty"])
    assert ask(replica, "a") == "answered"
    replica.stream = lambda request, context: iter(["Stub process 'a_0' is not healthy."])
    assert ask(replica, "a") == "gone"
    replica.stream = lambda request, context: iter(())
    assert ask(replica, "a") == "owed"


TYPES = [value.name for value in model_config_pb2.DataType.DESCRIPTOR.values if value.number]


@pytest.mark.parametrize("name", TYPES)
def test_a_smallest_request_can_be_made_for_every_type(name):
    from trireme.triton.canary import smallest_request

    config = model_config_pb2.ModelConfig(max_batch_size=4)
    config.input.add(name="x", data_type=model_config_pb2.DataType.Value(name), dims=[-1, 3])
    request = smallest_request("m", config)
    [tensor] = request.inputs
    [raw] = request.raw_input_contents
    assert list(tensor.shape) == [1, 1, 3]
    assert tensor.datatype in name.replace("STRING", "BYTES")
    assert raw and not any(raw)
    assert len(raw) % 3 == 0
