"""The first keys: made once, for whom they are shown to, and seen nowhere else."""

import os
import pty
import re
import socket
from io import StringIO

import pytest
from rich.console import Console

import trireme.storage
from fakes.memory_keys import MemoryKeys
from trireme.access.endpoints import ENDPOINTS
from trireme.access.keys import digest_of
from trireme.commands.first_keys import NONE, FirstKeys, announce_console, is_kept, make_first_keys
from trireme.settings import Settings

SETTINGS = Settings(tenant="ours", gateway_port=9080)


@pytest.fixture
def store(monkeypatch):
    made = MemoryKeys()
    monkeypatch.setattr(trireme.storage, "open_keys", lambda url: made)
    return made


def test_a_database_without_keys_gets_one_for_applications_and_one_of_an_admin(store):
    made = make_first_keys(SETTINGS, "url", has_admin=True)
    keys = store.read(-1).keys
    app, admin = keys[digest_of(made.app)], keys[digest_of(made.admin)]
    assert len(keys) == 2
    assert (app.tenant, app.endpoints) == ("ours", ())
    assert (admin.tenant, admin.endpoints) == ("ours", tuple(ENDPOINTS))
    assert make_first_keys(SETTINGS, "url", has_admin=True) == NONE


def test_where_no_admins_secret_may_be_shown_none_is_made(store):
    made = make_first_keys(SETTINGS, "url", has_admin=False)
    assert made.admin == ""
    (key,) = store.find()
    assert key.endpoints == ()


def test_a_database_whose_keys_are_all_revoked_has_had_some(store):
    make_first_keys(SETTINGS, "url", has_admin=True)
    store.revoke([key.id for key in store.find()])
    assert make_first_keys(SETTINGS, "url", has_admin=True) == NONE


def test_secrets_are_in_no_representation():
    assert "tr-" not in repr(FirstKeys("tr-app", "tr-admin"))


def said(admin, *, is_on=True):
    out = StringIO()
    announce_console(SETTINGS, admin, Console(file=out, width=20), is_on=is_on)
    return out.getvalue().splitlines()


def test_the_link_is_whole_on_one_line_and_its_secret_is_behind_the_mark():
    secret = "tr-" + "x" * 43
    assert said(secret)[0] == f"Console: http://127.0.0.1:9080/console/#key={secret}"


def test_later_the_address_is_told_and_how_to_make_a_key():
    address, how = said("")
    assert address == "Console: http://127.0.0.1:9080/console/"
    assert "trireme keys create --admin" in how
    assert not re.search("tr-", address + how)


def test_where_the_console_is_off_no_address_is_told():
    assert said("", is_on=False) == []
    assert said("tr-x", is_on=False) == ["A key of an admin, shown this once: tr-x"]


def test_what_goes_into_a_file_or_the_journal_is_kept_and_what_a_person_reads_is_not(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert is_kept(file, {})
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe, os.fdopen(reader):
        assert not is_kept(pipe, {})
        assert is_kept(pipe, {"JOURNAL_STREAM": "8:1"})
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, os.fdopen(master, "rb"):
        assert not is_kept(terminal, {})
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w") as connection:
        assert not is_kept(connection, {})
    assert not is_kept(StringIO(), {})
