"""What several servers say together."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trireme.errors import UnavailableError
from trireme.triton import many_servers
from trireme.triton.many_servers import (
    count_interactive_of_all,
    find_addresses,
    merge_served,
    read_models_of_all,
    read_ready,
)
from trireme.triton.served_models import ServedModel

HOSTS = ("127.0.0.11", "127.0.0.12")


def model(name="embedding", **changes):
    return ServedModel(**{"name": name, "kind": "text_encoder", "is_ready": True, **changes})


def test_a_model_is_served_where_any_server_has_it():
    merged = merge_served([[model("b")], [model("a"), model("b")]])
    assert [one.name for one in merged] == ["a", "b"]


def test_a_model_is_ready_where_one_server_has_it_ready():
    away = model(is_ready=False, reason="no weights", digest="old", version="v0")
    (merged,) = merge_served([[away], [model(digest="d", version="v1")]])
    assert (merged.is_ready, merged.digest, merged.version) == (True, "d", "v1")
    assert merged.reason == "no weights"
    (nowhere,) = merge_served([[away], [away]])
    assert not nowhere.is_ready


def test_an_adapter_is_told_of_once_every_server_that_is_ready_has_it():
    old, new = model(adapters=("art", "law")), model(adapters=("law", "tax", "art"))
    away = model(is_ready=False)
    assert [
        merge_served([[one], [away], [other]])[0].adapters for one, other in ((old, new), (new, old))
    ] == [
        ("art", "law"),
        ("law", "art"),
    ]
    assert merge_served([[new], [model()]])[0].adapters == ()


def test_another_load_of_any_server_is_another_digest_whatever_the_order():
    one, other = [model(digest="d1")], [model(digest="d2")]
    first = merge_served([one, other])[0].digest
    assert first == merge_served([other, one])[0].digest
    assert len({first, merge_served([one, [model(digest="d3")]])[0].digest, "d1"}) == 3
    assert merge_served([one, [model(digest="")]])[0].digest == ""


def test_versions_that_differ_are_no_version():
    assert merge_served([[model(version="v1")], [model(version="v1")]])[0].version == "v1"
    assert merge_served([[model(version="v1")], [model(version="v2")]])[0].version == ""


def test_servers_that_do_not_answer_are_left_out(monkeypatch):
    def read(host, http_port, metrics_port):
        assert (http_port, metrics_port) == (1, 2)
        if host == HOSTS[0]:
            raise UnavailableError("gone")
        return [model()]

    monkeypatch.setattr(many_servers, "read_served_models", read)
    assert read_models_of_all(HOSTS, 1, 2) == [model()]
    with pytest.raises(UnavailableError, match="gone"):
        read_models_of_all(HOSTS[:1], 1, 2)


def test_requests_of_people_are_counted_over_all_servers(monkeypatch):
    said = {HOSTS[0]: (3, False), HOSTS[1]: (4, True)}
    monkeypatch.setattr(many_servers, "read_metrics", lambda host, port: host)
    monkeypatch.setattr(many_servers, "count_interactive", lambda page, models: said[page])
    assert count_interactive_of_all(HOSTS, 2, ["reranker"]) == (7, True)
    assert count_interactive_of_all(HOSTS[:1], 2, ["reranker"]) == (3, False)


def test_a_name_has_all_its_addresses_and_none_where_nobody_knows_it():
    assert find_addresses(["127.0.0.11", "::1", "[::1]", "127.0.0.11"]) == ["127.0.0.11", "[::1]"]
    assert {"127.0.0.1"} <= {*find_addresses(["localhost"]), "127.0.0.1"}
    assert find_addresses(["no-such-host.invalid"]) == []
    with pytest.raises(UnavailableError, match=r"no-such-host\.invalid; see TRIREME_SERVER_HOSTS"):
        read_models_of_all(["no-such-host.invalid"], 1, 2)


def test_a_server_is_ready_where_it_says_so_and_not_where_it_does_not_answer_or_refuses():
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/v2/health/ready" and server.is_ready else 400)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.11", 0), Ready) as server:
        server.is_ready = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        port = server.server_address[1]
        assert read_ready(HOSTS, port, 5.0) == [(HOSTS[0], True), (HOSTS[1], False)]
        server.is_ready = False
        assert read_ready(HOSTS[:1], port, 5.0) == [(HOSTS[0], False)]
        server.shutdown()
        thread.join()


def test_without_hosts_there_are_no_servers():
    assert read_ready([], 1, 1.0) == []
