"""An agent beside the server of the default models: all of them ready, and a drain that waits for the LLM."""

import threading
import time

from stacks import free_ports, wait_until

from fakes.agents import AgentRun
from trireme.agent.client import drain
from trireme.agent.options import AgentOptions
from trireme.triton.load import load_of
from trireme.triton.metrics import read_metrics, read_samples

ENDLESS = {"max_tokens": 300, "ignore_eos": True, "temperature": 0}


def running(settings):
    page = read_metrics(settings.host, settings.metrics_port)
    return sum(value for _, value in read_samples(page, "vllm:num_requests_running"))


def test_a_drain_of_the_default_models_waits_for_the_answer_that_the_llm_writes(stack, client, tmp_path):
    settings = stack.settings
    port, http_port = free_ports(2)
    options = AgentOptions(
        server=settings.grpc_url,
        metrics_url=f"http://{settings.host}:{settings.metrics_port}/metrics",
        port=port,
        http_port=http_port,
    )
    agent = AgentRun(options, tmp_path / "agent.log")
    parts, ended = [], []

    def generate():
        parts.extend(client.generate("Count to a hundred.", sampling=ENDLESS))
        ended.append(time.monotonic())

    try:
        agent.wait_until_ready()
        # Models say their backlog under the names that load reports are made of.
        wait_until(lambda: load_of(read_metrics(settings.host, settings.metrics_port)).is_measured)
        asker = threading.Thread(target=generate)
        asker.start()
        wait_until(lambda: ended or running(settings))
        report = drain(agent.http, 120.0)
        drained = time.monotonic()
        asker.join()
    finally:
        agent.close()
    assert report.is_empty
    assert ended[0] < drained
    assert (parts[-1].finish_reason, parts[-1].output_tokens) == ("length", ENDLESS["max_tokens"])
