"""Every block of docs/degradation.md runs, on the test's ports."""

from blocks import Reader, blocks_of
from stacks import ROOT

PAGE = ROOT / "docs" / "degradation.md"


def test_every_block_of_the_page_of_degradation_runs(settings, gateway):
    [script] = blocks_of(PAGE, "sh")
    said = Reader(settings, gateway).run_script(script)
    assert said.startswith("HTTP/1.1 200")
    assert '"passages"' in said
    # Nothing waits, and the gateway has no policy.
    assert "x-trireme-degraded" not in said
