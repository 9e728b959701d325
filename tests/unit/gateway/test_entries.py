import asyncio

import pytest

from trireme.errors import SettingError
from trireme.gateway.entries import open_entries, read_keys
from trireme.gateway.file import parse_gateway_file

CANARY = "sk-canary-4711"
TWO_KEYS = """
[providers.openai]
kind = "openai"
url = "http://127.0.0.1:1/v1"
keys = ["FIRST", "SECOND"]
region = "eu"
"""


def opened(text, secrets):
    """The entries of a gateway.toml, opened in an event loop and closed again."""

    async def run():
        entries = open_entries(parse_gateway_file(text.encode(), "gateway.toml"), "127.0.0.1:2", secrets)
        for entry in entries.values():
            for provider in entry.keys:
                await provider.close()
        return entries

    return asyncio.run(run())


def test_each_key_of_a_provider_is_one_of_its_own_in_their_order():
    entries = opened(TWO_KEYS, {"FIRST": "a", "SECOND": "b"})
    assert list(entries) == ["local", "openai"]
    assert len(entries["openai"].keys) == 2
    assert entries["openai"].region == "eu"


def test_our_own_triton_is_in_the_region_that_the_file_says():
    text = "[local]\nregion = 'eu-west'\n"
    assert opened(text, {})["local"].region == "eu-west"
    elsewhere = "[providers.local]\nkind = 'triton'\nurl = '127.0.0.1:1'\n"
    assert opened(text + elsewhere, {})["local"].region == ""


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
        opened(text, secrets)
    assert named in str(caught.value)
    assert CANARY not in str(caught.value)


def test_only_variables_that_the_file_names_are_read():
    file = parse_gateway_file(TWO_KEYS.encode(), "gateway.toml")
    assert read_keys({"FIRST": "a", "OTHER": "b"}, file) == {"FIRST": "a"}
