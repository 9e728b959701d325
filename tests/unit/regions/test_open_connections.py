"""Envoy's connections to the next region are kept open: what is asked of it, and what is made of answers."""

import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

from fakes.ports import free_ports
from trireme.regions.open_connections import OpenConnections
from trireme.scale.value_readers import Address
from trireme.scale.values import parse_values

VALUES = parse_values(
    {
        "models": {"llm": {"serves": ["llm"]}, "retrieval": {"serves": ["embedding"]}},
        "regions": [{"name": "eu"}, {"name": "us", "balancer": "127.0.0.1:8010"}],
    },
    "v",
)


@contextmanager
def envoy(statuses):
    """An Envoy's metrics address with these answers, path -> status; gives values of it and what was asked."""
    asked = []

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(statuses.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield values_at("127.0.0.1", server.server_address[1]), asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def values_at(host, port):
    return replace(VALUES, envoy=replace(VALUES.envoy, metrics=Address(host, port)))


BOTH = {"/trireme/far/llm": 200, "/trireme/far/retrieval": 200}


def test_the_next_region_is_asked_for_each_entry():
    with envoy(BOTH) as (values, asked):
        assert OpenConnections(values, 30.0).ask()
        assert asked == [*BOTH]


def test_an_entry_without_a_region_that_answers_is_told_and_the_others_are_asked_all_the_same():
    with envoy({**BOTH, "/trireme/far/llm": 503}) as (values, asked):
        assert not OpenConnections(values, 30.0).ask()
        assert asked == [*BOTH]


def test_an_envoy_that_is_not_there_is_no_fault():
    (port,) = free_ports(1)
    assert not OpenConnections(values_at("127.0.0.1", port), 30.0).ask()


def test_an_address_of_all_networks_is_asked_on_this_machine():
    with envoy(BOTH) as (values, _):
        everywhere = "0.0.0.0"  # noqa: S104
        assert OpenConnections(values_at(everywhere, values.envoy.metrics.port), 30.0).ask()
