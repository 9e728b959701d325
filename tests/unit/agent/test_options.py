import pytest

from trireme.agent.options import AgentOptions
from trireme.errors import SettingError


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"server": "localhost"}, "--server"),
        ({"server": "::1:8001"}, "--server"),
        ({"server": "http://h:1"}, "--server"),
        ({"metrics_url": "https://h:1/metrics"}, "--metrics-url"),
        ({"metrics_url": "http://h:1/other"}, "--metrics-url"),
        ({"metrics_url": "http://u@h:1/metrics"}, "--metrics-url"),
        ({"port": 0}, "--port"),
        ({"port": 65536}, "--port"),
        ({"port": 65535}, "--http-port"),
        ({"port": 9000, "http_port": 9000}, "--http-port"),
        ({"models": ("a", "")}, "--models"),
        ({"misses": 0}, "--misses"),
        ({"health_failures": 0}, "--health-failures"),
        ({"server": "h:" + "9" * 5000}, "--server"),
        ({"metrics_url": "http://[::1/metrics"}, "--metrics-url"),
        ({"metrics_url": "http://h:1/metrics#a"}, "--metrics-url"),
        ({"host": ""}, "--host"),
        ({"host": " 127.0.0.1"}, "--host"),
        ({"misses": 10_001}, "--misses"),
        ({"health_failures": 10**400}, "--health-failures"),
        ({"answer": 86_401.0}, "--answer-seconds"),
        ({"drain": 1e300}, "--drain-seconds"),
        ({"drain": 2.4}, "--drain-seconds must be at least 2.5"),
        ({"poll": 0.0}, "--poll-seconds"),
        ({"health_interval": float("nan")}, "--health-interval-seconds"),
        ({"target": float("inf")}, "--target-seconds"),
    ],
)
def test_a_wrong_option_is_refused_by_the_name_of_its_flag(changes, named):
    with pytest.raises(SettingError, match=named):
        AgentOptions(**changes)


def test_http_is_the_port_behind_unless_it_is_told():
    assert AgentOptions(port=9002).own_http_port == 9003
    assert AgentOptions(port=9002, http_port=80).own_http_port == 80


def test_a_drain_holds_for_one_check_more_than_the_balancer_needs():
    assert AgentOptions(health_interval=0.5, health_failures=2).hold == 1.5


def test_an_address_of_ipv6_has_brackets():
    options = AgentOptions(server="[::1]:8001", metrics_url="http://[::1]:8002/metrics")
    assert options.metrics_address == ("[::1]", 8002)


@pytest.mark.parametrize(
    ("host", "address"), [("::1", "[::1]:8003"), ("[::1]", "[::1]:8003"), ("localhost", "localhost:8003")]
)
def test_the_agents_own_address_of_ipv6_has_brackets_whether_told_with_them_or_not(host, address):
    assert AgentOptions(host=host).grpc_address == address


def test_a_password_in_an_address_is_not_shown():
    with pytest.raises(SettingError) as raised:
        AgentOptions(metrics_url="http://user:hidden@h:1/metrics")
    assert "hidden" not in str(raised.value)


def test_a_command_line_names_the_server_also_where_it_is_the_default():
    # The command's own defaults are those of the settings.
    options = AgentOptions()
    assert options.flags() == ["--server", options.server, "--metrics-url", options.metrics_url]
