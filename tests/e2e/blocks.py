"""Code blocks of documents, run as a reader runs them, on the test's ports."""

import re
import subprocess
import sys

from stacks import ROOT

# Of one block.
SECONDS = 300
# An error of the gateway is an object, one of Triton a text; an empty one is none.
ERROR = re.compile(r'"error":\s*(\{|"[^"])')


def blocks_of(path, kind):
    """The texts of the fenced blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def commands_of(scripts):
    """Their lines, without comments."""
    lines = [line for text in scripts for line in text.splitlines()]
    return [command for line in lines if (command := line.split("#")[0].strip())]


class Reader:
    """Somebody in the project's folder, at a shell with these variables."""

    def __init__(self, settings, gateway, **environ):
        self._environ = gateway.environ | environ
        self._places = {
            "127.0.0.1:8000": f"127.0.0.1:{settings.http_port}",
            "127.0.0.1:8001": settings.grpc_url,
            "127.0.0.1:8080": gateway.url.removeprefix("http://"),
            ".venv/bin/trireme": f"{sys.executable} -m trireme.cli",
        }

    def run_script(self, script):
        """What a block of the shell prints. Fails where a command or a server says that it failed."""
        # One shell, so that what a line exports is there in the next.
        said = self._run(["/bin/sh", "-ec", self._here(script)])
        assert not ERROR.search(said), said
        return said

    def run_python(self, block, python=sys.executable):
        """What a block of Python prints."""
        return self._run([python, "-c", self._here(block)])

    def _here(self, text):
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def _run(self, command):
        done = subprocess.run(
            command, env=self._environ, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout.strip(), command
        return done.stdout
