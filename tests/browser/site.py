"""The stack that tests of the console use."""

import contextlib
import dataclasses
import http.client
import re

from gateways import create_key
from stacks import Serving, wait_until


@dataclasses.dataclass(frozen=True)
class Site:
    """`trireme serve`, over a PostgreSQL that a test may stop and restart.

    url: of its gateway. admin: the secret of a key that may do everything, of tenant default. link: of the console,
    with an admin's key, as it was printed.
    """

    serving: Serving
    postgres: object
    admin: str = ""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.serving.settings.gateway_port}"

    @property
    def link(self):
        (found,) = re.findall(r"Console: (http://\S+#key=tr-\S+)", self.serving.output)
        return found

    def new_key(self, *arguments):
        """The secret of a key made with these arguments of `keys create`, once it is in force."""
        secret = create_key(self.serving.environ, *arguments)
        wait_until(lambda: self.knows(secret))
        return secret

    def knows(self, secret):
        """Whether a key is in force."""
        port = self.serving.settings.gateway_port
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {secret}"})
            return connection.getresponse().status == 200

    def revoke_keys_of(self, tenant):
        """Takes all keys of a tenant out of force, as a person does."""
        listed = self.serving.run("keys", "list", "--tenant", tenant).stdout
        done = self.serving.run("keys", "revoke", *re.findall(r"key_[0-9a-f]+", listed))
        assert done.returncode == 0, done.stderr

    def is_ready(self):
        """Whether the gateway and all behind it are."""
        return self.serving.run("ready").returncode == 0
