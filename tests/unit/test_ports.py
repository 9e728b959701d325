"""Of fakes.ports: two runs of the tests on one machine."""

import subprocess
import sys
from pathlib import Path

from fakes.ports import free_ports

# Says which of the ports that it is told it could draw.
OTHER = """
import sys
from fakes import ports
print(*(port for port in map(int, sys.argv[1:]) if ports._take(port)))
"""


def drawn_by_another_run(some):
    command = [sys.executable, "-c", OTHER, *map(str, some)]
    said = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True, timeout=60
    )
    return [int(port) for port in said.stdout.split()]


def test_a_port_that_one_run_has_drawn_is_drawn_by_no_other_though_nobody_listens_there_yet():
    mine = free_ports(20)
    assert len(set(mine)) == 20
    assert drawn_by_another_run(mine) == []
    # Nor by another one after that: asking took no lock away.
    assert drawn_by_another_run(mine) == []
