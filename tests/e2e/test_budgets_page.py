"""Every block of docs/budgets.md runs in order, on the test's ports."""

from contextlib import closing
from dataclasses import replace

import pytest
from blocks import Reader, blocks_of
from stacks import ROOT

from trireme.storage import open_caps

PAGE = ROOT / "docs" / "budgets.md"


@pytest.fixture
def reader(settings, gateway):
    """A reader whose budgets are gone afterwards."""
    yield Reader(settings, gateway)
    with closing(open_caps(gateway.environ["TRIREME_DATABASE_URL"])) as caps:
        for cap in caps.find():
            caps.put(replace(cap, tokens=None, nanos=None))


def test_every_block_of_the_page_of_budgets_runs(reader):
    said = [reader.run_script(script) for script in blocks_of(PAGE, "sh")]
    assert len(said) == 3
    commands, usage, over_http = said
    assert "Budget of tenant acme: 5,000,000 tokens and $20.00 a day." in commands
    assert commands.rstrip().endswith("Removed the budget by minute of tenant acme, user ann.")
    assert "total" in usage
    assert '"object":"budget.deleted"' in over_http
    assert '"spent"' in over_http
