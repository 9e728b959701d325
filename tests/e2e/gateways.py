"""A gateway over a stack and over providers of the tests' own, with keys."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import subprocess
import sys

from stacks import environment_of, free_ports, wait_until

from trireme.gateway_process import GatewayProcess
from valkeys import valkey

FILE = """
[providers.fakeopenai]
kind = "openai"
url = "{url}/v1"
keys = ["FAKE_PROVIDER_KEY"]

[providers.fakeanthropic]
kind = "anthropic"
url = "{url}"
keys = ["FAKE_PROVIDER_KEY"]

[models.assistant]
chain = ["fakeopenai:echo"]

[models.claude]
chain = ["fakeanthropic:echo"]

[models.fallback]
chain = ["fakeopenai:fault-status_500", "fakeanthropic:echo"]

# Targets of their own: one that fails five times rests, and is then no attempt.
[models.unavailable]
chain = ["fakeopenai:fault-status_503", "fakeanthropic:echo"]

[models.failing]
chain = ["fakeopenai:fault-status_502"]
"""

# Of a server that calling_server.py runs; CALLER is its address.
CALLER = """
[providers.scripted]
kind = "triton"
url = "CALLER"

[models.caller]
chain = ["scripted:caller"]
"""


@dataclasses.dataclass(frozen=True)
class Gateway:
    """One that runs. url: of its root. environ: settings of a command that acts on its database. process: its own.

    log: its file.
    """

    url: str
    environ: dict
    process: GatewayProcess
    log: pathlib.Path

    def ask(self, path, secret):
        """Status and body of a GET."""
        address = self.url.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            connection.request("GET", path, headers={"authorization": f"Bearer {secret}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def new_key(self, *arguments):
        """The secret of a key made with these arguments of `keys create`, once it is in force."""
        secret = create_key(self.environ, *arguments)
        self.wait_until_known(secret)
        return secret

    def wait_until_known(self, secret):
        """Blocks until a key is in force; it may count a request of it."""
        wait_until(lambda: self.ask("/v1/models", secret)[0] != 401)


def create_key(environ, *arguments):
    """The secret of a new key. It is in force within a second."""
    words = [sys.executable, "-m", "trireme.cli", "keys", "create", "--quiet", *arguments]
    made = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@contextlib.contextmanager
def gateway_over(stack, upstream, folder, text=FILE, providers=(("FAKE_PROVIDER_KEY", "fake-provider-key"),)):
    """A running Gateway with the models of `stack`, the fake `upstream` as its providers, and a Valkey
    of its own unless `providers` names one.

    text: of gateway.toml. providers: variables of the environment that it names, and their values.
    """
    file = folder / "gateway.toml"
    file.write_text(text.format(url=upstream.url))
    settings = dataclasses.replace(stack.settings, gateway_port=free_ports(1)[0], gateway_file=file)
    environ = environment_of(settings) | {"TRIREME_DATABASE_URL": stack.database_url}
    log = folder / "gateway.log"
    with valkey(maxmemory_policy="noeviction") as store:
        stores = {"TRIREME_REDIS_URL": store.url} | dict(providers)
        process = GatewayProcess(settings, os.environ | environ | stores, log)
        try:
            process.wait_until_ready()
            yield Gateway(f"http://127.0.0.1:{settings.gateway_port}", environ, process, log)
        finally:
            process.stop()
