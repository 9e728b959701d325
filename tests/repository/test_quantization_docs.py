"""What docs/quantization.md shows of --estimate is what the script prints."""

import re
import subprocess
import sys
from pathlib import Path

from trireme.quantize.recipe import SAMPLES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")


def test_the_page_shows_what_the_estimate_prints():
    section = PAGE.split("## What fits where\n", 1)[1].split("\n## ", 1)[0]
    [command] = re.findall(
        r"^    \.venv-quantize/bin/python (build/quantize_llm\.py --estimate.*)$", section, re.M
    )
    [shown] = re.findall(r"^```text\n(.*?)^```$", section, re.M | re.S)
    done = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    missing = [line for line in shown.splitlines() if line not in printed]
    assert not missing and "70B" in shown


def test_the_page_states_the_default_windows():
    stated = re.search(r"(\d+) windows for AWQ, (\d+) for GPTQ", PAGE)
    assert tuple(map(int, stated.groups())) == (SAMPLES["awq"], SAMPLES["gptq"])
