import dataclasses
import re
import sys

import pytest

from trireme.errors import SettingError, UnsupportedError
from trireme.scale.region_values import Region, RegionTls
from trireme.scale.value_readers import Address, shown
from trireme.scale.values import EnvoyValues, ModelEntry, Values, parse_values, read_values

ONE = {"models": {"all": {"serves": ["embedding", "llm"]}}}


def parsed(**more):
    return parse_values({**ONE, **more}, "values.yaml")


def parsed_entry(**more):
    return parse_values({"models": {"all": {"serves": ["embedding"], **more}}}, "values.yaml").models[0]


def refused(raw, *words):
    with pytest.raises(SettingError) as raised:
        parse_values(raw, "values.yaml")
    for word in ("values.yaml", *words):
        assert word in str(raised.value)


def entry_refused(more, *words):
    refused({"models": {"all": {"serves": ["embedding"], **more}}}, *words)


def envoy_refused(envoy, *words):
    refused({**ONE, "envoy": envoy}, *words)


def test_an_entry_needs_only_the_models_that_it_serves():
    assert parsed() == Values((ModelEntry("all", ("embedding", "llm")),), EnvoyValues(), ())
    assert not parsed().has_failover


def test_what_a_file_says_is_read(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(
        """
models:
  retrieval:
    serves: [embedding, search]
    idempotent: [embedding]
    target: gpu
    replicas: {min: 2, max: 4}
    maxRequests: 64
    failoverMaxRequests: 8
    failoverBatchRequests: 2
    perTryTimeoutSeconds: 0.3
    default: true
    resources: {limits: {memory: 8Gi}}
    scale: {"on": work}
envoy:
  listen: {address: 0.0.0.0}
  admin: {port: 9000}
  hedging: true
  perTryTimeoutSeconds: 1
  regionListen: {address: 0.0.0.0}
  regionTls: {certificate: /tls/tls.crt, key: /tls/tls.key, authority: /ca/ca.crt}
  spill: true
regions: [{name: eu-west}, {name: us-east, balancer: "us-east.example.org:8010"}]
gateway: {replicas: 3}
"""
    )
    values = read_values(file)
    assert values.models == (
        ModelEntry("retrieval", ("embedding", "search"), ("embedding",), "gpu", 2, 4, 64, 8, 2, 0.3, True),
    )
    assert values.envoy == EnvoyValues(
        listen=Address("0.0.0.0", 8001),  # noqa: S104 - what the file says
        admin=Address("127.0.0.1", 9000),
        region_listen=Address("0.0.0.0", 8010),  # noqa: S104 - what the file says
        region_tls=RegionTls("/tls/tls.crt", "/tls/tls.key", "/ca/ca.crt"),
        spill=True,
        hedging=True,
        per_try_timeout_seconds=1.0,
    )
    assert values.own_region == "eu-west"
    assert values.other_regions == (Region("us-east", "us-east.example.org", 8010),)
    assert values.has_failover


def test_the_default_entry_is_the_one_that_says_so_else_the_first():
    two = {"a": {"serves": ["x"]}, "b": {"serves": ["y"]}}
    assert parse_values({"models": two}, "v").default.name == "a"
    two["b"]["default"] = True
    assert parse_values({"models": two}, "v").default.name == "b"
    two["a"]["default"] = True
    refused({"models": two}, "models.b.default", "models.a")


def test_everything_listens_on_loopback_unless_the_file_says_otherwise():
    envoy = parsed().envoy
    assert {envoy.listen.address, envoy.admin.address, envoy.metrics.address} == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "admin.example"])  # noqa: S104
def test_the_admin_address_is_of_this_machine_alone(host):
    envoy_refused({"admin": {"address": host}}, "envoy.admin.address", host)


def test_an_unknown_key_is_named_with_those_that_are_known():
    entry_refused({"maxRequest": 3}, "models.all.maxRequest", "maxRequests")
    entry_refused({"replicas": {"minimum": 3}}, "models.all.replicas.minimum", "min, max")
    envoy_refused({"perTryTimeout": 3}, "envoy.perTryTimeout", "perTryTimeoutSeconds")
    envoy_refused({"listen": {"host": "::1"}}, "envoy.listen", "address and port")
    refused({**ONE, "regions": [{"name": "a", "order": 1}]}, "regions[0].order")


def test_the_rest_of_the_file_is_the_charts():
    assert parsed(gateway={"replicas": 2}, image="x", scaling=None) == parsed()
    assert parsed_entry(resources=1, nodeSelector=2, scale=3, tolerations=4) == parsed_entry()


@pytest.mark.parametrize("raw", [None, [], "x", {}, {"models": {}}, {"models": []}, {"models": None}])
def test_a_file_without_models_is_refused(raw):
    refused(raw, "models must be a map")


@pytest.mark.parametrize("name", ["", "A", "a_b", "a.b", "-a", "a-", "a" * 42, 3, True, "../a"])
def test_a_name_of_an_entry_could_be_part_of_a_services_name(name):
    refused({"models": {name: {"serves": ["x"]}}}, f"models.{name}")


@pytest.mark.parametrize("model", ["", "a b", "a|b", 3, None, True, "x" * 129, ".."])
def test_a_name_of_a_model_is_one_that_triton_takes(model):
    refused({"models": {"all": {"serves": [model]}}}, "models.all.serves", shown(model))


def test_a_model_has_one_entry_and_stands_there_once():
    refused(
        {"models": {"a": {"serves": ["x"]}, "b": {"serves": ["x"]}}}, "models.b.serves", "'x'", "models.a"
    )
    refused({"models": {"a": {"serves": ["x", "x"]}}}, "models.a.serves", "twice")
    refused({"models": {"a": {}}}, "models.a.serves is missing")
    refused({"models": {"a": None}}, "models.a must be a map")
    entry_refused({"serves": []}, "models.all.serves")
    entry_refused({"serves": "embedding"}, "models.all.serves", "list")


def test_only_a_model_that_is_served_is_idempotent():
    entry_refused({"idempotent": ["llm"]}, "models.all.idempotent", "'llm'")
    assert parsed_entry(idempotent=[]).idempotent == ()


def test_replicas_are_bounded_and_ordered():
    assert (
        parsed_entry(replicas={"min": 3}).min_replicas,
        parsed_entry(replicas={"min": 3}).max_replicas,
    ) == (3, 3)
    assert parsed_entry(replicas={"min": 0, "max": 1}).min_replicas == 0
    entry_refused({"replicas": {"min": 4, "max": 3}}, "models.all.replicas.max", "at least 4")
    entry_refused({"replicas": {"min": 0, "max": 0}}, "models.all.replicas.max")
    entry_refused({"replicas": {"min": -1}}, "models.all.replicas.min")
    entry_refused({"replicas": 3}, "models.all.replicas")


def test_as_many_calls_fail_over_as_stay_unless_the_file_says_otherwise():
    assert parsed_entry(maxRequests=7).failover_max_requests == 7
    assert parsed_entry(maxRequests=7, failoverMaxRequests=2).failover_max_requests == 2


def test_batch_work_does_not_fail_over_unless_the_file_says_so():
    assert parsed_entry().failover_batch_requests == 0
    assert parsed_entry(failoverBatchRequests=3).failover_batch_requests == 3
    entry_refused({"failoverBatchRequests": -1}, "models.all.failoverBatchRequests", "0 to")


BOUNDED = sorted(
    {one.name for one in dataclasses.fields(EnvoyValues)}
    - {"listen", "admin", "metrics", "balancing", "hedging", "retry_stream_resets", "access_log", "service"}
    - {"region_listen", "region_tls", "region_insecure", "spill", "controller"}
)


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize(
    "value", [-1, 1e12, float("nan"), float("inf"), True, "5", None, [], 10**400], ids=range(9)
)
def test_a_number_out_of_bounds_is_named_with_its_bounds(name, value):
    key = camel(name)
    with pytest.raises(SettingError, match=rf"envoy\.{key} must be .*\d+ to \d+") as raised:
        parsed(envoy={key: value})
    assert len(str(raised.value)) < 700


@pytest.mark.parametrize("name", BOUNDED)
def test_every_default_is_within_its_own_bounds(name):
    default = getattr(EnvoyValues(), name)
    assert getattr(parsed(envoy={camel(name): default}).envoy, name) == default


def test_words_switches_and_paths_are_checked():
    envoy_refused({"balancing": "random"}, "envoy.balancing", "leastRequest or roundRobin or orca")
    envoy_refused({"balancing": []}, "envoy.balancing")
    envoy_refused({"hedging": "yes"}, "envoy.hedging", "true or false")
    envoy_refused({"accessLog": "access.log"}, "envoy.accessLog", "absolute")
    envoy_refused({"service": "a b"}, "envoy.service")
    envoy_refused({"listen": {"address": "localhost"}}, "envoy.listen.address", "IP address")
    envoy_refused({"listen": {"port": 0}}, "envoy.listen.port", "65535")
    envoy_refused([], "envoy must be a map")
    entry_refused({"target": "tpu"}, "models.all.target", "cpu or gpu")
    assert parsed(envoy={"service": "release-{model}.ns.svc"}).envoy.service == "release-{model}.ns.svc"


def test_settings_that_need_another_say_which():
    envoy_refused({"slowStartSeconds": 30}, "envoy.slowStartSeconds", "envoy.balancing")
    assert parsed(envoy={"slowStartSeconds": 30, "balancing": "roundRobin"}).envoy.slow_start_seconds == 30
    envoy_refused({"balancing": "orca", "agentPort": 0}, "envoy.agentPort")
    envoy_refused({"spill": True, "agentPort": 0}, "envoy.spill", "envoy.agentPort")
    envoy_refused({"hedging": True, "perTryTimeoutSeconds": 0}, "envoy.perTryTimeoutSeconds")
    envoy_refused({"metrics": {"port": 9901}}, "envoy.metrics", "9901")


def test_a_service_is_one_for_each_entry():
    two = {"a": {"serves": ["x"]}, "b": {"serves": ["y"]}}
    refused({"models": two, "envoy": {"service": "trireme"}}, "envoy.service", "{model}")
    refused({"models": {"a" * 41: two["a"]}, "envoy": {"service": "t" * 30 + "{model}"}}, "is no DNS name")
    for bad in ("a..b", "-a", "a-.b", "a" * 64, "a_b"):
        envoy_refused({"service": bad}, "envoy.service")
    assert parsed(envoy={"service": "trireme"}).envoy.service == "trireme"


def test_server_and_agent_have_ports_of_their_own():
    envoy_refused({"serverPort": 8003}, "envoy.agentPort", "envoy.serverPort", "8003")
    assert parsed(envoy={"serverPort": 8003, "agentPort": 0}).envoy.agent_port == 0


def test_a_part_that_neither_the_chart_nor_envoy_has_is_refused():
    # Else nothing would fail over, and nobody would hear of it.
    refused({**ONE, "region": [{"name": "a"}, {"name": "b"}]}, "region is no setting", "regions")
    envoy_refused({"enabled": False}, "envoy.enabled")
    entry_refused({"podLabels": {}}, "models.all.podLabels")


def test_regions_have_names_of_their_own():
    assert not parsed(regions=[{"name": "a"}]).has_failover
    refused({**ONE, "regions": [{"name": "a"}, {"name": "a"}]}, "regions[1].name", "twice")
    refused({**ONE, "regions": ["a"]}, "regions[0] must be a map")
    refused({**ONE, "regions": [{}]}, "regions[0].name")
    refused({**ONE, "regions": {"name": "a"}}, "regions must be a list")


def test_a_key_that_stands_twice_is_refused_and_not_lost(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text("models:\n  a: {serves: [x]}\n  a: {serves: [y]}\n")
    with pytest.raises(SettingError, match=r"values\.yaml: 'a' stands twice .*line 2"):
        read_values(file)


@pytest.mark.parametrize(
    "text", ["models: [", "a: !!python/object:os.system {}", "{a: b}: c", "\x00", "? [a]\n: b"]
)
def test_what_is_no_plain_yaml_is_refused(tmp_path, text):
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(SettingError, match=re.escape(str(file))):
        read_values(file)


def test_what_stands_once_may_be_used_twice(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text("models:\n  a: &x {serves: [x], target: gpu}\n  b: {<<: *x, serves: [y]}\n")
    assert [(entry.serves, entry.target) for entry in read_values(file).models] == [
        (("x",), "gpu"),
        (("y",), "gpu"),
    ]


def test_an_error_quotes_no_more_than_a_line_of_a_value():
    endless = []
    endless.append(endless)
    laughing = "x"
    for _ in range(9):
        laughing = [laughing] * 9
    for value in ("x" * 10_000, ["x" * 1000] * 1000, endless, {"a": endless}, laughing, 16**9999):
        with pytest.raises(SettingError) as raised:
            parsed(envoy={"balancing": value})
        assert len(str(raised.value)) < 800


def test_a_key_is_named_without_what_a_terminal_would_obey():
    for key in ("\x1b[31mred\n", "k" * 1000, 16**9999, None):
        for raw in ({**ONE, key: 1}, {**ONE, "envoy": {key: 1}}, {"models": {key: {"serves": ["x"]}}}):
            with pytest.raises(SettingError) as raised:
                parse_values(raw, "values.yaml")
            assert str(raised.value).isprintable()
            assert "k" * 100 not in str(raised.value)


@pytest.mark.parametrize("text", ["1:30", "2:13:21", "1:30.5"])
def test_a_number_that_only_yaml_1_1_takes_for_one_is_refused(tmp_path, text):
    file = tmp_path / "values.yaml"
    file.write_text(f"models: {{a: {{serves: [x]}}}}\nenvoy: {{perTryTimeoutSeconds: {text}}}\n")
    with pytest.raises(SettingError, match=rf"'{re.escape(text)}' is no number .*line 2"):
        read_values(file)


def test_a_number_without_end_is_refused_wherever_it_stands(tmp_path):
    file = tmp_path / "values.yaml"
    for text in ("0x" + "f" * 5000, "9" * 5000):
        for key in ("models: {a: {serves: [x]}}\nenvoy", "models", "regions"):
            file.write_text(f"{key}: {text}\n")
            with pytest.raises(SettingError, match=r"values\.yaml"):
                read_values(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"missing\.yaml: No such file"):
        read_values(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(SettingError, match=r"latin\.yaml: is no UTF-8"):
        read_values(tmp_path / "latin.yaml")


def test_without_pyyaml_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "values.yaml").write_text("models: {}")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UnsupportedError, match=re.escape("pip install 'trireme[envoy]'")):
        read_values(tmp_path / "values.yaml")
