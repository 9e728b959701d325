import asyncio

from trireme.providers import triton_replicas
from trireme.providers.registry import TritonPorts, open_replicas
from trireme.providers.replicas import Replica


def test_servers_are_asked_at_the_port_of_http(monkeypatch):
    asked = []

    def read(hosts, port, seconds):
        asked.append((hosts, port))
        return [(host, host == "a") for host in hosts]

    monkeypatch.setattr(triton_replicas, "read_ready", read)
    many = open_replicas(TritonPorts("front", 1, 2, 3, ("a", "b")))
    assert asyncio.run(many.read()) == [Replica("a", True), Replica("b", False)]
    assert asyncio.run(open_replicas(TritonPorts("one", 1, 2, 3)).read()) == [Replica("one", False)]
    assert asked == [(("a", "b"), 2), (("one",), 2)]
