"""Asks optimum-intel for a model's graph: a process of its own, in an environment of its own (make optimum-env).

That library wants older ones than the serving environment has; optimum_worker.py has what is said to it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from trireme.errors import UnavailableError, UnsupportedError

ENVIRONMENT = ".venv-optimum"
# What an error says where it is not there.
ADVICE = "; optimum-intel exports more for the CPU, in an environment of its own: make optimum-env"
TOOLS = ("optimum-intel", "optimum", "nncf", "openvino", "transformers", "torch")
WORKER = Path(__file__).with_name("optimum_worker.py")


class Optimum:
    """The environment below `project`."""

    def __init__(self, project: Path) -> None:
        # Not resolved: a virtual environment is what its link lies in.
        self._python = project.absolute() / ENVIRONMENT / "bin" / "python"

    def is_there(self) -> bool:
        """Whether the environment was made."""
        return self._python.exists()

    def read_versions(self) -> dict[str, str]:
        """Versions of the libraries there, which shape what it writes. Blocks. Raises UnavailableError."""
        found = self._ask({"versions": TOOLS}, lambda step: None)["versions"]
        return {f"optimum environment: {name}": str(found[name]) for name in TOOLS}

    def export(
        self,
        source: Path,
        target: Path,
        bits: int,
        prompts: Sequence[Sequence[int]],
        notice: Callable[[str], None],
    ) -> None:
        """The graph of the checkpoint in `source`, and before_N.npy of each prompt, into the folder `target`.

        bits: of its weights, 16, 8 or 4. Blocks for seconds to minutes; holds the model in float32 in memory.
        Raises UnsupportedError for what the library has no form for, UnavailableError when the process dies.
        """
        request = {
            "source": str(source.resolve()),
            "target": str(target.resolve()),
            "bits": bits,
            "prompts": [list(prompt) for prompt in prompts],
        }
        answer = self._ask(request, notice)
        if "refused" in answer:
            raise UnsupportedError(str(answer["refused"]))

    def _ask(self, request: dict[str, Any], notice: Callable[[str], None]) -> dict[str, Any]:
        """The last line of the process; `notice` hears the steps before it."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            # -I: neither the folder it starts in nor PYTHON variables change what is imported.
            process = subprocess.Popen(
                [self._python, "-I", WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                encoding="utf-8",
            )
            try:
                last = _talk(process, request, notice)
            finally:
                process.kill()
                code = process.wait()
            if last is None:
                raise UnavailableError(f"the export with optimum-intel {_ending(code)}: {_last_line(said)}")
            return last


def _talk(
    process: subprocess.Popen[str], request: dict[str, Any], notice: Callable[[str], None]
) -> dict[str, Any] | None:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101 - for the type checker
    last: dict[str, Any] | None = None
    with process.stdout as lines:
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.close()
        except OSError:
            pass  # it is gone: what it said, if anything, tells why
        for line in lines:
            # One that was killed may leave half a line.
            if not line.endswith("\n"):
                break
            found: dict[str, Any] = json.loads(line)
            if "step" in found:
                notice(str(found["step"]))
            else:
                last = found
    if last is not None:
        # It may still let go of its memory; what it wrote is whole.
        process.wait()
    return last


def _ending(code: int) -> str:
    return f"was ended by signal {-code}, as the system does where memory runs out" if code < 0 else "failed"


def _last_line(said: IO[str]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
