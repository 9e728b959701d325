"""The socket and the settings that gateway and agent share."""

import socket
from contextlib import closing

import pytest

from trireme.errors import SettingError
from trireme.http_server import listen, new_config


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_named_with_their_settings():
    with closing(listen("127.0.0.1", 0, port_setting="--port", host_setting="--host")) as taken:
        port = taken.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            pass
        with pytest.raises(SettingError, match=f"port {port} of 127.0.0.1 is in use; set --port"):
            listen("127.0.0.1", port, port_setting="--port", host_setting="--host")
    with pytest.raises(SettingError, match=r"cannot be bound .*; set --host"):
        listen("192.0.2.1", 0, port_setting="--port", host_setting="--host")


def test_no_server_of_ours_says_what_it_is_or_believes_what_a_header_says_of_its_client():
    config = new_config(lambda: None, lifespan="off")
    assert (config.server_header, config.proxy_headers, config.access_log) == (False, False, False)
    assert config.ws == "none" and config.lifespan == "off"
