"""Processes of a real stack die, stand still and are fed poison; everything serves again without a hand."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from stacks import ROOT, environment_of, has_ended, link_models, settings_on_free_ports, try_until, wait_until

from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.indexing import ingest_path
from trireme.local.postgres import start_postgres
from trireme.stack import Stack
from trireme.triton.canary import Canary
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_readiness
from trireme.triton.server import end_leftover
from trireme.triton.stubs import StubTable

ENDLESS = {"max_tokens": 300, "ignore_eos": True, "temperature": 0}
MODELS = ("embedding", "reranker", "search__retrieve", "retriever", "search__sort", "rag", "llm", "ingest")


class Kept:
    """A stack that a thread looks after, as `trireme serve` does."""

    def __init__(self, stack):
        self.stack, self.settings, self.notices = stack, stack.settings, []
        # Whoever holds it is not looked after meanwhile.
        self.looking = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_after)
        self._thread.start()

    def _look_after(self):
        while not self._closed.wait(0.1):
            with self.looking:
                self.stack.look_after(self.notices.append)

    def close(self):
        self._closed.set()
        self._thread.join()

    def is_ready(self):
        ready = self.readiness()
        return set(MODELS) <= set(ready) and all(ready.values())

    def readiness(self):
        """What each model says of itself; nothing while no server answers."""
        try:
            return read_readiness(self.settings.host, self.settings.metrics_port)
        except UnavailableError:
            return {}

    def stub(self, model):
        return next(stub.pid for stub in StubTable(self.stack.server.pid).stubs if stub.model == model)

    def engine(self):
        """The process of the LLM engine, once there is one: a child of llm's stub."""
        found = []

        def has_one():
            # It may end between two looks: the one that was seen is returned.
            found[:] = psutil.Process(self.stub("llm")).children()
            return len(found) == 1

        wait_until(has_one)
        return found[0]

    def serves(self):
        """Whether every chain answers now."""
        try:
            with TritonClient(self.settings.grpc_url, timeout=20) as client:
                found = client.search("banks of oars")
                said = list(client.ask("oars?", mode="generative", sampling={"max_tokens": 2}))
                state = list(
                    client.stream("llm", {"text_input": "x", "sampling_parameters": '{"max_tokens":1}'})
                )
        except TriremeError:
            return False
        return bool(found and said and state)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, corpus):
    settings = settings_on_free_ports(tmp_path_factory.mktemp("data"))
    with Stack(settings) as stack:
        ingest_path(settings, corpus, stack.database_url, Console(quiet=True))
        running = Kept(stack)
        wait_until(running.is_ready)
        yield running
        running.close()


@pytest.fixture
def client(kept):
    with TritonClient(kept.settings.grpc_url, timeout=60) as opened:
        yield opened


def test_stubs_that_are_killed_are_seen_and_their_models_serve_again(kept):
    # A start takes half a minute on two busy cores: of eight models' stubs one dies, then two, two and three.
    for models in (MODELS[:1], MODELS[1:3], MODELS[3:5], MODELS[5:]):
        wait_until(kept.is_ready)
        before, known = kept.stack.server.pid, len(kept.notices)
        with kept.looking:
            stubs = [psutil.Process(kept.stub(model)) for model in models]
            for stub in stubs:
                stub.kill()
            wait_until(lambda stubs=stubs: all(map(has_ended, stubs)))
        # Ready no more at once: the server is ended with them.
        wait_until(lambda before=before: kept.stack.server.pid != before)
        wait_until(kept.is_ready)
        told = " ".join(said for said in kept.notices[known:] if "The process of model" in said)
        assert all(re.search(rf"\b{model}\b", told) for model in models), told
    assert kept.serves()


def test_a_request_that_waits_for_a_killed_stub_ends_with_an_error(kept, client):
    def kill_amid():
        """Whether the request waited then: a fast machine may have answered it."""
        stub = kept.stub("llm")
        running = client.generate("oars", sampling={**ENDLESS, "max_tokens": 1800})
        next(running)
        os.kill(stub, signal.SIGKILL)
        waited = ends_with_an_error(running)
        wait_until(lambda: kept.is_ready() and kept.stub("llm") != stub)
        return waited

    wait_until(kept.is_ready)
    try_until(kill_amid, "each answer was made before the kill")


def ends_with_an_error(running, said=""):
    """Whether an answer ends with the error of what is gone, and not by itself."""
    try:
        list(running)
    except UnavailableError as error:
        assert said in str(error)
        return True
    return False


def test_without_a_supervisor_a_dead_model_is_told_by_its_silence(tmp_path):
    """As in a container, where a probe asks `trireme ready`."""
    settings = settings_on_free_ports(tmp_path)
    with Stack(settings) as stack:

        def ready():
            return read_readiness(settings.host, settings.metrics_port)

        wait_until(lambda: set(MODELS) <= set(ready()) and all(ready().values()))
        table = StubTable(stack.server.pid)
        victim = next(stub.pid for stub in table.stubs if stub.model == "search__sort")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not ready()["search__sort"])
        assert table.ended() == ["search__sort"]
        with Canary(settings.grpc_url) as canary:
            assert canary.silent(["search__sort", "embedding", "llm", "rag", "ingest"], 30) == [
                "search__sort"
            ]
        done = subprocess.run(
            [sys.executable, "-m", "trireme.cli", "ready"], env=environment_of(settings), capture_output=True
        )
        assert done.returncode == 1
        assert b"search__sort: not ready" in done.stdout


def test_an_answer_whose_engine_dies_after_its_first_token_ends_with_an_error_and_frees_its_place(
    kept, client
):
    wait_until(kept.is_ready)
    pid = kept.stack.server.pid

    def kill_amid():
        engine = kept.engine()
        running = client.ask(
            "what is a trireme?", mode="generative", sampling={**ENDLESS, "max_tokens": 1800}
        )
        next(running)
        engine.kill()
        was_amid = ends_with_an_error(running, "model llm: the LLM engine failed")
        wait_until(kept.serves)
        return was_amid

    for _ in range(2):
        try_until(kill_amid, "each answer was made before the kill")
    assert kept.stack.server.pid == pid
    log = (kept.settings.data_dir / "logs" / "tritonserver.log").read_text()
    assert log.count("the LLM engine failed") >= 2
    assert kept.serves()


def test_an_engine_that_stands_still_is_not_ready_and_goes_on_or_is_replaced(kept):
    def is_seen():
        """Whether readiness said so of an engine that went on afterwards: 10 s later it is replaced."""
        engine = kept.engine()
        engine.suspend()
        wait_until(lambda: not kept.readiness().get("llm", False) or has_ended(engine))
        with suppress(psutil.NoSuchProcess):
            engine.resume()
        wait_until(kept.is_ready)
        return kept.engine().pid == engine.pid

    wait_until(kept.is_ready)
    try_until(is_seen, "the engine was replaced before this test could look")
    engine = kept.engine()
    engine.suspend()
    wait_until(lambda: has_ended(engine))
    wait_until(kept.serves)


@pytest.mark.parametrize(
    "poison",
    [
        {"top_p": 1e-300},
        {"repetition_penalty": 1e-46},
        {"temperature": 5e-324},
        {"min_p": 5e-324},
        {"seed": 2**63 - 1, "temperature": 1e-300, "top_k": 1},
        {"presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 10},
    ],
    ids=str,
)
def test_no_sampling_parameters_end_the_engine_of_all(kept, client, poison):
    wait_until(kept.is_ready)
    engine, answers = kept.engine().pid, []
    good = client.generate("oars", sampling={**ENDLESS, "max_tokens": 60})
    next(good)
    for _ in range(3):
        try:
            answers.append(list(client.generate("x", sampling={"max_tokens": 4, "temperature": 1, **poison})))
        except InvalidInputError as error:
            assert next(iter(poison)) in str(error)
    assert list(good)[-1].finish_reason == "length"
    assert kept.engine().pid == engine


def test_memory_that_a_killed_server_leaves_is_removed_and_is_readable_by_its_owner_alone(kept):
    wait_until(kept.is_ready)
    names = shared_memory_of(kept.stack.server.pid)
    assert names
    assert all(path.stat().st_mode & 0o077 == 0 for path in names)
    os.kill(kept.stack.server.pid, signal.SIGKILL)
    wait_until(lambda: not any(path.exists() for path in names))
    wait_until(kept.is_ready)


def shared_memory_of(pid):
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sorted({Path(line.split()[-1]) for line in lines if "/dev/shm/triton_" in line})


def test_a_server_whose_supervisor_was_killed_is_ended_by_the_next_start(tmp_path):
    settings = settings_on_free_ports(tmp_path / "data", model_repository=link_models(tmp_path / "models"))
    command = [sys.executable, "-m", "trireme.cli", "serve"]
    note = settings.data_dir / "tritonserver.pid"
    with (tmp_path / "out").open("wb") as out:
        first = subprocess.Popen(command, env=environment_of(settings), stdout=out, stderr=out)
        wait_until(lambda: note.exists() and note.read_text() and first.poll() is None, 180)
        # In the middle of its start.
        first.kill()
        first.wait()
        left = int(note.read_text())
        assert psutil.pid_exists(left)
        second = subprocess.Popen(command, env=environment_of(settings), stdout=out, stderr=out)
        try:
            wait_until(lambda: b"Try in another terminal" in (tmp_path / "out").read_bytes(), 180)
            assert not psutil.pid_exists(left)
        finally:
            second.terminate()
            assert second.wait(120) == 0
    assert not note.exists()


def test_sigterm_during_the_start_leaves_nothing(tmp_path):
    for seconds in (0.3, 2.0, 4.0):
        settings = settings_on_free_ports(tmp_path / f"data{seconds}")
        serving = subprocess.Popen(
            [sys.executable, "-m", "trireme.cli", "serve"],
            env=environment_of(settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        time.sleep(seconds)
        family = psutil.Process(serving.pid).children(recursive=True)
        serving.terminate()
        out, _ = serving.communicate(timeout=120)
        assert b"Traceback" not in out
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive


def test_a_leftover_that_is_another_process_by_now_is_left_alone(tmp_path):
    note = tmp_path / "pid"
    note.write_text(str(os.getpid()))
    end_leftover(note)
    note.write_text("not a number")
    end_leftover(note)
    end_leftover(tmp_path / "none")


def test_a_data_directory_that_cannot_be_written_stops_the_start_and_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    settings = settings_on_free_ports(tmp_path / "file" / "data")
    done = subprocess.run(
        [sys.executable, "-m", "trireme.cli", "serve"],
        env=environment_of(settings),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "TRIREME_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_normal_stop_ends_every_stub_by_itself(tmp_path):
    """They ended with a segmentation fault, in the kernel's log alone."""
    settings = settings_on_free_ports(tmp_path)
    report = tmp_path / "ends"
    with Stack(settings) as stack:
        stubs = [stub.pid for stub in StubTable(stack.server.pid).stubs]
        assert len(stubs) >= len(MODELS)
        with TritonClient(settings.grpc_url) as client:
            # What an error leaves behind, a stub frees too late.
            for _ in range(3):
                with pytest.raises(InvalidInputError):
                    client.embed([""], "query")
                with pytest.raises(TriremeError):
                    client.search("oars", collection="none")
        tracer = subprocess.Popen(
            [sys.executable, "-c", WATCH_CORES, str(report), *map(str, stubs)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        tracer.stdout.readline()
    tracer.communicate(timeout=60)
    assert report.read_text().split() == []


# A stub that crashed is a zombie with that signal in its exit code, the last field of its stat, until it is reaped.
WATCH_CORES = """
import sys, time
from pathlib import Path
report, pids = Path(sys.argv[1]), sys.argv[2:]
print("watching", flush=True)
crashed, seen = set(), set(pids)
while seen:
    for pid in list(seen):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            seen.discard(pid)
            continue
        if fields[0] == "Z":
            if int(fields[-1]) & 0x7F in (6, 7, 8, 11):
                crashed.add(pid)
            seen.discard(pid)
    time.sleep(0.001)
report.write_text(" ".join(sorted(crashed)))
"""


def test_of_two_servers_that_start_at_once_on_the_same_ports_one_serves(tmp_path):
    first = settings_on_free_ports(tmp_path / "one", model_repository=link_models(tmp_path / "models"))
    second = dataclasses.replace(first, data_dir=tmp_path / "two")
    outs = [tmp_path / "one.out", tmp_path / "two.out"]
    command = [sys.executable, "-m", "trireme.cli", "serve"]
    with outs[0].open("wb") as one, outs[1].open("wb") as two:
        both = [
            subprocess.Popen(command, env=environment_of(settings), stdout=out, stderr=out)
            for settings, out in ((first, one), (second, two))
        ]
    try:
        wait_until(lambda: any(process.poll() is not None for process in both), 180)
        loser = next(number for number, process in enumerate(both) if process.poll() is not None)
        assert both[loser].returncode == 1
        assert outs[loser].read_text().startswith("error: ")
        assert "TRIREME_" in outs[loser].read_text()
        wait_until(lambda: "Try in another terminal" in outs[1 - loser].read_text(), 180)
    finally:
        for process in both:
            if process.poll() is None:
                process.terminate()
            process.wait(60)


def test_a_password_is_in_no_log_and_in_no_process_list(tmp_path):
    with running_database(tmp_path / "database") as url:
        secret = url.replace("trireme@", "trireme:open-sesame@")
        assert secret != url
        models = link_models(tmp_path / "models")
        settings = settings_on_free_ports(tmp_path / "data", database_url=secret, model_repository=models)
        with Stack(settings) as stack:
            stack.start_worker()
            lines = [words_of(one) for one in psutil.Process(os.getpid()).children(recursive=True)]
            assert any("tritonserver" in line for line in lines)
            with TritonClient(settings.grpc_url) as client, pytest.raises(TriremeError) as raised:
                client.search("oars", collection="none")
        logs = [path.read_text(errors="replace") for path in (settings.data_dir / "logs").iterdir()]
    for text in (*lines, *logs, str(raised.value), repr(settings)):
        assert "open-sesame" not in text


def words_of(process):
    """Its command; none of a process that ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def running_database(folder):
    with start_postgres(folder) as database:
        yield database.url
