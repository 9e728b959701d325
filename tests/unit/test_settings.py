import dataclasses
import re
from pathlib import Path

import pytest

from trireme.errors import SettingError
from trireme.settings import Settings, environment, read_regions, read_settings

SECRET = "0123456789abcdef0123456789abcdef"
DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_without_variables_the_defaults_hold_and_bind_to_loopback():
    assert read_settings({"PATH": "/bin"}) == Settings()
    assert Settings().host == "127.0.0.1"


def test_values_are_read_by_type():
    settings = read_settings({"TRIREME_GRPC_PORT": "9001", "TRIREME_DATA_DIR": "/data"})
    assert settings.grpc_port == 9001
    assert settings.data_dir == Path("/data")
    assert settings.grpc_url == "127.0.0.1:9001"


def test_an_unknown_setting_is_named():
    with pytest.raises(SettingError, match="TRIREME_GRCP_PORT"):
        read_settings({"TRIREME_GRCP_PORT": "9001"})


@pytest.mark.parametrize("value", ["", "x", "0", "65536", "-1", "8000.0"])
def test_a_port_out_of_range_is_named(value):
    with pytest.raises(SettingError, match="TRIREME_HTTP_PORT"):
        read_settings({"TRIREME_HTTP_PORT": value})


@pytest.mark.parametrize("key", ["TRIREME_HOST", "TRIREME_DATA_DIR", "TRIREME_COLLECTION"])
def test_an_empty_value_is_named(key):
    with pytest.raises(SettingError, match=key):
        read_settings({key: ""})


def test_the_size_of_the_cache_may_be_zero_but_not_a_word():
    assert read_settings({"TRIREME_RESPONSE_CACHE_BYTES": "0"}).response_cache_bytes == 0
    with pytest.raises(SettingError, match="TRIREME_RESPONSE_CACHE_BYTES"):
        read_settings({"TRIREME_RESPONSE_CACHE_BYTES": "lots"})


def test_the_database_url_stays_out_of_the_text_form():
    assert "secret" not in repr(read_settings({"TRIREME_DATABASE_URL": "postgresql://u:secret@h/db"}))


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "soon"])
def test_a_number_of_seconds_is_at_least_one(value):
    assert read_settings({"TRIREME_WORKER_TIMEOUT_SECONDS": "90"}).worker_timeout_seconds == 90
    with pytest.raises(SettingError, match="TRIREME_WORKER_TIMEOUT_SECONDS"):
        read_settings({"TRIREME_WORKER_TIMEOUT_SECONDS": value})


def test_hosts_of_servers_are_listed_and_an_empty_one_is_named():
    assert Settings().listed_server_hosts == ()
    assert read_settings({"TRIREME_SERVER_HOSTS": "a,b"}).listed_server_hosts == ("a", "b")
    for value in ("a,", ",", "a, b"):
        with pytest.raises(SettingError, match="TRIREME_SERVER_HOSTS"):
            read_settings({"TRIREME_SERVER_HOSTS": value})


def test_a_child_process_gets_the_same_settings():
    given = Settings(
        http_port=9000,
        database_url="postgresql://h/db",
        collection="notes",
        data_dir=Path("/data"),
        gateway_host="::1",
        gateway_port=9080,
        gateway_file=Path("other.toml"),
        gateway_secret=SECRET,
        server_growth_bytes=0,
    )
    assert read_settings(environment(given)) == given
    assert read_settings(environment(Settings())) == Settings()


@pytest.mark.parametrize("raw", ["yes", "1", "", "ON"])
def test_a_switch_is_on_or_off(raw):
    with pytest.raises(SettingError, match="TRIREME_SHARED_MEMORY must be on or off"):
        read_settings({"TRIREME_SHARED_MEMORY": raw})
    assert read_settings({"TRIREME_SHARED_MEMORY": "on"}).shared_memory == "on"


def test_every_setting_is_read_by_the_parser_of_its_field():
    for field in dataclasses.fields(Settings):
        text = str(field.default)
        assert field.metadata["parse"](text, field.default) == field.default


def test_the_gateways_secret_is_long_or_left_out_and_stays_out_of_texts():
    settings = read_settings({"TRIREME_GATEWAY_SECRET": SECRET})
    assert settings.gateway_secret == SECRET
    assert SECRET not in repr(settings)
    assert read_settings({"TRIREME_GATEWAY_SECRET": ""}).gateway_secret == ""
    with pytest.raises(SettingError, match="TRIREME_GATEWAY_SECRET must have at least 32") as caught:
        read_settings({"TRIREME_GATEWAY_SECRET": "a short one"})
    assert "a short one" not in str(caught.value)


def test_the_docs_name_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `(TRIREME_[A-Z_]+)` \| `?([^|`]+?)`? \|", DOCS.read_text(), re.MULTILINE))
    defaults = {f"TRIREME_{f.name.upper()}": str(f.default) or "empty" for f in dataclasses.fields(Settings)}
    assert rows == defaults


def test_a_cache_that_would_have_no_limit_is_refused():
    with pytest.raises(SettingError, match="TRIREME_CACHE_BYTES must be a number of bytes, at least 8388608"):
        read_settings({"TRIREME_CACHE_BYTES": "0"})


def test_a_url_of_a_store_that_names_no_store_is_refused_without_its_password():
    with pytest.raises(SettingError, match="TRIREME_REDIS_URL must begin with one of redis://") as raised:
        read_settings({"TRIREME_REDIS_URL": "http://:secret@host"})
    assert "secret" not in str(raised.value)
    assert read_settings({"TRIREME_CACHE_URL": "valkey://host:1/0"}).cache_url == "valkey://host:1/0"
    assert "secret" not in repr(read_settings({"TRIREME_REDIS_URL": "redis://:secret@host"}))


@pytest.mark.parametrize("key", ["RELEASE", "MACHINE_KIND", "MACHINE"])
def test_a_name_that_becomes_a_label_has_few_kinds_of_characters(key):
    assert getattr(read_settings({f"TRIREME_{key}": "1.0+abc-2_x"}), key.lower()) == "1.0+abc-2_x"
    assert getattr(read_settings({f"TRIREME_{key}": ""}), key.lower()) == ""
    for bad in ("a b", 'a"', "-a", "a" * 65, "a\n"):
        with pytest.raises(SettingError, match=f"TRIREME_{key} must have up to 64"):
            read_settings({f"TRIREME_{key}": bad})


def test_urls_of_regions_are_pairs_and_their_passwords_are_not_quoted():
    given = "eu-west=rediss://:secret@h1:6379/0 us-east=redis://h2"
    settings = read_settings({"TRIREME_REGION_REDIS_URLS": given})
    assert read_regions(settings.region_redis_urls) == {
        "eu-west": "rediss://:secret@h1:6379/0",
        "us-east": "redis://h2",
    }
    assert "secret" not in repr(settings)
    for wrong in (
        "redis://:secret@h",
        "a=redis://:secret@h a=redis://h",
        "=redis://:secret@h",
        "a=http://:secret@h",
    ):
        with pytest.raises(SettingError, match="TRIREME_REGION_REDIS_URLS") as raised:
            read_settings({"TRIREME_REGION_REDIS_URLS": wrong})
        assert "secret" not in str(raised.value)
    with pytest.raises(SettingError, match="TRIREME_REGION_DATABASE_URLS of region a must begin with"):
        read_settings({"TRIREME_REGION_DATABASE_URLS": "a=redis://h"})
