import itertools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from fakes.authorities import Authority
from trireme.errors import SettingError, UnsupportedError
from trireme.scale import endpoints, envoy
from trireme.scale.envoy import BUCKETS, arguments, bootstrap, find_envoy
from trireme.scale.region_tls import write_secrets
from trireme.scale.values import EnvoyValues, parse_values

MANY = [f"model_{number}.v-{number}" for number in range(200)]
MODELS = {"llm": {"serves": ["llm"]}, "retrieval": {"serves": MANY, "idempotent": MANY, "default": True}}
SETTINGS = [
    {},
    {"accessLog": "stdout", "hedging": True, "workers": 4},
    {"accessLog": "/dev/null", "balancing": "roundRobin", "slowStartSeconds": 30},
    {"balancing": "orca", "slowStartSeconds": 5, "keepaliveIntervalSeconds": 0},
    {"listen": {"address": "0.0.0.0"}, "metrics": {"address": "::1"}, "firstMessageSeconds": 0},  # noqa: S104
]


def values_of(settings, **more):
    return parse_values({"models": MODELS, "envoy": settings, **more}, "v")


@pytest.fixture(scope="module")
def program():
    try:
        return find_envoy()
    except UnsupportedError as error:
        pytest.skip(str(error))


def validate(program, folder, values, *, has_files):
    file = folder / "envoy.json"
    for entry in values.models:
        endpoints.write_near(folder, entry.name, [endpoints.Endpoint("127.0.0.1", 1)])
        endpoints.write_far(folder, entry.name, [endpoints.Endpoint("127.0.0.1", 1, priority=1)])
    if values.envoy.region_tls is not None:
        write_secrets(folder, values.envoy.region_tls, values.other_regions)
    made = bootstrap(values, endpoints=folder if has_files else None, far_endpoints=folder, secrets=folder)
    file.write_text(json.dumps(made))
    command = [str(program), "--mode", "validate", "-c", str(file)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", ["files", "dns", "regions", "dns regions", "tls"])
def test_envoy_takes_every_configuration_and_calls_nothing_in_it_old(program, tmp_path, settings, kind):
    regions, more = [], {}
    if "regions" in kind:
        regions, more = [{"name": "here"}, {"name": "there"}], {"regionListen": {}}
    elif kind == "tls":
        regions = [
            {"name": "here"},
            *({"name": name, "balancer": f"{name}:8010"} for name in ("a", "10.0.0.1")),
        ]
        regions[-1]["name"] = "b"
        tls = Authority(tmp_path / "authority").issue(tmp_path / "tls", "DNS:here")
        more = {"regionTls": tls, "regionListen": {"address": "0.0.0.0"}}  # noqa: S104
    values = values_of({**settings, **more}, regions=regions)
    found = validate(program, tmp_path, values, has_files="dns" not in kind)
    assert found.returncode == 0, found.stderr
    said = found.stdout + found.stderr
    assert "OK" in said
    assert not re.search(r"deprecated|\[(warning|error|critical)\]", said), said


def test_envoy_is_asked_and_would_refuse(program, tmp_path, monkeypatch):
    monkeypatch.setattr(envoy, "BUCKETS", (-1,))
    assert validate(program, tmp_path, values_of({}), has_files=True).returncode != 0


def test_regions_need_files(tmp_path):
    values = values_of({}, regions=[{"name": "a"}, {"name": "b"}])
    with pytest.raises(SettingError, match="--endpoints FOLDER, or --far-endpoints"):
        bootstrap(values, endpoints=None)
    made = json.dumps(bootstrap(values, endpoints=None, far_endpoints=tmp_path))
    assert str(tmp_path / "llm_far.json") in made
    assert '"trireme-llm"' in made
    assert str(tmp_path / "llm.json") not in made


def test_tls_needs_files_beside_the_configuration(tmp_path):
    tls = {name: f"/tls/{name}" for name in ("certificate", "key", "authority")}
    with pytest.raises(SettingError, match="--out"):
        bootstrap(values_of({"regionTls": tls, "regionListen": {}}), endpoints=tmp_path)


def test_without_a_region_listener_other_regions_reach_nothing(tmp_path):
    def names(**settings):
        made = bootstrap(values_of(settings), endpoints=tmp_path)
        return [listener["name"] for listener in made["static_resources"]["listeners"]]

    assert names() == ["grpc", "metrics"]
    assert names(regionListen={"port": 8010}) == ["grpc", "metrics", "region"]


def test_latencies_are_told_apart_to_a_third_from_a_millisecond_to_ten_seconds():
    some = [bucket for bucket in BUCKETS if 3 <= bucket <= 10_000]
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert all(after / before <= 5 / 3 for before, after in itertools.pairwise(some))


def test_what_clients_say_in_envoys_own_headers_is_not_heard(tmp_path):
    (grpc, _) = bootstrap(values_of({}), endpoints=tmp_path)["static_resources"]["listeners"]
    manager = grpc["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["use_remote_address"] is True
    assert manager["internal_address_config"]["cidr_ranges"] == [
        {"address_prefix": "255.255.255.255", "prefix_len": 32}
    ]


def test_the_command_names_the_file_and_the_workers():
    command = arguments(Path("/bin/envoy"), Path("/x/envoy.json"), EnvoyValues(workers=3, drain_seconds=7))
    assert command[:3] == ["/bin/envoy", "-c", "/x/envoy.json"]
    assert command[command.index("--concurrency") + 1] == "3"
    assert command[command.index("--drain-time-s") + 1] == "7"


def test_the_wheels_envoy_is_found(program):
    assert os.access(program, os.X_OK)
    told = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    assert "/1.40." in told.stdout


def test_without_the_wheel_the_one_in_path_is_taken_and_without_both_the_error_says_what_to_install(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(envoy, "WHEEL", "no-such-wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match=re.escape("pip install 'trireme[envoy]'")):
        find_envoy()
    own = tmp_path / "envoy"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_envoy() == own
