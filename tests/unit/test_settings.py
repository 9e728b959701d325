from pathlib import Path

import pytest

from trireme.errors import SettingError
from trireme.settings import Settings, environment, read_settings


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


def test_a_child_process_gets_the_same_settings():
    given = Settings(
        http_port=9000, database_url="postgresql://h/db", collection="notes", data_dir=Path("/data")
    )
    assert read_settings(environment(given)) == given
    assert read_settings(environment(Settings())) == Settings()


@pytest.mark.parametrize("raw", ["yes", "1", "", "ON"])
def test_a_switch_is_on_or_off(raw):
    with pytest.raises(SettingError, match="TRIREME_SHARED_MEMORY must be on or off"):
        read_settings({"TRIREME_SHARED_MEMORY": raw})
    assert read_settings({"TRIREME_SHARED_MEMORY": "on"}).shared_memory == "on"
