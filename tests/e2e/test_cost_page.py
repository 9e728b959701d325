"""Every block of docs/cost.md runs in order, on the test's ports."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from blocks import Reader, blocks_of
from stacks import ROOT

from trireme.storage import open_caps

PAGE = ROOT / "docs" / "cost.md"


@pytest.fixture
def reader(settings, gateway):
    """A reader whose budgets and files are gone afterwards."""
    yield Reader(settings, gateway)
    with closing(open_caps(gateway.environ["TRIREME_DATABASE_URL"])) as caps:
        for cap in caps.find():
            caps.put(replace(cap, tokens=None, nanos=None))
    Path("/tmp/trireme-usage.csv").unlink(missing_ok=True)


def test_every_block_of_the_page_of_cost_runs(reader):
    said = [reader.run_script(script) for script in blocks_of(PAGE, "sh")]
    assert len(said) == 6
    commands, over_http, request, releases, budgets, export = said
    assert "Bill: $" in commands
    assert '"unexplained_dollars": "0.00"' in commands
    cost, listed, _ = (json.loads(line) for line in over_http.replace("}{", "}\n{").splitlines())
    assert cost["object"] == "cost"
    assert json.loads(request)["attempts"][0]["served"] == "local:embedding"
    assert json.loads(request)["is_priced"] is False
    # The gateway noted itself when it started.
    assert listed["data"][0]["deployed"]
    # The list folds long texts.
    assert set(["rag", "with", "a", "shorter", "prompt"]) <= set(releases.split())
    assert "each success, dollars" in releases
    assert "$500.00 a month" in budgets
    assert "rows to /tmp/trireme-usage.csv" in export
