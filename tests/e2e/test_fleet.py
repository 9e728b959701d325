"""Two real tritonservers behind a real Envoy: balanced, restarted one by one, and started again when they die."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from blocks import blocks_of
from generators import Hold, place_generator
from stacks import ROOT, Serving, environment_of, settings_on_free_ports, wait_until

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.recipe import Recipe, write_recipe
from trireme.commands.restart import restart
from trireme.errors import TriremeError, UnavailableError
from trireme.fleet.control import running_fleet
from trireme.fleet.places import ENTRY
from trireme.stack import LOOK_SECONDS, Stack
from trireme.triton.client import TritonClient
from trireme.triton.metrics import count_answered, read_metrics, read_samples

ROWS = {
    "id": [["a", "b"]],
    "text": [["first", "second"]],
    "metadata": [["{}", "{}"]],
    "score": [[0.25, 0.75]],
}
# The page's commands, which run here in its order: start, look, restart.
START, LOOK, RESTART = blocks_of(ROOT / "docs" / "scaling.md", "sh")
PROMPT = "one two three four five six seven eight nine ten"
DRAIN_SECONDS = 120.0


@pytest.fixture(scope="module")
def hold(tmp_path_factory):
    """Of the model llm."""
    return Hold(tmp_path_factory.mktemp("hold"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory, hold):
    """`sort` answers once and only reads; `llm` streams, from the fake engine."""
    folder = tmp_path_factory.mktemp("models")
    values = {"chat_text_input": False, "max_num_seqs": 8}
    place_generator(folder, "llm", hold.knobs, **values)
    recipes = [
        Recipe("llm", kind="generator", source="random", engine="fake", **values),
        Recipe("sort", kind="sort"),
    ]
    (folder / "sort" / "1").mkdir(parents=True)
    place_config(folder / "sort", recipes[1])
    for recipe in recipes:
        write_recipe(folder / recipe.model / "recipe.toml", recipe)
    return folder


class Kept:
    """A stack that is looked after in a thread; `said` is what it told."""

    def __init__(self, stack: Stack):
        self.stack, self.fleet, self.said = stack, stack.fleet, []
        self.settings = stack.settings
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self):
        while not self._end.wait(LOOK_SECONDS):
            self.stack.look_after(self.said.append)

    def close(self):
        self._end.set()
        self._thread.join()

    def all_serve(self) -> bool:
        seen = self.fleet.envoy.seen(ENTRY)
        return all(seen.get(one.key) == "healthy" and one.is_ready() for one in self.fleet.replicas)

    def answered(self, model: str) -> list[float]:
        """Requests that each replica has ended."""
        pages = [read_metrics(one.place.address, one.place.metrics_port) for one in self.fleet.replicas]
        return [count_answered(page).get(model, 0.0) for page in pages]

    def running(self) -> list[float]:
        """Answers that each replica's LLM writes now."""
        pages = [read_metrics(one.place.address, one.place.metrics_port) for one in self.fleet.replicas]
        return [sum(value for _, value in read_samples(page, "vllm:num_requests_running")) for page in pages]

    def pids(self) -> list[int]:
        return [one.kept.server.pid for one in self.fleet.replicas]


@pytest.fixture(scope="module")
def running(tmp_path_factory, repository):
    settings = settings_on_free_ports(tmp_path_factory.mktemp("fleet") / "data", model_repository=repository)
    replicas = int(re.fullmatch(r"\S+/trireme serve --replicas (\d)\n", START)[1])
    assert replicas == 2
    with Stack(settings, replicas=replicas) as stack:
        kept = Kept(stack)
        try:
            yield kept
        finally:
            kept.close()


@pytest.fixture
def fleet(running):
    """The stack, with both replicas serving."""
    wait_until(running.all_serve)
    return running


@pytest.fixture
def client(fleet):
    with TritonClient(fleet.settings.grpc_url) as opened:
        yield opened


def sort_with(client):
    assert client.infer("sort", ROWS)["id"][0].tolist() == [b"b", b"a"]


class Load:
    """Calls without a pause in a few threads; `answered` and `failures` count how they ended."""

    def __init__(self, url: str, call: Callable[[TritonClient], None], threads: int = 3):
        self.answered, self.failures = 0, []
        self._url, self._call = url, call
        self._end, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        with TritonClient(self._url) as client:
            while not self._end.is_set():
                try:
                    self._call(client)
                except (TriremeError, AssertionError) as error:
                    with self._lock:
                        self.failures.append(error)
                else:
                    with self._lock:
                        self.answered += 1
                time.sleep(0.01)

    def wait_for_more(self, count: int = 20):
        """Returns once so many more calls have ended."""
        before = self.answered + len(self.failures)
        wait_until(lambda: self.answered + len(self.failures) >= before + count)

    def end(self):
        self._end.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def load_of(url, call, threads=3):
    load = Load(url, call, threads)
    try:
        load.wait_for_more()
        yield load
    finally:
        load.end()


def trireme(settings, *words):
    return subprocess.run(
        [sys.executable, "-m", "trireme.cli", *words],
        env=environment_of(settings) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_block(fleet, block):
    """What a block of the page prints, on this stack's ports."""
    envoy, first = fleet.fleet.envoy_metrics, fleet.fleet.replicas[0].place
    places = {
        "127.0.0.10:8002": envoy,
        "127.0.0.11:8005": f"{first.address}:{first.agent_http_port}",
        ".venv/bin/trireme": f"{sys.executable} -m trireme.cli",
    }
    for there, here in places.items():
        assert there in START + LOOK + RESTART
        block = block.replace(there, here)
    environ = environment_of(fleet.settings) | {"COLUMNS": "200"}
    done = subprocess.run(["/bin/sh", "-ec", block], env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


class HeldStreams:
    """As many streams as there are replicas, whose answers wait for the hold."""

    def __init__(self, client: TritonClient, count: int):
        self._streams = [client.generate(PROMPT) for _ in range(count)]
        self._first = [next(stream).text for stream in self._streams]

    def texts(self) -> list[str]:
        """What each has said when it has ended."""
        texts = []
        for first, stream in zip(self._first, self._streams, strict=True):
            parts = list(stream)
            assert parts[-1].finish_reason == "stop"
            texts.append(first + "".join(part.text for part in parts))
        return texts


def test_calls_and_streams_through_envoy_reach_both_replicas(fleet, client, hold):
    before = fleet.answered("sort")
    for _ in range(40):
        sort_with(client)
    served = [now - then for now, then in zip(fleet.answered("sort"), before, strict=True)]
    assert min(served) > 0
    # The replicas' own supervisors ask as well.
    assert sum(served) >= 40
    with hold.at(1):
        held = HeldStreams(client, 2)
        wait_until(lambda: fleet.running() == [1, 1])
    assert held.texts() == [PROMPT, PROMPT]


def test_ready_says_how_each_replica_and_envoy_are(fleet):
    said = run_block(fleet, LOOK)
    assert "replica 1 (127.0.0.11): serving, 2 models ready" in said
    assert "replica 2 (127.0.0.12): serving, 2 models ready" in said
    assert f"Envoy ({fleet.settings.grpc_url}): ready" in said
    assert f'envoy_cluster_membership_healthy{{envoy_cluster_name="{ENTRY}"}} 2' in said
    assert '"ready":true' in said


def test_a_rolling_restart_under_load_fails_no_call_and_lets_streams_end_whole(fleet, client, hold):
    before, said = fleet.pids(), []
    url = fleet.settings.grpc_url
    with ExitStack() as resources:
        resources.enter_context(hold.at(1))
        held = HeldStreams(client, 2)
        calls = resources.enter_context(load_of(url, sort_with))
        roll = threading.Thread(target=lambda: said.append(run_block(fleet, RESTART)))
        roll.start()
        wait_until(lambda: running_fleet(fleet.settings).replicas[0].state == "draining")
        # It waits for its stream, and the other one takes the calls.
        calls.wait_for_more()
        assert fleet.pids() == before
        hold.let_go()
        streams = resources.enter_context(load_of(url, lambda client: list(client.generate(PROMPT)), 2))
        roll.join(DRAIN_SECONDS)
        calls.wait_for_more()
        assert held.texts() == [PROMPT, PROMPT]
    assert said == ["Replica 1 was restarted.\nReplica 2 was restarted.\nRestarted 2 replicas.\n"]
    assert not set(fleet.pids()) & set(before)
    assert calls.failures == []
    assert streams.failures == []
    assert calls.answered > 0
    assert streams.answered > 0
    assert fleet.all_serve()


def test_calls_that_only_read_survive_the_sudden_end_of_a_replica_which_comes_back(fleet, client, hold):
    killed = fleet.pids()[0]
    with ExitStack() as resources:
        resources.enter_context(hold.at(1))
        streams = [client.generate(PROMPT) for _ in range(2)]
        for stream in streams:
            next(stream)
        wait_until(lambda: fleet.running() == [1, 1])
        calls = resources.enter_context(load_of(fleet.settings.grpc_url, sort_with))
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: fleet.pids()[0] != killed)
        hold.let_go()
        outcomes = [outcome_of(stream) for stream in streams]
        wait_until(fleet.all_serve)
        calls.wait_for_more()
    assert calls.failures == []
    assert calls.answered > 0
    # What a stream has begun is not said twice: the one that lost its server says so.
    assert sorted(outcomes) == ["UnavailableError", "stop"]
    assert any(said.startswith("Replica 1: tritonserver ended") for said in fleet.said)


def outcome_of(stream):
    try:
        return list(stream)[-1].finish_reason
    except TriremeError as error:
        return type(error).__name__


def test_envoy_and_agents_that_die_are_started_again(fleet, client):
    envoy, agent = fleet.fleet.envoy, fleet.fleet.replicas[1].agent
    for process, told in ((agent, "The agent of replica 2 ended"), (envoy, "Envoy ended")):
        killed, servers = process.pid, fleet.pids()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda process=process, killed=killed: process.pid != killed)
        wait_until(fleet.all_serve)
        assert any(said.startswith(told) for said in fleet.said)
        assert fleet.pids() == servers
    wait_until(lambda: answers(client))


def answers(client):
    try:
        sort_with(client)
    except UnavailableError:
        return False
    return True


def test_a_replica_that_does_not_come_back_stops_the_restart_and_the_other_goes_on(fleet, repository):
    before = fleet.pids()
    knobs = repository / "llm" / "1" / "fake.json"
    whole = knobs.read_text()
    with load_of(fleet.settings.grpc_url, sort_with) as calls:
        knobs.write_text('{"no_such_knob": 1}')
        try:
            done = trireme(fleet.settings, "restart")
            calls.wait_for_more()
        finally:
            knobs.write_text(whole)
        assert done.returncode == 1
        assert done.stderr.startswith("error: replica 1: tritonserver stopped while starting: ")
        assert len(done.stderr.splitlines()) == 1
        assert fleet.pids()[1] == before[1]
        # It is tried again, and serves when it can.
        wait_until(fleet.all_serve)
    assert calls.failures == []


def test_a_second_restart_meanwhile_is_refused(fleet, client, hold):
    with hold.at(1):
        held = HeldStreams(client, 2)
        asked = fleet.fleet.restart(fleet.fleet.replicas[:1], DRAIN_SECONDS, fleet.said.append)
        try:
            with pytest.raises(UnavailableError, match="a restart is under way"):
                restart(fleet.settings, DRAIN_SECONDS, fleet.said.append)
        finally:
            asked.cancel()
    asked.join()
    assert held.texts() == [PROMPT, PROMPT]


def test_one_replica_behind_envoy_serves_through_the_gateway_and_ends_with_ctrl_c(tmp_path, repository):
    settings = settings_on_free_ports(tmp_path / "data", model_repository=repository)
    # What one whose supervisor was killed leaves is no hindrance.
    killed = Serving(settings, options=("--behind-envoy",))
    wait_until(lambda: running_fleet(settings) is not None)
    # PostgreSQL is taken over as it is.
    family = psutil.Process(killed.process.pid).children(recursive=True)
    left = [one for one in family if one.name() not in ("postgres", "valkey-server")]
    killed.process.kill()
    killed.process.wait()
    serving = Serving(settings, options=("--behind-envoy",))
    try:
        serving.wait_until_ready()
        _, alive = psutil.wait_procs(left, timeout=60)
        assert not alive
        assert f"gRPC {settings.grpc_url}, through Envoy to 1 tritonserver." in serving.output
        (secret,) = re.findall(r"OPENAI_API_KEY=(\S+)", serving.output)
        wait_until(lambda: say_through_gateway(settings, secret) == PROMPT)
        assert trireme(settings, "ready").returncode == 0
        done = trireme(settings, "restart")
        assert done.returncode == 1
        assert "--replicas 2" in done.stderr
        _, alive = psutil.wait_procs(serving.interrupt(), timeout=60)
        assert not alive
    finally:
        serving.stop()
    assert trireme(settings, "restart").stderr.startswith("error: no stack runs")


def say_through_gateway(settings, secret):
    """What the LLM answers to PROMPT; "" while the gateway does not know the key or the model."""
    body = {"model": "llm", "prompt": PROMPT}
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.gateway_port}/v1/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {secret}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["choices"][0]["text"]
    except OSError:
        return ""


def test_a_number_of_replicas_that_cannot_be_is_named(tmp_path):
    done = trireme(settings_on_free_ports(tmp_path / "data"), "serve", "--replicas", "0")
    assert done.returncode == 1
    assert done.stderr == "error: --replicas must be 1 or more, got 0\n"
