import json
from pathlib import Path

import pytest

from fakes.replicas import Replica
from trireme.regions.loads import FarLoads, NearLoads, loads_body, parse_loads
from trireme.scale.endpoints import Endpoint, near_file, write_near
from trireme.scale.values import parse_values

VALUES = parse_values({"models": {"llm": {"serves": ["llm"]}, "retrieval": {"serves": ["embedding"]}}}, "v")


@pytest.fixture
def agents():
    made = [Replica() for _ in range(3)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def near(tmp_path):
    made = NearLoads(VALUES, tmp_path, 30.0, look_up=lambda host, port: [])
    yield made
    made.close()


def test_the_load_of_an_entry_is_the_mean_of_its_agents_reports(tmp_path, near, agents):
    first, second, third = agents
    first.utilization, second.utilization, third.utilization = 0.25, 0.75, 9.0
    write_near(tmp_path, "llm", [first.endpoint(), second.endpoint()])
    write_near(tmp_path, "retrieval", [third.endpoint()])
    near.measure()
    assert near.known == {"llm": 0.5, "retrieval": 9.0}
    # What drains gets no calls, and has no say.
    second.utilization = 0.0
    write_near(tmp_path, "llm", [first.endpoint(state="draining"), second.endpoint()])
    write_near(tmp_path, "retrieval", [])
    near.measure()
    assert near.known == {"llm": 0.0}


def test_an_agent_that_does_not_answer_is_left_out(tmp_path, agents):
    here, gone, _ = agents
    here.utilization = 0.5
    gone.close()
    write_near(tmp_path, "llm", [here.endpoint(), gone.endpoint()])
    # One without an agent is not asked.
    write_near(tmp_path, "retrieval", [Endpoint("127.0.0.1", here.own_port)])
    near = NearLoads(VALUES, tmp_path, 2.0)
    near.measure()
    near.close()
    assert near.known == {"llm": 0.5}


def test_without_a_file_dns_says_where_agents_are(tmp_path, agents):
    agent, asked = agents[0], []
    agent.utilization = 1.5
    values = parse_values(
        {"models": {"llm": {"serves": ["llm"]}}, "envoy": {"agentPort": agent.own_port}}, "v"
    )

    def look_up(host, port):
        asked.append((host, port))
        return ["127.0.0.1", "127.0.0.1"]

    near = NearLoads(values, tmp_path, 30.0, look_up)
    near.measure()
    assert near.known == {"llm": 1.5}
    assert asked == [("trireme-llm", agent.own_port)]
    near.close()


def test_a_name_or_a_file_that_cannot_be_read_is_no_load(tmp_path):
    def look_up(host, port):
        raise OSError("no such name")

    near_file(tmp_path, "retrieval").write_text("{")
    near = NearLoads(VALUES, tmp_path, 1.0, look_up)
    near.measure()
    assert near.known == {}


def test_what_one_controller_says_another_reads():
    assert parse_loads(loads_body({"llm": 0.25, "x": 3.0})) == {"llm": 0.25, "x": 3.0}
    assert parse_loads(loads_body({})) == {}


@pytest.mark.parametrize("body", [None, b"", b"{", b"[]", b'{"loads": 3}', b'{"other": {}}', b"\xff"])
def test_what_is_no_answer_is_none(body):
    assert parse_loads(body) is None


@pytest.mark.parametrize("load", [-1, True, "1", None, float("inf"), float("nan")])
def test_a_load_that_cannot_be_is_not_known(load):
    assert parse_loads(json.dumps({"loads": {"llm": load, "x": 1}}).encode()) == {"x": 1.0}


def test_what_a_region_said_is_believed_for_a_while():
    now = [100.0]
    far = FarLoads(5.0, lambda: now[0])
    assert far.of("there") == {}
    far.hear("there", loads_body({"llm": 0.5}))
    now[0] += 5.0
    far.hear("there", None)
    assert far.of("there") == {"llm": 0.5}
    assert far.of("elsewhere") == {}
    now[0] += 0.1
    assert far.of("there") == {}


def test_the_folder_may_be_away():
    near = NearLoads(VALUES, Path("/nonexistent"), 1.0, lambda host, port: [])
    near.measure()
    assert near.known == {}
