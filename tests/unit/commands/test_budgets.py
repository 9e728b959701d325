"""`trireme budgets`, over a store of caps in memory."""

import argparse
from io import StringIO

import pytest
from rich.console import Console

import trireme.storage
from fakes.memory_caps import MemoryCaps
from trireme.budget.caps import EACH, MOST, Cap
from trireme.budget.port import Counter
from trireme.cli import main
from trireme.commands.budgets import add_budgets
from trireme.errors import UnavailableError
from trireme.settings import read_settings


@pytest.fixture
def store(monkeypatch):
    made = MemoryCaps()
    monkeypatch.setattr(trireme.storage, "open_caps", lambda url: made)
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://u:password@h/db")
    monkeypatch.setenv("COLUMNS", "200")
    return made


def budgets(*arguments):
    return main(["budgets", *arguments])


@pytest.mark.parametrize(
    ("arguments", "cap", "said"),
    [
        (
            ["--window", "month", "--dollars", "100"],
            Cap("", "", "month", nanos=100_000_000_000),
            "Budget of the whole gateway: $100.00 a month.",
        ),
        (
            ["--tenant", "acme", "--window", "day", "--tokens", "100000", "--dollars", "2.5"],
            Cap("acme", "", "day", 100_000, 2_500_000_000),
            "Budget of tenant acme: 100,000 tokens and $2.50 a day.",
        ),
        (
            ["--tenant", "acme", "--user", "[red]ann", "--window", "minute", "--tokens", "0"],
            Cap("acme", "[red]ann", "minute", 0),
            "Budget of tenant acme, user [red]ann: 0 tokens a minute.",
        ),
        (
            ["--each-tenant", "--window", "day", "--tokens", str(MOST)],
            Cap(EACH, "", "day", MOST),
            f"Budget of each tenant: {MOST:,} tokens a day.",
        ),
        (
            ["--each-tenant", "--each-user", "--window", "day", "--dollars", "0.000000001"],
            Cap(EACH, EACH, "day", nanos=1),
            "Budget of each tenant, each user: $0.000000001 a day.",
        ),
    ],
)
def test_a_budget_is_set_for_whom_it_says_and_told(store, capsys, arguments, cap, said):
    assert budgets("set", *arguments) == 0
    assert capsys.readouterr().out == said + "\n"
    assert store.find() == [cap]


def test_the_tenant_of_the_settings_is_not_meant(store, monkeypatch):
    monkeypatch.setenv("TRIREME_TENANT", "ours")
    assert budgets("set", "--window", "day", "--tokens", "5") == 0
    assert store.find() == [Cap("", "", "day", 5)]


def test_a_unit_that_is_not_given_stays_and_one_of_none_goes(store, capsys):
    scope = ("--tenant", "acme", "--window", "day")
    budgets("set", *scope, "--tokens", "5")
    budgets("set", *scope, "--dollars", "1")
    assert store.find() == [Cap("acme", "", "day", 5, 1_000_000_000)]
    budgets("set", *scope, "--tokens", "none")
    assert store.find() == [Cap("acme", "", "day", None, 1_000_000_000)]
    capsys.readouterr()
    assert budgets("set", *scope, "--dollars", "none") == 0
    assert capsys.readouterr().out == "Budget of tenant acme: no limit a day.\n"
    assert store.find() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --tokens, --dollars or both"),
        (["--tokens", "1.5"], "--tokens must be a whole number"),
        (["--tokens", "-1"], "--tokens must be a whole number"),
        (["--tokens", "1e6"], "--tokens must be a whole number"),
        (["--tokens", str(MOST + 1)], f"up to {MOST}"),
        (["--tokens", "9" * 5000], f"up to {MOST}"),
        (["--tokens", ""], "--tokens must be a whole number"),
        (["--dollars", "0.0000000001"], "--dollars must be a decimal number with at most 9 digits"),
        (["--dollars", "$5"], "--dollars must be a decimal number"),
        (["--dollars", ""], "--dollars must be a decimal number"),
        (["--dollars", "9007199.254740992"], "--dollars must be at most 9007199.254740991"),
        (["--tokens", "none"], "a budget needs a limit"),
        (["--tokens", "1", "--user", "ann"], "give --tenant or --each-tenant as well"),
        (["--tokens", "1", "--each-user"], "give --tenant or --each-tenant as well"),
        (["--tokens", "1", "--tenant", ""], "--tenant is empty"),
        (["--tokens", "1", "--tenant", "a", "--user", ""], "--user is empty"),
        (["--tokens", "1", "--tenant", "a", "--user", "a\tb"], "the user holds a control character"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name_and_nothing_changes(store, capsys, arguments, words):
    assert budgets("set", "--window", "day", *arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert store.find() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "--tokens", "1"],
        ["set", "--window", "week", "--tokens", "1"],
        ["set", "--window", "day", "--tenant", "a", "--each-tenant", "--tokens", "1"],
        ["set", "--window", "day", "--tenant", "a", "--user", "u", "--each-user", "--tokens", "1"],
        ["remove", "--tenant", "a"],
        [],
    ],
)
def test_a_command_that_is_not_whole_is_refused(store, arguments):
    with pytest.raises(SystemExit):
        budgets(*arguments)


def test_a_removed_budget_is_gone_and_one_that_is_not_there_is_told(store, capsys):
    for cap in (Cap("", "", "day", 1), Cap("acme", "", "day", 2), Cap("acme", "ann", "day", 3)):
        store.put(cap)
    assert budgets("remove", "--tenant", "acme", "--window", "day") == 0
    assert capsys.readouterr().out == "Removed the budget by day of tenant acme.\n"
    assert [cap.tokens for cap in store.find()] == [1, 3]
    assert budgets("remove", "--tenant", "acme", "--window", "day") == 1
    assert "tenant acme has no budget by day; trireme budgets list" in capsys.readouterr().err
    assert budgets("remove", "--window", "month") == 1
    assert "the whole gateway has no budget by month" in capsys.readouterr().err
    assert budgets("remove", "--window", "day") == 0
    assert [cap.tokens for cap in store.find()] == [3]


def rows_of(text):
    """The cells of each line."""
    return [line.split() for line in text.splitlines()]


def fill(store):
    store.put(Cap("", "", "month", nanos=5_000_000_000))
    store.put(Cap(EACH, "", "day", 1_000))
    store.put(Cap("acme", "", "minute", 50, 1))
    store.put(Cap("acme", "ann", "day", 20))


def test_the_list_shows_every_budget_as_it_was_set(store, capsys):
    fill(store)
    assert budgets("list") == 0
    assert rows_of(capsys.readouterr().out) == [
        ["tenant", "user", "window", "tokens", "dollars"],
        ["the", "gateway", "month", "5.00"],
        ["each", "day", "1,000"],
        ["acme", "minute", "50", "0.000000001"],
        ["acme", "ann", "day", "20"],
    ]


def test_the_list_of_one_tenant_shows_what_is_in_force_for_it(store, capsys):
    fill(store)
    assert budgets("list", "--tenant", "acme") == 0
    assert rows_of(capsys.readouterr().out)[1:] == [
        ["acme", "minute", "50", "0.000000001"],
        ["acme", "day", "1,000"],
        ["acme", "ann", "day", "20"],
    ]
    assert budgets("list", "--tenant", "") == 1


def test_a_list_of_nothing_says_how_to_set_one(store, capsys):
    assert budgets("list") == 0
    assert "trireme budgets set" in capsys.readouterr().out


class Budgets:
    """A budget store of fixed counters, or one that is away."""

    def __init__(self, *, is_away=False):
        self.is_away = is_away
        self.is_closed = False

    async def read(self, tenant, user):
        if self.is_away:
            raise UnavailableError("redis does not answer; start it")
        level = "user" if user else "tenant" if tenant else "gateway"
        return [Counter(level, window, 0, 7_000, 8, 9, 0) for window in ("minute", "day")]

    async def close(self):
        self.is_closed = True


def list_over(opened, *more):
    """What the list prints over a budget store."""
    parser = argparse.ArgumentParser()
    add_budgets(parser.add_subparsers(), lambda settings: opened)
    arguments = parser.parse_args(["budgets", "list", *more])
    console = Console(file=StringIO(), width=200)
    assert arguments.run(arguments, read_settings(), console) == 0
    return console.file.getvalue()


def test_the_list_has_what_is_spent_and_held_where_a_store_knows(store):
    fill(store)
    opened = Budgets()
    assert rows_of(list_over(opened)) == [
        ["tenant", "user", "window", "tokens", "spent", "held", "dollars", "spent", "held"],
        ["the", "gateway", "month", "5.00"],
        ["each", "day", "1,000"],
        ["acme", "minute", "50", "7,000", "8", "0.000000001", "0.000000009", "0.00"],
        ["acme", "ann", "day", "20", "7,000", "8", "0.000000009", "0.00"],
    ]
    assert opened.is_closed


def test_a_forecast_says_what_is_used_and_until_when(store, capsys):
    fill(store)
    store.put(Cap("other", "", "day", 10_000))
    # The counters' windows began in 1970, so they are over.
    assert rows_of(list_over(Budgets(), "--forecast"))[-4:] == [
        ["tenant", "user", "window", "unit", "used", "at", "its", "end", "used", "up"],
        ["acme", "minute", "tokens", "14000.0%", "7,000", "1970-01-01T00:01:00Z"],
        ["acme", "ann", "day", "tokens", "35000.0%", "7,000", "1970-01-02T00:00:00Z"],
        ["other", "day", "tokens", "70.0%", "7,000", "lasts"],
    ]
    assert "used up" not in list_over(None, "--forecast")
    assert "TRIREME_REDIS_URL" in capsys.readouterr().err


def test_a_store_that_is_away_leaves_the_budgets_and_a_note(store, capsys):
    fill(store)
    opened = Budgets(is_away=True)
    assert "spent" not in list_over(opened)
    assert "is not known: redis does not answer; start it" in capsys.readouterr().err
    assert opened.is_closed


def test_without_a_database_it_says_how_to_start_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRIREME_DATA_DIR", str(tmp_path))
    for verb in (["set", "--window", "day", "--tokens", "1"], ["list"], ["remove", "--window", "day"]):
        assert budgets(*verb) == 1
        assert "make serve" in capsys.readouterr().err


HOME = '[local]\nregion = "us"\nother_regions = ["eu"]\n[tenants.acme]\nhome = "eu"\n'


@pytest.mark.parametrize(
    "arguments",
    [
        ["budgets", "set", "--tenant", "acme", "--window", "day", "--tokens", "1"],
        ["budgets", "remove", "--tenant", "acme", "--window", "day"],
        ["budgets", "list", "--tenant", "acme"],
        ["usage", "--tenant", "acme"],
        ["usage", "export", "--tenant", "acme", "--out", "usage.csv"],
        ["cost", "--tenant", "acme"],
    ],
)
def test_of_a_tenant_whose_home_is_elsewhere_nothing_is_set_or_read_here(
    store, monkeypatch, tmp_path, capsys, arguments
):
    (tmp_path / "gateway.toml").write_text(HOME)
    monkeypatch.setenv("TRIREME_GATEWAY_FILE", str(tmp_path / "gateway.toml"))
    assert main(arguments) == 1
    assert "kept in region eu; ask there" in capsys.readouterr().err
    assert store.find() == []
