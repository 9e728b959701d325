"""`trireme usage`, over a ledger in memory."""

import json
from datetime import UTC, datetime

import pytest

import trireme.storage
from fakes.memory_ledger import MemoryLedger
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.cli import main

ROWS = (
    # Attempt, request, tenant, user, served, nanos, what a hit spared.
    ("a1", "r1", "acme", "ann", "openai:small", 1_500_000_000, 0),
    ("a2", "r1", "acme", "ann", "local:llm", 0, 0),
    ("a3", "r2", "acme", "bob", "openai:small", 0, 250_000_000),
    ("a4", "r3", "other", "ann", "openai:[big]", 3_000_000_000, 0),
)


@pytest.fixture
def ledger(monkeypatch):
    made = MemoryLedger()
    monkeypatch.setattr(trireme.storage, "open_ledger", lambda url: made)
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://u:password@h/db")
    monkeypatch.setenv("COLUMNS", "200")
    at = int(datetime(2026, 11, 2, 3, 4, tzinfo=UTC).timestamp() * 1000)
    for n, (attempt, request, tenant, user, served, nanos, saved) in enumerate(ROWS):
        row = LedgerRow(
            *(attempt, request, tenant, user, "k", "chat", "p", "m", served, at + n * 86_400_000),
            input_tokens=1_000,
            cached_tokens=10,
            output_tokens=n,
            nanos=nanos,
            saved_nanos=saved,
        )
        made.record([Recorded(row)])
    return made


PERIOD = ("--since", "2026-11-01", "--until", "2026-12-01")


def usage(capsys, *arguments):
    """The cells of each line that is printed."""
    assert main(["usage", *PERIOD, *arguments]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_usage_is_a_line_for_each_day_and_one_of_all(ledger, capsys):
    assert usage(capsys) == [
        ["day", "requests", "attempts", "input", "cached", "output", "dollars", "saved"],
        ["2026-11-02", "1", "1", "1,000", "10", "0", "1.50", "0.00"],
        ["2026-11-03", "1", "1", "1,000", "10", "1", "0.00", "0.00"],
        ["2026-11-04", "1", "1", "1,000", "10", "2", "0.00", "0.25"],
        ["2026-11-05", "1", "1", "1,000", "10", "3", "3.00", "0.00"],
        # A request of two days is one.
        ["total", "3", "4", "4,000", "40", "6", "4.50", "0.25"],
    ]


def test_usage_of_one_tenant_and_user_has_no_other_ones(ledger, capsys):
    assert usage(capsys, "--tenant", "acme", "--by", "user")[1:] == [
        ["ann", "1", "2", "2,000", "20", "1", "1.50", "0.00"],
        ["bob", "1", "1", "1,000", "10", "2", "0.00", "0.25"],
        ["total", "2", "3", "3,000", "30", "3", "1.50", "0.25"],
    ]
    assert usage(capsys, "--tenant", "acme", "--user", "bob", "--by", "tenant")[1][:3] == ["acme", "1", "1"]


def test_a_name_is_shown_as_it_is_and_none_as_such(ledger, capsys):
    assert [row[0] for row in usage(capsys, "--by", "model")] == [
        "model",
        "openai:[big]",
        "openai:small",
        "local:llm",
        "total",
    ]
    assert [row[0] for row in usage(capsys, "--by", "tier")] == ["tier", "none", "total"]


def test_nothing_used_is_a_total_of_nothing(ledger, capsys):
    assert usage(capsys, "--tenant", "nobody")[1:] == [["total", "0", "0", "0", "0", "0", "0.00", "0.00"]]


def test_json_is_what_the_endpoint_answers(ledger, capsys):
    assert main(["usage", *PERIOD, "--tenant", "acme", "--by", "month", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body == {
        "object": "usage",
        "by": "month",
        "tenant": "acme",
        "user": None,
        "since": "2026-11-01T00:00:00Z",
        "until": "2026-12-01T00:00:00Z",
        "data": [
            {
                "name": "2026-11",
                "requests": 2,
                "attempts": 3,
                "input_tokens": 3000,
                "cached_tokens": 30,
                "output_tokens": 3,
                "dollars": "1.50",
                "saved_dollars": "0.25",
            }
        ],
        "total": body["data"][0] | {"name": "total"},
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], "since must be a time such as"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], "since must be before until"),
        (["--user", "ann"], "give --tenant as well"),
        (["--tenant", ""], "--tenant is empty"),
        (["--tenant", "acme", "--user", ""], "--user is empty"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(ledger, capsys, arguments, words):
    assert main(["usage", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err


def test_a_group_that_nobody_knows_is_refused(ledger):
    with pytest.raises(SystemExit):
        main(["usage", "--by", "key"])


def test_without_a_database_it_says_how_to_start_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRIREME_DATA_DIR", str(tmp_path))
    assert main(["usage"]) == 1
    assert "make serve" in capsys.readouterr().err
