import pytest

from trireme.errors import SettingError
from trireme.scale.region_values import Region
from trireme.scale.values import parse_values

TLS = {"certificate": "/tls/tls.crt", "key": "/tls/tls.key", "authority": "/ca/ca.crt"}
ANY = "0.0.0.0"  # noqa: S104 - where it listens is what is tried


def parsed(regions, **envoy):
    return parse_values({"models": {"all": {"serves": ["x"]}}, "regions": regions, "envoy": envoy}, "v.yaml")


def refused(regions, *words, **envoy):
    with pytest.raises(SettingError) as raised:
        parsed(regions, **envoy)
    for word in ("v.yaml", *words):
        assert word in str(raised.value)


def two(balancer):
    return [{"name": "here"}, {"name": "there", "balancer": balancer}]


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("us-east.example.org:8010", "us-east.example.org", 8010),
        ("US-East.example.org:8010", "us-east.example.org", 8010),
        ("10.3.0.1:1", "10.3.0.1", 1),
        ("[fd00:0::1]:65535", "fd00::1", 65535),
        ("localhost:8010", "localhost", 8010),
    ],
)
def test_a_balancer_is_a_name_or_an_address_and_a_port(written, host, port):
    (region,) = parsed(two(written), regionInsecure=True).other_regions
    assert (region.host, region.port) == (host, port)


def test_a_balancer_is_shown_as_people_write_it():
    assert Region("a", "fd00::1", 8010).balancer == "[fd00::1]:8010"
    assert Region("a", "us.example.org", 8010).balancer == "us.example.org:8010"
    assert Region("a").balancer == ""


@pytest.mark.parametrize(
    "written",
    [
        *(
            "us-east",
            ":8010",
            "us-east:",
            "us-east:0",
            "us-east:65536",
            "us-east:http",
            "a b:1",
            "fd00::1:8010",
        ),
        *(
            "http://us-east:8010",
            "[us-east]:8010",
            "[fe80::1%eth0]:1",
            "10.3.0.1:8010/x",
            "a..b:1",
            8010,
            None,
            [],
        ),
        *("10.3.0.1:8010\n", "10.3.0.1:\u0661"),
    ],
)
def test_what_is_no_balancer_is_refused_with_how_one_is_written(written):
    refused(two(written), "regions[1].balancer", "us-east.example.org:8010", regionInsecure=True)


def test_the_own_region_has_no_balancer_and_no_other_has_its_listener():
    refused([{"name": "here", "balancer": "127.0.0.1:8010"}], "regions[0].balancer", "own region first")
    refused(
        two("127.0.0.1:8010"), "regions[1].balancer", "regionListen", "there", regionListen={"port": 8010}
    )
    assert parsed(two("127.0.0.1:8011"), regionListen={"port": 8010}).has_failover


def test_two_regions_have_two_balancers():
    three = [*two("[::1]:8010"), {"name": "third", "balancer": "[0:0::1]:8010"}]
    refused(three, "regions[2].balancer", "that of there too")


def test_what_leaves_the_machine_is_encrypted_unless_the_file_says_otherwise():
    listen = {"address": ANY, "port": 8010}
    refused([], "regionListen", ANY, "envoy.regionTls", "regionInsecure: true", regionListen=listen)
    refused(two("us.example.org:1"), "regions[1].balancer", "unencrypted", "envoy.regionTls")
    for envoy in ({"regionTls": TLS}, {"regionInsecure": True}):
        assert parsed(two("us.example.org:1"), regionListen=listen, **envoy).envoy.region_listen.port == 8010
    assert parsed(two("localhost:1"), regionListen={}).envoy.region_listen.address == "127.0.0.1"
    refused([], "regionInsecure", "take it away", regionTls=TLS, regionInsecure=True)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"certificate": "tls.crt"}, "regionTls.certificate"),
        ({"key": None}, "regionTls.key"),
        ({"authority": "/ca\n"}, "regionTls.authority"),
        ({"name": "x"}, "certificate, key, authority"),
        ({"key": "/elsewhere/tls.key"}, "the folder of .certificate"),
    ],
)
def test_files_of_tls_are_named_whole(changes, word):
    refused([], word, regionTls={**TLS, **changes})


def test_all_three_files_of_tls_are_needed():
    for key in TLS:
        refused([], "must have the keys", regionTls={name: TLS[name] for name in TLS if name != key})


def test_null_takes_a_listener_and_tls_away():
    envoy = parsed([], regionListen=None, regionTls=None).envoy
    assert (envoy.region_listen, envoy.region_tls) == (None, None)


def test_the_region_listener_has_a_port_of_its_own():
    refused([], "envoy.regionListen", "9901", regionListen={"port": 9901})
    # That is the controller's.
    refused([], "envoy.controller", "9903", regionListen={"port": 9903})
