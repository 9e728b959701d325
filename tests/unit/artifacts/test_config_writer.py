import dataclasses

import pytest
from google.protobuf import json_format

from trireme.artifacts.config_writer import PARAMETERS, config_files, render, warmup_files, write_config
from trireme.artifacts.recipe import Recipe
from trireme.errors import SettingError

SEARCH = {
    "with a reranker": ("embedding", "search__retrieve", "reranker", "search__sort"),
    "without": ("embedding", "search__retrieve", "search__sort"),
}
RECIPES = [
    Recipe("e", "text_encoder", source="x", warmup=True, dynamic_batching=True, response_cache=True),
    Recipe("r", "cross_encoder", source="x", warmup=True, max_batch_size=16, embedder="e"),
    Recipe("c", "classifier", source="x", target="gpu", instances=2),
    Recipe("t", "retriever", embedder="e", candidates=30),
    Recipe("b", "sort"),
    *(Recipe("s", "search", steps=steps) for steps in SEARCH.values()),
]


GENERATOR = Recipe("llm", "generator", source="x", max_num_seqs=8)
RAG = Recipe(
    "rag", "rag", steps=("embedding", "search__retrieve", "reranker", "llm"), extractive_threshold=0.5
)


def parse(recipe):
    text_format = pytest.importorskip("google.protobuf.text_format")
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(write_config(recipe), model_config_pb2.ModelConfig())


def names(tensors):
    return [tensor.name for tensor in tensors]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.kind} {len(recipe.steps)}")
def test_every_config_parses_and_batches(recipe):
    config = parse(recipe)
    assert config.name == recipe.model
    assert config.max_batch_size == recipe.max_batch_size >= 1
    assert write_config(recipe) == write_config(recipe)


@pytest.mark.parametrize(
    "config",
    [
        {"instance_grop": [{"count": 1}]},
        {"instance_group": [{"cont": 1}]},
        {"input": [{"data_type": "TYPE_TEXT"}]},
        {"max_batch_size": "many"},
    ],
    ids=lambda config: next(iter(config)),
)
def test_a_field_or_value_that_triton_does_not_know_is_an_error_where_it_is_written(config):
    with pytest.raises(json_format.ParseError, match=r"instance_grop|cont|TYPE_TEXT|many"):
        render(config)


def test_an_encoder_is_batched_cached_warmed_and_told_its_limits():
    config = parse(RECIPES[0])
    assert names(config.input) == ["text", "input_type", "dimensions", "over_length"]
    assert [tensor.optional for tensor in config.input] == [False, True, True, True]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    # A request of one row shares no batch with one that the Python backend cannot read.
    assert list(config.dynamic_batching.preferred_batch_size) == [1]
    # Whoever says nothing is not the bulk.
    assert config.dynamic_batching.priority_levels == 2
    assert config.dynamic_batching.default_priority_level == 1
    assert config.response_cache.enable
    assert config.model_warmup[0].inputs["text"].input_data_file == "text"
    assert config.parameters["max_batch_tokens"].string_value == "2048"


def test_a_batcher_with_priorities_has_a_delay_since_without_one_it_sleeps_while_requests_wait():
    text = Recipe("e", "text_encoder", source="x", dynamic_batching=True, max_queue_delay_us=0)
    assert parse(text).dynamic_batching.max_queue_delay_microseconds == 1
    pair = Recipe("e", "cross_encoder", source="x", dynamic_batching=True, max_queue_delay_us=0)
    assert parse(pair).dynamic_batching.max_queue_delay_microseconds == 0
    assert parse(pair).dynamic_batching.priority_levels == 0


@pytest.mark.parametrize(
    ("outputs", "tensors"),
    [
        ((), ["embedding", "token_count", "truncated_tokens"]),
        (("sparse",), ["token_count", "truncated_tokens", "sparse_indices", "sparse_weights"]),
        (
            ("multi", "dense"),
            ["embedding", "token_count", "truncated_tokens", "token_vectors", "vector_count"],
        ),
    ],
)
def test_an_encoder_has_the_outputs_that_its_recipe_names(outputs, tensors):
    config = parse(Recipe("e", "text_encoder", source="x", outputs=outputs))
    assert names(config.output) == tensors
    assert all(list(tensor.dims) == [-1, -1] for tensor in config.output if tensor.name == "token_vectors")


def test_a_plain_encoder_has_no_batcher_cache_or_warmup():
    config = parse(Recipe("e", "text_encoder", source="x"))
    assert not config.HasField("dynamic_batching")
    assert not config.response_cache.enable
    assert not config.model_warmup


def test_a_classifier_is_served_by_the_cross_encoder_backend_on_its_target():
    from tritonclient.grpc import model_config_pb2

    config = parse(RECIPES[2])
    assert config.backend == "cross_encoder"
    assert names(config.output) == ["label", "score"]
    group = config.instance_group[0]
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)


def test_a_retriever_is_never_cached():
    config = parse(RECIPES[3])
    assert not config.response_cache.enable
    assert config.parameters["candidates"].string_value == "30"


@pytest.mark.parametrize("form", SEARCH)
def test_every_tensor_of_the_search_ensemble_is_made_before_it_is_read(form):
    config = parse(Recipe("s", "search", steps=SEARCH[form]))
    known = set(names(config.input))
    for step in config.ensemble_scheduling.step:
        assert set(step.input_map.values()) <= known
        assert not known & set(step.output_map.values())
        known |= set(step.output_map.values())
    assert set(names(config.output)) <= known
    assert [step.model_name for step in config.ensemble_scheduling.step] == list(SEARCH[form])


def test_the_reranked_score_replaces_the_retrievers():
    for form, expected in (("with a reranker", "reranked_score"), ("without", "found_rank_score")):
        config = parse(Recipe("s", "search", steps=SEARCH[form]))
        assert config.ensemble_scheduling.step[-1].input_map["score"] == expected


def test_warmup_texts_are_serialized_as_triton_reads_them():
    files = warmup_files(RECIPES[1])
    assert set(files) == {"query", "passages"}
    content, texts = files["passages"], []
    while content:
        size = int.from_bytes(content[:4], "little")
        texts.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    config = parse(RECIPES[1])
    assert [len(texts)] == list(config.model_warmup[0].inputs["passages"].dims)
    assert all(texts)
    assert set(config_files(RECIPES[1])) == {"config.pbtxt", "warmup/query", "warmup/passages"}


@pytest.mark.parametrize("recipe", [GENERATOR, RAG], ids=lambda recipe: recipe.kind)
def test_a_streaming_model_is_decoupled_and_has_no_batch_dimension(recipe):
    config = parse(recipe)
    assert config.model_transaction_policy.decoupled
    assert config.max_batch_size == 0
    assert config.backend == recipe.kind
    assert {"stream", "sampling_parameters"} <= set(names(config.input))
    assert "text_output" in names(config.output)


def test_a_generator_takes_text_or_messages_and_is_told_its_limits():
    config = parse(GENERATOR)
    assert all(tensor.optional for tensor in config.input)
    assert config.parameters["engine"].string_value == "openvino"
    assert config.parameters["max_num_seqs"].string_value == "8"
    assert config.parameters["prefix_caching"].string_value == "true"


def test_the_target_chooses_the_engine_unless_the_recipe_names_one():
    on_gpu = parse(Recipe("llm", "generator", source="x", target="gpu"))
    assert on_gpu.parameters["engine"].string_value == "vllm"
    named = parse(Recipe("llm", "generator", source="x", target="gpu", engine="fake"))
    assert named.parameters["engine"].string_value == "fake"


def test_an_llm_on_several_cards_is_one_instance_that_chooses_them():
    from tritonclient.grpc import model_config_pb2

    alone = Recipe("llm", "generator", source="x", target="gpu")
    config = parse(dataclasses.replace(alone, tensor_parallel_size=2))
    assert config.parameters["tensor_parallel_size"].string_value == "2"
    group = config.instance_group[0]
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_MODEL, 1)
    assert parse(alone).instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_rag_names_its_steps_and_thresholds():
    config = parse(RAG)
    assert config.parameters["steps"].string_value == "embedding,search__retrieve,reranker,llm"
    assert config.parameters["extractive_threshold"].string_value == "0.5"


def test_an_ingester_takes_documents_or_jobs_and_answers_for_each():
    config = parse(Recipe("ingest", "ingester", max_documents=5))
    assert config.max_batch_size == 1
    assert all(tensor.optional for tensor in config.input)
    # The generate endpoint takes a list of `id` for itself, and fails.
    assert "id" not in names(config.input)
    assert names(config.output) == ["job_id", "state", "error"]
    assert config.parameters["max_documents"].string_value == "5"
    assert not config.HasField("dynamic_batching")


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [
        ((), ["embedding"]),
        (("dense", "sparse"), ["embedding", "sparse_indices", "sparse_weights"]),
        (("sparse",), ["sparse_indices", "sparse_weights"]),
    ],
)
def test_a_search_hands_what_its_recipe_names_of_the_encoder_to_the_retriever(outputs, inputs):
    retriever = parse(Recipe("r", "retriever", embedder="e", outputs=outputs))
    taken = [one.name for one in retriever.input if one.name in inputs]
    assert sorted(taken) == inputs
    search = parse(Recipe("s", "search", steps=("e", "r", "search__sort"), outputs=outputs))
    encoder, step = search.ensemble_scheduling.step[:2]
    assert sorted(encoder.output_map) == inputs
    assert {name: step.input_map[name] for name in inputs} == dict(encoder.output_map)
    assert {one.name for one in retriever.input} >= set(step.input_map)


def test_a_retriever_takes_no_vectors_of_tokens_and_several_outputs_no_response_cache():
    with pytest.raises(SettingError, match="must be of dense, sparse, got 'multi'"):
        Recipe("r", "retriever", embedder="e", outputs=("multi",))
    with pytest.raises(SettingError, match="response_cache must be false"):
        Recipe("e", "text_encoder", source="x", outputs=("dense", "sparse"), response_cache=True)


@pytest.mark.parametrize("kind", ["text_encoder", "cross_encoder", "classifier"])
def test_engine_vllm_alone_is_told_an_encoders_share_of_the_card(kind):
    plain = Recipe("e", kind, source="x", target="gpu")
    assert "gpu_memory_utilization" not in parse(plain).parameters
    pooled = dataclasses.replace(plain, engine="vllm", precision="bf16", gpu_memory_utilization=0.3)
    assert parse(pooled).parameters["gpu_memory_utilization"].string_value == "0.3"
    assert "gpu_memory_utilization" in PARAMETERS[kind]
    with pytest.raises(SettingError, match="gpu_memory_utilization is for engine vllm; leave it out"):
        dataclasses.replace(plain, gpu_memory_utilization=0.3)
