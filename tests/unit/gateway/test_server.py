import socket

import pytest

from trireme.errors import SettingError
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.server import GatewayParts, bind
from trireme.providers.registry import TritonPorts

CANARY = "sk-canary-4711"
TWO_KEYS = """
[providers.openai]
kind = "openai"
url = "http://127.0.0.1:1/v1"
keys = ["FIRST", "SECOND"]
region = "eu"
"""


def parts_of(text, secrets):
    return GatewayParts(
        file=parse_gateway_file(text.encode(), "gateway.toml"),
        triton=TritonPorts("127.0.0.1", 1, 2, 3),
        keys=None,
        caps=None,
        ledger=None,
        open_documents=None,
        model_repository=None,
        salt_key=b"salt-canary",
        secrets=secrets,
    )


def test_secrets_are_in_no_text_of_the_parts():
    text = repr(parts_of(TWO_KEYS, {"FIRST": CANARY, "SECOND": CANARY}))
    assert CANARY not in text
    assert "salt-canary" not in text


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"port {port} of 127.0.0.1 is in use"):
            bind("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_named():
    with pytest.raises(SettingError, match="cannot be bound"):
        bind("192.0.2.1", 0)
