"""Clients of Triton's vLLM backend, unchanged, against the default LLM; and what that model says."""

import dataclasses
import json
import queue
import shutil

import numpy as np
import pytest
from stacks import ROOT, start_server, try_until
from tritonclient import grpc

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import hash_file
from trireme.artifacts.recipe import read_recipe
from trireme.checkpoints.lora import adapter_files
from trireme.triton.client import TritonClient

GOLDEN = json.loads((ROOT / "tests" / "golden" / "llm.json").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The default LLM twice: as it is in the repository, and as a plain completion model."""
    repository = tmp_path_factory.mktemp("models")
    for name, chat in (("llm", True), ("plain", False)):
        folder = repository / name
        shutil.copytree(ROOT / "model_repository" / "llm", folder)
        recipe = read_recipe(folder / "recipe.toml")
        place_config(folder, dataclasses.replace(recipe, chat_text_input=chat))
    with start_server(repository, tmp_path_factory.mktemp("run")) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def url(server):
    return f"{server.config.host}:{server.config.grpc_port}"


def vllm_inputs(prompt, stream, sampling, exclude_input):
    """Inputs as in the sample client of Triton's vLLM backend: numbers are strings there."""
    inputs = []
    for name, value, datatype in (
        ("text_input", prompt.encode(), "BYTES"),
        ("stream", stream, "BOOL"),
        ("sampling_parameters", json.dumps(sampling).encode(), "BYTES"),
        ("exclude_input_in_output", exclude_input, "BOOL"),
    ):
        tensor = grpc.InferInput(name, [1], datatype)
        tensor.set_data_from_numpy(np.array([value], dtype=np.object_ if datatype == "BYTES" else bool))
        inputs.append(tensor)
    return inputs


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_of_the_vllm_backend_works_unchanged(url, stream):
    prompts = ["The most dangerous animal is", "The capital of France is", "The future of AI is"]
    sampling = {"temperature": "0.1", "top_p": "0.95", "max_tokens": "20"}
    answers = queue.Queue()
    with grpc.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number, prompt in enumerate(prompts):
            inputs = vllm_inputs(prompt, stream, sampling, True)
            client.async_stream_infer("llm", inputs, request_id=str(number), enable_empty_final_response=True)
        texts, open_ids = {}, {"0", "1", "2"}
        while open_ids:
            result, error = answers.get(timeout=60)
            assert error is None
            response = result.get_response()
            if response.outputs:
                texts[response.id] = texts.get(response.id, "") + result.as_numpy("text_output")[0].decode()
            if response.parameters["triton_final_response"].bool_param:
                open_ids.remove(response.id)
        client.stop_stream()
    assert set(texts) == {"0", "1", "2"}
    assert all(text.strip() for text in texts.values())


def test_perf_analyzer_streams_from_it(server, url, tmp_path):
    from trireme.tune.perf_analyzer import prepare_tool, run_process

    data = [
        {
            "text_input": [f"Tell me about ship number {number}."],
            "stream": [True],
            # As GenAI-Perf writes it.
            "sampling_parameters": ['{"max_tokens": "64", "min_tokens": "64"}'],
        }
        for number in range(8)
    ]
    (tmp_path / "inputs.json").write_text(json.dumps({"data": data}))
    tool = prepare_tool(ROOT / ".trireme")
    command = [str(tool.binary), "-m", "llm", "-u", url, "-i", "grpc", "--streaming", "--async"]
    command += [
        "--concurrency-range",
        "4",
        "--request-count",
        "8",
        "--input-data",
        str(tmp_path / "inputs.json"),
    ]
    command += ["--profile-export-file", str(tmp_path / "export.json")]
    for name in ("text_input", "stream", "sampling_parameters"):
        command += ["--shape", f"{name}:1"]

    def is_streamed():
        """Whether each request had more than one, and all had more than eight on the mean."""
        done = run_process(command, tool.libraries, 120)
        assert done.returncode == 0, done.stdout + done.stderr
        requests = json.loads((tmp_path / "export.json").read_text())["experiments"][0]["requests"]
        assert len(requests) >= 8
        counts = [len(request["response_timestamps"]) for request in requests]
        return min(counts) >= 2 and sum(counts) > 8 * len(requests)

    # Pieces that a slow client missed are joined, so 64 tokens come in 64 responses or fewer.
    try_until(is_streamed, "64 tokens came in hardly any responses", times=3)


def test_the_golden_answers_are_of_this_model():
    recipe = read_recipe(ROOT / "model_repository" / "llm" / "recipe.toml")
    adapter = hash_file(adapter_files(ROOT / recipe.adapter)[1]) if recipe.adapter else ""
    found = (recipe.weights_sha256, adapter)
    assert (GOLDEN["weights_sha256"], GOLDEN["adapter_sha256"]) == found, "write them anew: make golden"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["messages"][-1]["content"][:30])
def test_a_chat_begins_as_transformers_answers_in_float32(url, case):
    sampling = {"max_tokens": len(case["tokens"]), "temperature": 0}
    with TritonClient(url) as client:
        parts = list(client.generate(case["messages"], sampling=sampling))
    assert "".join(part.text for part in parts) == case["text"]
    assert parts[-1].input_tokens == len(case["prompt_tokens"])
    assert parts[-1].output_tokens == len(case["tokens"])


def test_the_default_model_answers_a_request_in_words(url):
    messages = [{"role": "user", "content": "Tell me a short story about a rower on a river."}]
    with TritonClient(url) as client:
        parts = client.generate(messages, sampling={"max_tokens": 40, "temperature": 0})
        text = "".join(part.text for part in parts)
    words = text.split()
    assert len(words) > 10
    assert sum(word.strip(".,;:!?'\"()-\u201c\u201d\u2019").isalpha() for word in words) > 0.8 * len(words)


def test_who_sends_no_system_message_gets_the_templates(url):
    messages = [{"role": "user", "content": "Hello"}]
    counts = []
    with TritonClient(url) as client:
        for given in (messages, [{"role": "system", "content": "x"}, *messages]):
            *_, last = client.generate(given, sampling={"max_tokens": 1, "temperature": 0})
            counts.append(last.input_tokens)
    assert counts[0] > counts[1] + 8, "the default system message of the chat template is in the prompt"
