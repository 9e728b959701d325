"""What a stack whose supervisor was killed has left running."""

from __future__ import annotations

from pathlib import Path

from trireme.triton.server import end_leftover

ENVOY_NAME = "envoy"


def envoy_note(data_dir: Path) -> Path:
    """Where the process id of a fleet's Envoy is kept."""
    return data_dir / "fleet" / "envoy.pid"


def end_leftovers(data_dir: Path) -> None:
    """Ends the servers and the Envoy of such a stack, of whatever size. Blocks until they are gone.

    Agents, worker and gateway end by themselves.
    """
    end_leftover(envoy_note(data_dir), ENVOY_NAME)
    for note in (data_dir / "tritonserver.pid", *data_dir.glob("replicas/*/tritonserver.pid")):
        end_leftover(note)
        note.unlink(missing_ok=True)
