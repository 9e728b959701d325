import asyncio

import pytest

from trireme.errors import UnavailableError
from trireme.providers import triton_backlogs
from trireme.providers.registry import TritonPorts, open_backlogs


def test_the_backlogs_are_read_from_the_port_of_the_metrics(monkeypatch):
    asked = []

    def read(host, port, seconds):
        asked.append((host, port))
        return {"llm": 1.5}

    monkeypatch.setattr(triton_backlogs, "read_backlogs", read)
    reader = open_backlogs(TritonPorts("127.0.0.1", 1, 2, 3))
    assert asyncio.run(reader.read()) == {"llm": 1.5}
    assert asked == [("127.0.0.1", 3)]
    asyncio.run(reader.close())


def test_a_server_that_is_away_is_an_error_of_ours():
    with pytest.raises(UnavailableError, match="no metrics at"):
        asyncio.run(open_backlogs(TritonPorts("127.0.0.1", 1, 1, 1)).read())
