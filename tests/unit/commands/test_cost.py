"""`trireme cost`, `trireme release` and `trireme usage export`, over stores in memory."""

import csv
import json
import os
import threading
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

import trireme.storage
from fakes.memory_costs import MemoryCosts, MemoryReleases
from fakes.memory_ledger import MemoryLedger
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.cli import main
from trireme.cost.port import Beat
from trireme.cost.releases import Deploy

FILE = """
[providers.openai]
kind = "openai"

[[machines.gpu]]
dollars_per_hour = 3.5
"""
NOON = round(datetime(2026, 11, 9, 12, tzinfo=UTC).timestamp() * 1000)
PERIOD = ("--since", "2026-11-01", "--until", "2026-12-01")


@pytest.fixture
def world(monkeypatch, tmp_path):
    """A book and a log, with two hours of a machine and three requests in them."""
    (tmp_path / "gateway.toml").write_text(FILE)
    book, log = MemoryCosts(MemoryLedger()), MemoryReleases(lambda: NOON)
    monkeypatch.setattr(trireme.storage, "open_costs", lambda url: book)
    monkeypatch.setattr(trireme.storage, "open_releases", lambda url: log)
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://u:password@h/db")
    monkeypatch.setenv("TRIREME_GATEWAY_FILE", str(tmp_path / "gateway.toml"))
    monkeypatch.setenv("COLUMNS", "200")
    rows = (
        ("local:llm", {"nanos": 2_000_000_000, "output_tokens": 1_000, "release": "v1", "total_ms": 40}),
        ("openai:gpt", {"nanos": 1_000_000_000, "input_tokens": 10, "release": "v2", "total_ms": 900}),
        ("openai:gpt", {"outcome": "unavailable", "release": "v2"}),
        ("openai:gpt", {"tier": "exact", "saved_nanos": 5, "release": "v2"}),
    )
    for n, (served, more) in enumerate(rows):
        fields = {"at": NOON, "outcome": "ok", **more}
        row = LedgerRow(
            *(f"a{n}", f"r{n}", "acme", "ann", "k", "chat", served.split(":")[0], "m", served), **fields
        )
        book._ledger.record([Recorded(row)])
    for minute in range(121):
        book.beat(Beat("m", "gpu", "v1", NOON + minute * 60_000))
    return log


def run(capsys, *arguments):
    """The cells of each line that is printed."""
    assert main(list(arguments)) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_cost_is_a_line_for_each_model_with_what_machines_cost_beside(world, capsys):
    assert run(capsys, "cost", *PERIOD) == [
        [
            "model",
            "requests",
            "succeeded",
            "failed",
            "tokens",
            "used",
            "idle",
            "paid",
            "each",
            "success",
            "saved",
        ],
        ["local:llm", "1", "1", "0", "1,000", "2.00", "2.00", "0.00"],
        ["openai:gpt", "3", "2", "1", "10", "1.00", "0.50", "0.000000005"],
        ["total", "4", "3", "1", "1,010", "3.00", "5.00", "8.00", "2.666666667", "0.000000005"],
        [],
        ["machines", "hours", "dollars"],
        ["gpu", "2.00", "7.00"],
        [],
        ["Bill:", "$8.00."],
    ]


def test_cost_by_release_has_what_was_idle_of_each(world, capsys):
    lines = run(capsys, "cost", *PERIOD, "--by", "release")
    assert lines[1] == ["v1", "1", "1", "0", "1,000", "2.00", "5.00", "7.00", "7.00", "0.00"]
    # It has no machine of its own.
    assert lines[2][5:8] == ["1.00", "0.00", "1.00"]


def test_the_cost_of_a_tenant_has_no_machines(world, capsys):
    lines = run(capsys, "cost", *PERIOD, "--tenant", "acme")
    assert "idle" not in lines[0]
    assert lines[-1] == ["Bill:", "$3.00."]
    assert len(lines) == 6


def test_json_is_what_the_endpoint_answers(world, capsys):
    assert main(["cost", *PERIOD, "--by", "day", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["object"], body["by"], body["bill_dollars"]) == ("cost", "day", "8.00")
    assert [one["name"] for one in body["data"]] == ["2026-11-09"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cost", "--since", "soon"], "since must be a time"),
        (["cost", "--user", "ann"], "give --tenant as well"),
        (["cost", "--tenant", ""], "--tenant is empty"),
        (["release", "note", " "], "a note has 1 to"),
        (["release", "note", "text"], "no release was deployed yet"),
        (["release", "note", "no UTF-8: \udcff"], "text is not valid UTF-8"),
        (["release", "compare", "v1", "\udcff"], "releases is not valid UTF-8"),
        (["cost", "--tenant", "\udcff"], "tenant is not valid UTF-8"),
        (["cost", "--until", "9999-12-31T23:59-12:00"], "until must be a time"),
        (["usage", "export", "--out", ""], "is a folder"),
        (["usage", "export", "--out", "/"], "is a folder"),
        (["usage", "export", "--out", "/dev/full"], "/dev/full cannot be written: No space left on device"),
        (["release", "compare", "v7"], "no release 'v7'"),
        (["usage", "export", "--out", "/nowhere/x.csv"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(world, capsys, arguments, words):
    assert main(arguments) == 1
    assert words in capsys.readouterr().err


@pytest.fixture
def deployed(world):
    same = {"digest": "a", "figures": {"cosine": 0.999}, "quality": {}}
    for name, recall in (("v1", 0.91), ("v2", 0.93)):
        models = {"llm": {"digest": name, "figures": {"recall": recall}, "quality": {}}, "embedding": same}
        world.deploy(Deploy(0, name, "0.1", name[1] * 40, models))
    return world


def test_releases_are_listed_with_their_notes(deployed, capsys):
    assert run(capsys, "release", "note", "a better prompt") == [["Noted", "of", "release", "v2."]]
    assert run(capsys, "release", "note", "--release", "v1", "the first") == [
        ["Noted", "of", "release", "v1."]
    ]
    assert run(capsys, "release", "list")[1:] == [
        ["v2", "0.1", "222222222", "2026-11-09T12:00:00Z", "2", "a", "better", "prompt"],
        ["v1", "0.1", "111111111", "2026-11-09T12:00:00Z", "2", "the", "first"],
    ]


def test_releases_are_compared_in_cost_latency_errors_and_quality(deployed, capsys):
    lines = {tuple(line[:-2]): line[-2:] for line in run(capsys, "release", "compare", *PERIOD, "v1", "v2")}
    assert lines["errors",] == ["0.00%", "33.33%"]
    assert lines["answer", "p95,", "ms"] == ["40", "900"]
    assert lines["machine", "hours"] == ["2.00", "0.00"]
    assert lines["paid,", "dollars"] == ["7.00", "1.00"]
    assert lines["each", "success,", "dollars"] == ["7.00", "0.50"]
    assert lines["llm:", "recall"] == ["0.9100", "0.9300"]
    # What is the same in both is left out.
    assert not any("embedding:" in name for name in lines)


def test_the_last_two_releases_are_compared_where_none_is_named(deployed, capsys):
    deployed.deploy(Deploy(0, "v3", "0.2", "", {}))
    assert run(capsys, "release", "compare", *PERIOD)[0] == ["v3", "v2"]


def test_a_comparison_as_json_is_what_the_endpoint_answers(deployed, capsys):
    assert main(["release", "compare", *PERIOD, "v1", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["cost"]["requests"]) for one in body["data"]] == [("v1", 1)]


def test_without_a_deploy_it_says_who_notes_one(world, capsys):
    for verb in ("list", "compare"):
        assert main(["release", verb]) == 0
        assert "a gateway notes its own when it starts" in capsys.readouterr().out


def test_usage_is_exported_whole_in_place_of_what_was_there(world, capsys, tmp_path):
    out = tmp_path / "usage.csv"
    out.write_text("old")
    assert main(["usage", "export", *PERIOD, "--out", str(out)]) == 0
    assert capsys.readouterr().out == (
        f"Wrote 5 rows to {out}: billed $8.00, of which $5.00 idle; caches saved $0.000000005.\n"
    )
    rows = list(csv.DictReader(StringIO(out.read_text())))
    assert len(rows) == 5
    assert sum(float(row["BilledCost"]) for row in rows) == 8.0
    assert [one.name for one in tmp_path.iterdir() if "usage" in one.name] == ["usage.csv"]


def test_an_export_that_breaks_off_leaves_the_file_before(world, capsys, tmp_path, monkeypatch):
    from trireme.cost import focus

    out = tmp_path / "usage.csv"
    out.write_text("old")
    monkeypatch.setattr(focus, "idle_rows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["usage", "export", *PERIOD, "--out", str(out)])
    assert out.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir() if "usage" in one.name] == ["usage.csv"]


def test_an_export_to_what_is_no_file_is_written_there_and_does_not_take_its_place(world, capsys, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert main(["usage", "export", *PERIOD, "--out", str(pipe)]) == 0
    reader.join()
    assert pipe.is_fifo()
    assert len(list(csv.DictReader(StringIO(read[0])))) == 5


def test_an_export_follows_a_link(world, capsys, tmp_path):
    out, link = tmp_path / "usage.csv", tmp_path / "latest.csv"
    out.write_text("old")
    out.chmod(0o640)
    link.symlink_to(out)
    assert main(["usage", "export", *PERIOD, "--out", str(link)]) == 0
    assert link.is_symlink()
    # And who may read the file stays the same.
    assert out.stat().st_mode & 0o777 == 0o640
    assert len(list(csv.DictReader(StringIO(out.read_text())))) == 5


def test_an_export_is_utf_8_whatever_the_terminal_is(world, capsys, tmp_path, monkeypatch):
    row = LedgerRow("b", "b", "acme", "zoë 雨", "k", "chat", "openai", "m", "openai:gpt", NOON, nanos=1)
    trireme.storage.open_costs("")._ledger.record([Recorded(row)])
    written, opened = Path.open, []
    monkeypatch.setattr(Path, "open", lambda *a, **more: opened.append(more) or written(*a, **more))
    out = tmp_path / "usage.csv"
    assert main(["usage", "export", *PERIOD, "--out", str(out)]) == 0
    assert "zoë 雨" in out.read_bytes().decode()
    assert [more.get("encoding") for more in opened if "newline" in more] == ["utf-8"]


def test_what_stands_before_the_verb_holds_for_an_export(world, capsys, tmp_path):
    out = tmp_path / "usage.csv"
    assert main(["usage", "--tenant", "other", *PERIOD, "export", "--out", str(out)]) == 0
    assert "Wrote 0 rows" in capsys.readouterr().out
    for more in (["--tenant", "acme", "--user", "ann"], ["--json"]):
        assert main(["usage", *more, "export", "--out", str(out)]) == 1
        assert "leave out --user and --json" in capsys.readouterr().err


def test_a_name_that_a_client_made_up_cannot_steer_the_terminal(world, capsys):
    served = "openai:\x1b]0;gone\x07\x1b[2J"
    row = LedgerRow("c", "c", "acme", "ann", "k", "chat", "openai", served, served, NOON, nanos=1)
    trireme.storage.open_costs("")._ledger.record([Recorded(row)])
    run_lines = run(capsys, "cost", *PERIOD)
    assert any(line and line[0].startswith("openai:\ufffd]0;gone") for line in run_lines)
    assert not any("\x1b" in word for line in run_lines for word in line)
