"""The stack that tests of the console use."""

import dataclasses
import http.client
import re
from collections import defaultdict
from contextlib import closing

from stacks import Serving, wait_until

from trireme.access.keys import Key, KeyQuery, new_key_id
from trireme.commands.keys import create_key
from trireme.storage import open_keys


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
        """The secret of a key made with these of `keys create`: --tenant, --user, --endpoint. It is in force."""
        given = defaultdict(list)
        for name, value in zip(arguments[::2], arguments[1::2], strict=True):
            given[name].append(value)
        (tenant,), (user,) = given["--tenant"] or ["default"], given["--user"] or [""]
        with closing(open_keys(self.postgres.url)) as keys:
            secret = create_key(keys, Key(new_key_id(), tenant, user, endpoints=tuple(given["--endpoint"])))
        wait_until(lambda: self.knows(secret))
        return secret

    def knows(self, secret):
        """Whether a key is in force."""
        port = self.serving.settings.gateway_port
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {secret}"})
            return connection.getresponse().status == 200

    def revoke_keys_of(self, tenant):
        """Takes all keys of a tenant out of force."""
        with closing(open_keys(self.postgres.url)) as keys:
            keys.revoke([key.id for key in keys.find(KeyQuery(tenant, False))])

    def is_ready(self):
        """Whether the gateway and all behind it are."""
        return self.serving.run("ready").returncode == 0
