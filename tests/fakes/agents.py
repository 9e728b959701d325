"""A `trireme agent` in a process of its own."""

import os
import subprocess
import sys
import time

from trireme.agent.client import read_readiness
from trireme.agent.options import AgentOptions
from trireme.errors import UnavailableError


class AgentRun:
    """`start` and `kill` it as often as a test needs; `close` it."""

    def __init__(self, options: AgentOptions, log, *words):
        self.options, self.log, self.words = options, log, words
        self.http = f"{options.host}:{options.own_http_port}"
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "trireme.cli", "agent", *self.options.flags(), *self.words]
            self.process = subprocess.Popen(
                command, env=dict(os.environ), stdout=log, stderr=subprocess.STDOUT
            )

    def is_running(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    close = kill

    def read(self):
        return read_readiness(self.http, 30.0)

    def wait_until_ready(self, seconds=180.0):
        deadline, said = time.monotonic() + seconds, "it has not answered"
        while time.monotonic() < deadline:
            assert self.is_running(), self.log.read_text()
            try:
                found = self.read()
            except UnavailableError as error:
                said = str(error)
            else:
                if found.is_ready:
                    return
                said = found.reasons
            time.sleep(0.05)
        raise AssertionError(f"not ready: {said}")
