import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.parametrize("script", ["bench.py", "perf_analyzer.py", "quality.py", "answers.py"])
def test_a_script_tells_its_options(script):
    command = [sys.executable, str(BENCHMARKS / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert script == "perf_analyzer.py" or "--data" in done.stdout


def test_a_missing_folder_ends_with_one_sentence(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "quality.py"), "--data", str(tmp_path / "absent")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
