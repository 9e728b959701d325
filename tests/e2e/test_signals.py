"""The signals of a real server under loads whose truth is known: held models, so what waits stays. No times."""

import dataclasses
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from generators import TOKENIZER, Hold, place_generator
from stacks import ROOT, environment_of, start_server, wait_until
from tritonclient import grpc

from fakes.ports import free_ports
from trireme.errors import UnavailableError
from trireme.generate.tokenizer import LlmTokenizer
from trireme.observe import metrics as names
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_metrics, read_samples

# What Triton warms the model up with: all of its requests have as many tokens.
TEXT = "A short sentence to warm up with."
PLACES, WAITING = 2, 3
SORTERS = 2
# A request may say that Triton shall refuse it where it waits longer, in microseconds.
QUEUE_POLICY = "default_queue_policy { default_timeout_microseconds: 600000000 allow_timeout_override: true }"
SHORT = 1000
HELD_MODEL = '''
import time
from pathlib import Path

import trireme.triton.backends.text_encoder as backend

HOLD = Path({hold!r})
opened = backend.open_session


class Held:
    """The real session; a run waits while the file is there."""

    def __init__(self, session):
        self._session = session
        self.cost, self.streams = session.cost, session.streams

    def run(self, batch):
        while HOLD.exists():
            time.sleep(0.01)
        return self._session.run(batch)


backend.open_session = lambda *arguments: Held(opened(*arguments))


class TritonPythonModel(backend.TextEncoderModel):
    pass
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("signals")


@pytest.fixture(scope="module")
def hold(folder):
    """Of the LLM."""
    return Hold(folder)


@pytest.fixture(scope="module")
def server(folder, hold):
    """llm has two places and three that wait; held is the embedding model, while a file is there."""
    repository = folder / "models"
    repository.mkdir()
    place_generator(
        repository,
        "llm",
        hold.knobs,
        chat_text_input=False,
        prefix_caching=False,
        max_num_seqs=PLACES,
        max_waiting=WAITING,
    )
    place_held(repository, folder)
    place_sort(repository)
    with start_server(repository, folder / "run") as running:
        running.wait_until_ready()
        yield running


def place_sort(repository):
    """Two instances, which each say what they do."""
    shutil.copytree(ROOT / "model_repository" / "search__sort", repository / "search__sort")
    path = repository / "search__sort" / "config.pbtxt"
    config, count = re.subn(r"count: \d+", f"count: {SORTERS}", path.read_text())
    assert count == 1
    path.write_text(config)


def place_held(repository, folder):
    source = ROOT / "model_repository" / "embedding"
    shutil.copytree(source, repository / "held")
    code = HELD_MODEL.format(hold=str(folder / "held"))
    (repository / "held" / "1" / "model.py").write_text(code)
    config = (source / "config.pbtxt").read_text()
    for before, after in (
        ('^name: "embedding"', 'name: "held"'),
        ('backend: "text_encoder"', 'backend: "python"'),
        (r'(key: "max_batch_tokens"\s+value {\s+string_value: )"\d+"', r'\1"64"'),
        (r'(key: "threads"\s+value {\s+string_value: )"\d+"', r'\1"1"'),
        (
            "dynamic_batching {",
            f"dynamic_batching {{ {QUEUE_POLICY}",
        ),
    ):
        config, count = re.subn(before, after, config, flags=re.MULTILINE)
        assert count == 1, before
    (repository / "held" / "config.pbtxt").write_text(config)


@pytest.fixture(scope="module")
def url(server):
    return f"{server.config.host}:{server.config.grpc_port}"


def read(server, metric, model, **labels):
    """The sum of a metric's samples of one model."""
    page = read_metrics(server.config.host, server.config.metrics_port)
    wanted = {"model": model, **labels}
    return sum(value for found, value in read_samples(page, metric.name) if wanted.items() <= found.items())


class Before:
    """Counters of one model as they were, and what they have grown by."""

    def __init__(self, server, model):
        self._server, self._model = server, model
        self._were = {m: read(server, m, model) for m in names.SIGNALS if m.kind == "counter"}

    def grown(self, metric, **labels):
        return read(self._server, metric, self._model, **labels) - self._were[metric]


def known(value, cost, rate):
    """Whether seconds of work are those of a cost at a rate, but for the last bits of doubles."""
    return value * rate == pytest.approx(cost, rel=1e-9)


def test_an_llm_says_what_waits_what_was_offered_and_what_it_refused(server, url, hold):
    tokenizer = LlmTokenizer.load(TOKENIZER)
    wanted = [("one two three", 5), ("four", 7), ("five six", 9), ("seven eight nine ten", 4), ("eleven", 11)]
    refused = [("twelve thirteen", 6), ("fourteen", 8)]
    wait_until(lambda: read(server, names.CAPACITY, "llm") > 0)
    before = Before(server, "llm")
    rate, share = read(server, names.CAPACITY, "llm"), read(server, names.INPUT_TOKEN_WORK, "llm")
    read_tokens = [len(tokenizer.encode(text, add_special_tokens=True)) for text, _ in wanted + refused]
    costs = [share * tokens + most for tokens, (_, most) in zip(read_tokens, wanted + refused, strict=True)]

    def ask(text, most):
        with TritonClient(url) as client:
            return list(client.generate(text, model="llm", sampling={"max_tokens": most, "ignore_eos": True}))

    with ThreadPoolExecutor(len(wanted)) as pool, hold.at(0):
        answers = []
        for number, (text, most) in enumerate(wanted):
            answers.append(pool.submit(ask, text, most))
            # In this order: the first two run, the others wait.
            running, waiting = min(number + 1, PLACES), max(0, number + 1 - PLACES)
            wait_until(
                lambda running=running, waiting=waiting: (
                    (read(server, names.DECODING, "llm"), read(server, names.QUEUE_DEPTH, "llm"))
                    == (running, waiting)
                )
            )
        for text, most in refused:
            with pytest.raises(UnavailableError):
                ask(text, most)
        wait_until(lambda: known(before.grown(names.OFFERED), sum(costs), rate))
        assert known(before.grown(names.REJECTED), sum(costs[len(wanted) :]), rate)
        assert known(read(server, names.BACKLOG, "llm"), sum(costs[PLACES : len(wanted)]), rate)
        # While it is held nothing is measured.
        assert read(server, names.CAPACITY, "llm") == rate
        hold.let_go()
        assert all(answer.result(120) for answer in answers)
    wait_until(lambda: before.grown(names.QUEUE_WAITS) == len(wanted))
    wait_until(lambda: before.grown(names.MODEL_TOKENS, kind="output") == sum(most for _, most in wanted))
    assert read(server, names.MODEL_TOKENS, "llm", kind="input") == sum(read_tokens[: len(wanted)])
    assert (read(server, names.QUEUE_DEPTH, "llm"), read(server, names.BACKLOG, "llm")) == (0, 0)
    # Every answer was as long as was expected.
    assert known(before.grown(names.OFFERED), sum(costs), rate)


class Senders:
    """Requests for one vector each, all under way at once, and how they ended."""

    def __init__(self, client, model):
        self._client, self._model = client, model
        self._lock = threading.Lock()
        self.sent = self.answered = self.refused = 0

    def send(self, count, timeout=None):
        tensor = grpc.InferInput("text", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[TEXT.encode()]], object))
        for _ in range(count):
            self.sent += 1
            self._client.async_infer(self._model, [tensor], self._ended, timeout=timeout)

    def _ended(self, result, error):
        with self._lock:
            if error is None:
                self.answered += 1
            else:
                self.refused += 1


def test_an_encoder_counts_what_waits_in_its_own_queue_and_in_tritons_and_what_triton_refused(
    server, url, folder
):
    with TritonClient(url) as one:
        tokens = int(one.infer("held", {"text": [[TEXT]]})["token_count"].item())
    # Triton's warm-up, and this one.
    wait_until(lambda: read(server, names.QUEUE_WAITS, "held") == 2)
    before, rate = Before(server, "held"), read(server, names.CAPACITY, "held")
    (folder / "held").touch()

    def is_known(waiting, refused, sent):
        return (
            read(server, names.QUEUE_DEPTH, "held") == waiting
            and known(read(server, names.BACKLOG, "held"), waiting * tokens, rate)
            and known(before.grown(names.OFFERED), sent * tokens, rate)
            and known(before.grown(names.REJECTED), refused * tokens, rate)
        )

    with grpc.InferenceServerClient(url) as client:
        senders = Senders(client, "held")
        try:
            senders.send(1)
            wait_until(lambda: before.grown(names.QUEUE_WAITS) == 1)
            # More than four micro-batches of 64 tokens: what comes then waits in Triton's queue.
            senders.send(59)
            wait_until(lambda: is_known(59, 0, 60))
            senders.send(30)
            wait_until(lambda: is_known(89, 0, 90))
            assert pending(server) > 0
            # Behind them are some that do not wait so long: Triton refuses them when it comes to them.
            senders.send(20, SHORT)
            wait_until(lambda: is_known(109 - senders.refused, senders.refused, 110))
            assert read(server, names.CAPACITY, "held") == rate
        finally:
            (folder / "held").unlink()
        # What is told while the queue runs empty is told at the rate that its run shows by then.
        rates = {rate}

        def has_ended():
            rates.add(read(server, names.CAPACITY, "held"))
            return senders.answered + senders.refused == 110

        wait_until(has_ended)
    assert senders.refused == 20

    def is_at_a_rate(metric, cost):
        seconds = before.grown(metric)
        return cost / max(rates) * (1 - 1e-9) <= seconds <= cost / min(rates) * (1 + 1e-9)

    def is_over():
        rates.add(read(server, names.CAPACITY, "held"))
        return (
            (read(server, names.QUEUE_DEPTH, "held"), read(server, names.BACKLOG, "held")) == (0, 0)
            and is_at_a_rate(names.OFFERED, 110 * tokens)
            and is_at_a_rate(names.REJECTED, senders.refused * tokens)
        )

    wait_until(is_over)
    wait_until(lambda: before.grown(names.QUEUE_WAITS) == senders.answered)


def pending(server):
    page = read_metrics(server.config.host, server.config.metrics_port)
    return sum(
        value
        for labels, value in read_samples(page, "nv_inference_pending_request_count")
        if labels["model"] == "held"
    )


def test_a_model_without_a_queue_of_its_own_counts_its_requests(server, url):
    before = Before(server, "search__sort")
    columns = [("id", ["a", "b"]), ("text", ["x", "y"]), ("metadata", ["{}", "{}"])]
    tensors = [grpc.InferInput("score", [1, 2], "FP32")]
    tensors[0].set_data_from_numpy(np.array([[0.1, 0.9]], np.float32))
    for name, values in columns:
        tensors.append(grpc.InferInput(name, [1, 2], "BYTES"))
        tensors[-1].set_data_from_numpy(np.array([[value.encode() for value in values]], object))
    with grpc.InferenceServerClient(url) as client:
        for _ in range(5):
            client.infer("search__sort", tensors)
    wait_until(lambda: before.grown(names.QUEUE_WAITS) == 5)
    wait_until(lambda: before.grown(names.OFFERED) > 0 and read(server, names.CAPACITY, "search__sort") > 0)
    assert read(server, names.QUEUE_DEPTH, "search__sort") == 0


@pytest.mark.parametrize("model", ["llm", "held", "search__sort"])
def test_every_model_exports_the_signals_of_the_table_with_its_labels(server, model):
    page = read_metrics(server.config.host, server.config.metrics_port)
    found = {
        metric.name: [
            set(labels) for labels, _ in read_samples(page, metric.name) if labels["model"] == model
        ]
        for metric in names.SIGNALS
    }
    llm_only = {names.INPUT_TOKEN_WORK.name}
    expected = {metric.name for metric in names.SIGNALS} - (set() if model == "llm" else llm_only)
    if model == "search__sort":
        expected -= {names.MODEL_TOKENS.name}
    assert {name for name, labels in found.items() if labels} == expected
    for metric in names.SIGNALS:
        assert all(labels == set(metric.labels) for labels in found[metric.name])
    assert len(found[names.QUEUE_DEPTH.name]) == (SORTERS if model == "search__sort" else 1)
    assert len(found[names.OFFERED.name]) == 1


@pytest.mark.parametrize("model", ["llm", "held", "search__sort"])
def test_a_models_warm_up_was_measured(server, model):
    wait_until(lambda: read(server, names.WARMUP, model) > 0)


def test_each_step_of_an_answer_counts_one_request_and_knows_its_rate(stack):
    steps = ("search__retrieve", "search__sort", "rag")
    before = {model: Before(stack.server, model) for model in steps}
    with TritonClient(stack.settings.grpc_url) as client:
        assert client.search("banks of oars", 2)
        assert list(client.ask("How many banks of oars had a trireme?", mode="extractive"))
    for model, waits in (("search__retrieve", 2), ("rag", 1)):
        wait_until(lambda model=model, waits=waits: before[model].grown(names.QUEUE_WAITS) >= waits)
    for model in steps:
        wait_until(lambda model=model: read(stack.server, names.CAPACITY, model) > 0)
        wait_until(lambda model=model: before[model].grown(names.OFFERED) > 0)


def test_a_worker_tells_of_its_queue_on_a_page_of_its_own_until_it_ends(stack, tmp_path):
    (port,) = free_ports(1)
    settings = dataclasses.replace(stack.settings, database_url=stack.database_url, worker_metrics_port=port)
    command = [sys.executable, "-m", "trireme.cli", "worker"]
    with (tmp_path / "out").open("wb") as out:
        worker = subprocess.Popen(command, env=environment_of(settings), stdout=out, stderr=out)

    def depths():
        assert worker.poll() is None, (tmp_path / "out").read_text()
        try:
            page = read_metrics(settings.host, port)
        except UnavailableError:
            return []
        return [labels["model"] for labels, _ in read_samples(page, names.QUEUE_DEPTH.name)]

    try:
        wait_until(lambda: depths() == ["ingest"])
    finally:
        worker.terminate()
    assert worker.wait(120) == 0
    with pytest.raises(UnavailableError):
        read_metrics(settings.host, port)
