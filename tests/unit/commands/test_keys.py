"""`trireme keys`, over a key store in memory."""

import pytest

import trireme.storage
from fakes.memory_keys import MemoryKeys
from trireme.access.endpoints import ENDPOINTS, can_use
from trireme.access.keys import KeyQuery, digest_of
from trireme.cli import main

TWO_TENANTS = (["--tenant", "acme", "--user", "ann"], ["--tenant", "other", "--endpoint", "chat"])


@pytest.fixture
def store(monkeypatch):
    made = MemoryKeys()
    monkeypatch.setattr(trireme.storage, "open_keys", lambda url: made)
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://u:password@h/db")
    monkeypatch.setenv("COLUMNS", "250")
    return made


def create(capsys, *arguments):
    """The secret that is printed, and the notes."""
    assert main(["keys", "create", *arguments]) == 0
    return capsys.readouterr()


def test_the_output_is_the_secret_alone_and_the_notes_are_beside_it(store, capsys):
    printed = create(capsys, "--tenant", "acme", "--user", "ann")
    (key,) = store.read(-1).keys.values()
    assert store.read(-1).keys == {digest_of(printed.out.removesuffix("\n")): key}
    assert (key.tenant, key.user) == ("acme", "ann")
    assert printed.err == f"Key {key.id} of tenant acme, user ann. It is shown this once:\n"


def test_a_quiet_one_says_nothing_beside_the_secret(store, capsys):
    assert create(capsys, "--quiet").err == ""


def test_two_keys_have_two_secrets(store, capsys):
    assert create(capsys).out != create(capsys).out
    assert len(store.read(-1).keys) == 2


def test_without_a_tenant_it_is_the_settings_and_nothing_is_limited(store, capsys, monkeypatch):
    monkeypatch.setenv("TRIREME_TENANT", "ours")
    create(capsys)
    (key,) = store.find()
    assert (key.tenant, key.user, key.models, key.collections, key.endpoints) == ("ours", "", (), (), ())
    assert key.requests_per_minute == 0


def test_what_limits_a_key_is_kept_in_order_and_once(store, capsys):
    create(
        capsys,
        *("--model", "llm", "--model", "rag", "--model", "llm"),
        *("--collection", "a b", "--collection", "c"),
        *("--endpoint", "search", "--endpoint", "chat"),
        *("--requests-per-minute", "60"),
    )
    (key,) = store.find()
    assert key.models == ("llm", "rag")
    assert key.collections == ("a b", "c")
    assert key.endpoints == ("search", "chat")
    assert key.requests_per_minute == 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--endpoint", "chats"], "no endpoint 'chats'; endpoints are chat, completions"),
        (["--model", ""], "name among models must have 1 to 512 bytes"),
        (["--collection", ""], "name among collections must have"),
        (["--endpoint", ""], "name among endpoints must have"),
        (["--tenant", ""], "--tenant is empty"),
        (["--user", ""], "--user is empty"),
        (["--user", "a\tb"], "the user holds a control character"),
        (["--requests-per-minute", "-1"], "requests_per_minute must be from 0"),
    ],
)
def test_a_key_that_cannot_be_kept_is_refused_by_name_and_none_is_made(store, capsys, arguments, words):
    assert main(["keys", "create", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert store.find() == []


def test_the_list_shows_every_key_and_no_secret(store, capsys):
    secrets = [create(capsys, *arguments).out.strip() for arguments in TWO_TENANTS]
    store.revoke([store.find(KeyQuery("acme"))[0].id])
    assert main(["keys", "list"]) == 0
    printed = capsys.readouterr().out
    acme, other = (next(row for row in printed.splitlines() if name in row) for name in ("acme", "other"))
    assert "ann" in acme
    assert acme.rstrip().endswith("revoked")
    assert "chat" in other
    assert other.rstrip().endswith("in force")
    for secret in secrets:
        assert secret not in printed
        assert digest_of(secret) not in printed


def test_the_list_of_one_tenant_has_no_other_ones_keys(store, capsys):
    for arguments in TWO_TENANTS:
        create(capsys, *arguments)
    assert main(["keys", "list", "--tenant", "acme"]) == 0
    printed = capsys.readouterr().out
    assert "ann" in printed
    assert "other" not in printed
    assert main(["keys", "list", "--tenant", ""]) == 1
    assert "--tenant is empty" in capsys.readouterr().err


def test_a_list_of_nothing_says_how_to_make_a_key(store, capsys):
    assert main(["keys", "list"]) == 0
    assert "trireme keys create" in capsys.readouterr().out


def test_revoking_names_what_was_not_in_force_and_revokes_the_others(store, capsys):
    for arguments in TWO_TENANTS:
        create(capsys, *arguments)
    first, second = (key.id for key in store.find())
    assert main(["keys", "revoke", first]) == 0
    assert capsys.readouterr().out == f"Revoked {first}.\n"
    assert main(["keys", "revoke", first, second, "key_none"]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"Revoked {second}.\n"
    assert f"no key in force: {first}, key_none" in printed.err
    assert store.read(-1).keys == {}


def test_without_a_database_it_says_how_to_start_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRIREME_DATA_DIR", str(tmp_path))
    for verb in (["create"], ["list"], ["revoke", "key_a"]):
        assert main(["keys", *verb]) == 1
        assert "make serve" in capsys.readouterr().err


def test_a_key_has_the_priority_that_it_is_made_with_and_the_list_says_it(store, capsys):
    create(capsys, "--priority", "batch")
    create(capsys)
    assert sorted(key.priority for key in store.find()) == ["batch", "normal"]
    assert main(["keys", "list"]) == 0
    assert "batch" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["keys", "create", "--priority", "urgent"])


def test_an_admins_key_may_use_every_endpoint(store, capsys):
    create(capsys, "--admin")
    (key,) = store.find()
    assert key.endpoints == tuple(ENDPOINTS)
    assert all(can_use(key.endpoints, name) for name in ENDPOINTS)


def test_admin_and_single_endpoints_exclude_each_other(store, capsys):
    assert main(["keys", "create", "--admin", "--endpoint", "chat"]) == 1
    assert "leave --endpoint out" in capsys.readouterr().err
    assert store.find() == []
