"""`trireme regions` as a process, between balancers that answer as late as a test says."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.pings import Pings
from fakes.ports import free_ports
from trireme.errors import UnavailableError
from trireme.observe import metrics as names
from trireme.regions.controller import Controller
from trireme.regions.options import RegionOptions
from trireme.regions.state import RegionState
from trireme.scale.endpoints import far_file, read_far
from trireme.scale.values import parse_values

QUICK = {"probe": 0.02, "answer": 20.0, "hold": 0.2, "resolve": 0.05, "window": 5}
NEAR, FAR = 0.01, 0.1


@pytest.fixture
def balancers():
    b, c = running = [Pings(), Pings()]
    b.delay, c.delay = FAR, NEAR
    yield running
    for one in running:
        one.close()


@pytest.fixture
def options(tmp_path, balancers):
    folder = tmp_path / "endpoints"
    folder.mkdir()
    b, c = balancers
    values = tmp_path / "values.yaml"
    # b by a name, which is looked up.
    values.write_text(
        "models: {llm: {serves: [llm]}}\n"
        f"regions: [{{name: a}}, {{name: b, balancer: 'localhost:{b.port}'}},"
        f" {{name: c, balancer: '127.0.0.1:{c.port}'}}]\n"
    )
    (port,) = free_ports(1)
    return RegionOptions(values, folder, port=port, **QUICK)


@contextmanager
def controller(options, *words):
    command = [sys.executable, "-m", "trireme.cli", "regions", *options.flags(), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds:.0f} s"
        time.sleep(0.02)


def fetch(options, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{options.port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def is_ready(options):
    with suppress(OSError):
        return fetch(options, "/ready")[0] == 200
    return False


def order(options):
    return list(dict.fromkeys(one.region for one in read_far(options.endpoints, "llm")))


def sample(page, name, **labels):
    return next(
        (
            one.value
            for family in text_string_to_metric_families(page)
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        ),
        None,
    )


def test_regions_are_ordered_by_their_round_trips_and_anew_when_those_change(options, balancers):
    b, c = balancers
    with controller(options) as process:
        wait_until(lambda: order(options) == ["c", "b"])
        assert is_ready(options)
        b.delay, c.delay = NEAR, FAR
        wait_until(lambda: order(options) == ["b", "c"])
        # One that does not answer keeps its place.
        b.answer.clear()
        asked = c.asked
        wait_until(lambda: c.asked >= asked + 3)
        assert order(options) == ["b", "c"]
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Regions after a: " in out
    assert "Regions in order: b (" in out
    assert "Traceback" not in out
    assert (b.connections, c.connections) == (1, 1)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_port_at_which_other_regions_do_not_ask_for_loads_is_told(options, is_there):
    at = options.port if is_there else free_ports(1)[0]
    listeners = f"{{regionListen: {{port: 18010}}, controller: {{address: 127.0.0.1, port: {at}}}}}"
    options.values.write_text(f"{options.values.read_text()}envoy: {listeners}\n")
    with controller(options) as process:
        wait_until(lambda: is_ready(options))
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert ("will send nothing here by load" in out) is not (at == options.port)


def test_one_that_is_killed_leaves_its_file_and_the_next_one_begins_with_it(options, balancers):
    with controller(options) as process:
        wait_until(lambda: order(options) == ["c", "b"])
        process.kill()
        process.wait()
    before = far_file(options.endpoints, "llm").stat().st_ino
    for one in balancers:
        one.answer.clear()
    with controller(options) as process:
        wait_until(lambda: is_ready(options))
        assert far_file(options.endpoints, "llm").stat().st_ino == before
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert far_file(options.endpoints, "llm").stat().st_ino == before


def test_what_is_known_is_on_its_page_by_the_names_of_the_table(options, balancers):
    with controller(options):
        wait_until(lambda: order(options) == ["c", "b"])
        balancers[0].close()

        def has_gone():
            page = fetch(options, "/metrics")[1]
            return sample(page, names.REGION_ANSWERS.name, region="b") == 0

        wait_until(has_gone)
        page = fetch(options, "/metrics")[1]
        told = json.loads(fetch(options, "/ready")[1])
        assert fetch(options, "/other")[0] == 404
        assert fetch(options, "/healthz")[0] == 200
    assert sample(page, names.REGION_ROUND_TRIP.name, region="c") >= NEAR
    assert sample(page, names.REGION_ROUND_TRIP.name, region="b") is None
    assert [sample(page, names.REGION_RANK.name, region=one) for one in "bc"] == [2, 1]
    assert sample(page, names.REGION_ADDRESSES.name, region="c") == 1
    assert sample(page, names.REGION_PROBES.name, region="c", outcome="ok") >= 3
    assert sample(page, names.REGION_PROBES.name, region="b", outcome="away") >= 1
    assert sample(page, names.REGION_FILES_FAULTY.name) == 0
    assert sample(page, names.REGION_FILES_WRITTEN.name) >= 1
    # The order of values.yaml, then that of the first answers.
    assert sample(page, names.REGION_ORDER_CHANGES.name) >= 1
    told_of = {one["name"]: one for one in told["regions"]}
    assert told["ready"]
    assert told_of["b"]["answers"] is False
    assert told_of["c"]["addresses"] == ["127.0.0.1"]


def test_it_ends_with_the_process_that_it_belongs_to(options):
    with controller(options, "--parent", "1") as process:
        assert process.wait(60) == 0


def test_a_port_that_is_taken_is_named(options):
    with controller(options) as first:
        wait_until(lambda: is_ready(options))
        with controller(options) as second:
            out, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"cannot listen on 127.0.0.1:{options.port}" in out
        assert "--port" in out
        assert first.poll() is None


def test_a_thread_that_fails_ends_the_whole(tmp_path):
    raw = {
        "models": {"llm": {"serves": ["llm"]}},
        "regions": [{"name": "a"}, {"name": "b", "balancer": "127.0.0.1:1"}],
    }
    options = RegionOptions(tmp_path, tmp_path, **QUICK)
    values = parse_values(raw, "v")
    state = RegionState(values, options)
    # What nobody has thought of.
    state.addresses = {"b": SimpleNamespace(known=3, is_name=False)}
    state.standings = list
    with pytest.raises(UnavailableError, match="cannot go on: "):
        Controller(state, options, values, print).run(os.getppid())
