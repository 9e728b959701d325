"""A `trireme agent` as a child process, which is started again when it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from trireme.agent.client import Readiness, drain, read_readiness
from trireme.agent.drain import DrainReport
from trireme.agent.options import AgentOptions
from trireme.child_process import DEFAULT_TIMING, ChildProcess, RestartTiming
from trireme.errors import UnavailableError
from trireme.triton.process import start_process

ASK_SECONDS = 2.0


class AgentProcess(ChildProcess):
    """One agent of one tritonserver. `look_after` starts it again; `drain` is the way out of the balancer."""

    def __init__(
        self,
        options: AgentOptions,
        environ: Mapping[str, str],
        log_file: Path,
        timing: RestartTiming = DEFAULT_TIMING,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Starts it and returns at once."""
        self.options = options
        self._address = f"{options.host}:{options.own_http_port}"
        super().__init__("agent", environ, log_file, timing, clock)

    def read_readiness(self) -> Readiness:
        """What it says of its replica. Blocks 2 s at most. Raises UnavailableError where it does not answer."""
        return read_readiness(self._address, ASK_SECONDS)

    def wait_until_ready(self, seconds: float) -> None:
        """Blocks until the replica is ready. Raises UnavailableError with the reasons of the last answer."""
        deadline, reason = monotonic() + seconds, "it has not answered"
        while monotonic() < deadline:
            try:
                said = self.read_readiness()
            except UnavailableError as error:
                reason = str(error)
            else:
                if said.is_ready:
                    return
                reason = "; ".join(said.reasons)
            time.sleep(0.1)
        raise UnavailableError(f"the replica at {self.options.server} is not ready: {reason}")

    def drain(self, seconds: float) -> DrainReport:
        """See agent.client.drain."""
        return drain(self._address, seconds)

    def _start(self) -> None:
        self._due = None
        self._started = self._clock()
        command = [sys.executable, "-m", "trireme.cli", "agent", *self.options.flags()]
        self._process = start_process([*command, "--parent", str(os.getpid())], self._environ, self._log_file)
