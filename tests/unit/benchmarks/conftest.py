import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

# The scripts import each other as they do when one of them is started.
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))
