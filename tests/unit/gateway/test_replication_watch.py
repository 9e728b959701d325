"""What the metrics say of the database's links to other regions."""

import asyncio
from dataclasses import replace

from trireme.errors import UnavailableError
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.replication_watch import ReplicationWatch
from trireme.retrieve.replication import ReplicationLink

NAMES = ("connected", "behind_bytes", "silent_seconds", "left_bytes")


class Links:
    """A Replication that says what it is told to."""

    def __init__(self, *links):
        self.links, self.is_away = list(links), False

    def read(self):
        if self.is_away:
            raise UnavailableError("the database does not answer")
        return self.links

    def close(self):
        pass


def told(metrics, role, region):
    read = metrics._page.registry.get_sample_value
    return [read(f"trireme_replication_{name}", {"role": role, "region": region}) for name in NAMES]


def test_each_link_is_told_as_far_as_it_is_known_and_no_longer_than_that():
    follower = ReplicationLink("follower", "eu", True, "following", 7, 0.5)
    home = ReplicationLink("home", "asia", False, "away", 900, None, 4000)
    links, metrics = Links(follower, home), GatewayMetrics()
    watch = ReplicationWatch(links, metrics)

    asyncio.run(watch.look())
    assert told(metrics, "follower", "eu") == [1.0, 7, 0.5, None]
    assert told(metrics, "home", "asia") == [0.0, 900, None, 4000]
    links.links = [replace(follower, behind_bytes=9)]
    asyncio.run(watch.look())
    assert told(metrics, "home", "asia") == [None] * 4
    # What stays is told at every look.
    assert told(metrics, "follower", "eu") == [1.0, 9, 0.5, None]
    links.is_away = True
    asyncio.run(watch.look())
    assert told(metrics, "follower", "eu") == [None] * 4
    links.is_away = False
    asyncio.run(watch.look())
    assert told(metrics, "follower", "eu") == [1.0, 9, 0.5, None]
