import ssl
import subprocess
from contextlib import closing

import pytest

from fakes.authorities import Authority
from fakes.pings import Pings
from fakes.ports import free_ports
from trireme.regions import loads
from trireme.regions.probe import Answer, Probe
from trireme.scale.near_routes import PING
from trireme.scale.region_values import RegionTls

HERE = "127.0.0.1"


@pytest.fixture
def balancer():
    running = Pings()
    yield running
    running.close()


@pytest.fixture
def probe(balancer):
    with closing(Probe(HERE, balancer.port, None, 30.0)) as opened:
        yield opened


def test_round_trips_are_measured_on_one_connection_that_was_opened_before(balancer, probe):
    balancer.delay = 0.02
    for _ in range(3):
        answer = probe.measure(HERE)
        assert answer.outcome == "ok"
        assert answer.seconds >= 0.02
    assert (balancer.connections, balancer.asked) == (1, 3)


def test_a_connection_that_was_closed_meanwhile_is_opened_anew_and_that_is_no_fault(balancer, probe):
    assert probe.measure(HERE).outcome == "ok"
    balancer.cut()
    assert probe.measure(HERE).outcome == "ok"
    assert balancer.connections == 2
    balancer.closes = True
    assert [probe.measure(HERE).outcome for _ in range(2)] == ["ok", "ok"]
    assert balancer.connections == 3


def test_who_does_not_answer_in_time_is_late_and_is_asked_on_a_fresh_connection(balancer):
    with closing(Probe(HERE, balancer.port, None, 0.05)) as probe:
        balancer.answer.clear()
        assert probe.measure(HERE) == Answer("late")
    balancer.answer.set()
    with closing(Probe(HERE, balancer.port, None, 30.0)) as probe:
        assert probe.measure(HERE).outcome == "ok"


def test_where_nobody_listens_it_is_away():
    with closing(Probe(HERE, free_ports(1)[0], None, 30.0)) as probe:
        assert probe.measure(HERE) == Answer("away")


def test_another_answer_is_wrong(balancer, probe):
    balancer.status = 503
    assert probe.measure(HERE) == Answer("wrong")
    balancer.status, balancer.body = 200, b"x" * 1000
    assert probe.measure(HERE) == Answer("wrong")
    balancer.body = b""
    assert probe.measure(HERE).outcome == "ok"


def test_what_else_a_region_says_is_read_on_the_connection_of_the_probe(balancer, probe):
    assert probe.read(PING) is None
    assert probe.measure(HERE).outcome == "ok"
    balancer.body = b"loads"
    assert probe.read(PING) == b"loads"
    assert probe.read("/elsewhere") is None
    balancer.body = b""
    assert probe.measure(HERE).outcome == "ok"
    assert balancer.connections == 1


def test_of_an_answer_that_is_too_long_nothing_is_taken_for_the_next_one(balancer, probe, monkeypatch):
    monkeypatch.setattr(loads, "MOST_BYTES", 3)
    probe.measure(HERE)
    balancer.body = b"loads"
    assert probe.read(PING) is None
    balancer.body = b""
    assert probe.measure(HERE).outcome == "ok"
    assert balancer.connections == 2
    balancer.cut()
    assert probe.read(PING) is None


def test_another_address_is_asked_on_another_connection(balancer, probe):
    assert probe.measure(HERE).outcome == "ok"
    # Nobody listens there.
    assert probe.measure("127.0.0.9").outcome == "away"
    assert probe.measure("").outcome == "unnamed"
    assert probe.measure(HERE).outcome == "ok"
    assert balancer.connections == 2


def context_of(tls):
    """As a region listener's: it asks for a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    context.load_verify_locations(tls.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_over_tls_both_sides_prove_who_they_are_and_new_files_are_read(tmp_path):
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    theirs = RegionTls(**authority.issue(tmp_path / "theirs", "IP:127.0.0.1", "DNS:there.example.org"))
    own = RegionTls(**authority.issue(tmp_path / "own", "IP:127.0.0.1"))
    strange = RegionTls(**stranger.issue(tmp_path / "strange", "IP:127.0.0.1"))

    def outcome(tls, host=HERE):
        with closing(Probe(host, balancer.port, tls, 30.0)) as probe:
            return probe.measure(HERE).outcome

    with closing(Pings(context_of(theirs))) as balancer:
        assert [outcome(own), outcome(own, "there.example.org")] == ["ok", "ok"]
        # It has not the name of that region.
        assert outcome(own, "elsewhere.example.org") == "denied"
        assert outcome(strange) == "denied"
        assert outcome(RegionTls(own.certificate, f"{own.key}.none", own.authority)) == "denied"
        # Nobody is asked for its pass phrase.
        words = ("-in", own.key, "-aes256", "-passout", "pass:secret", "-out", f"{own.key}.closed")
        subprocess.run(["openssl", "ec", *words], check=True, capture_output=True)
        assert outcome(RegionTls(own.certificate, f"{own.key}.closed", own.authority)) == "denied"
        # The listener refuses a certificate of another authority.
        mixed = RegionTls(strange.certificate, strange.key, own.authority)
        assert outcome(mixed) in ("denied", "away")
        authority.issue(tmp_path / "strange", "IP:127.0.0.1")
        assert outcome(mixed) == "ok"
