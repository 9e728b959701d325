import asyncio
import socket

import pytest

from trireme.errors import SettingError
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.server import GatewayParts, bind, open_entries, read_keys
from trireme.providers.registry import TritonPorts

CANARY = "sk-canary-4711"
TWO_KEYS = """
[providers.openai]
kind = "openai"
url = "http://127.0.0.1:1/v1"
keys = ["FIRST", "SECOND"]
region = "eu"
"""


def opened(parts):
    """The entries of `parts`, opened in an event loop and closed again."""

    async def run():
        entries = open_entries(parts)
        for entry in entries.values():
            for provider in entry.keys:
                await provider.close()
        return entries

    return asyncio.run(run())


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


def test_each_key_of_a_provider_is_one_of_its_own_in_their_order():
    entries = opened(parts_of(TWO_KEYS, {"FIRST": "a", "SECOND": "b"}))
    assert list(entries) == ["local", "openai"]
    assert len(entries["openai"].keys) == 2
    assert entries["openai"].region == "eu"


def test_our_own_triton_is_in_the_region_that_the_file_says():
    text = "[local]\nregion = 'eu-west'\n"
    assert opened(parts_of(text, {}))["local"].region == "eu-west"
    elsewhere = "[providers.local]\nkind = 'triton'\nurl = '127.0.0.1:1'\n"
    assert opened(parts_of(text + elsewhere, {}))["local"].region == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (TWO_KEYS, "SECOND"),
        (TWO_KEYS.replace('"openai"', '"opnai"', 1).replace('kind = "openai"', 'kind = "opnai"'), "opnai"),
        (TWO_KEYS.replace("http://127.0.0.1:1/v1", "127.0.0.1"), "url"),
    ],
)
def test_what_cannot_be_opened_stops_the_start_and_is_named(text, named):
    secrets = {"FIRST": CANARY} if named == "SECOND" else {"FIRST": CANARY, "SECOND": CANARY}
    with pytest.raises(SettingError) as caught:
        opened(parts_of(text, secrets))
    assert named in str(caught.value)
    assert CANARY not in str(caught.value)


def test_secrets_are_in_no_text_of_the_parts():
    text = repr(parts_of(TWO_KEYS, {"FIRST": CANARY, "SECOND": CANARY}))
    assert CANARY not in text
    assert "salt-canary" not in text


def test_only_variables_that_the_file_names_are_read():
    file = parse_gateway_file(TWO_KEYS.encode(), "gateway.toml")
    assert read_keys({"FIRST": "a", "OTHER": "b"}, file) == {"FIRST": "a"}


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
