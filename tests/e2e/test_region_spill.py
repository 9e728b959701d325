"""Two regions with a real Envoy and a controller each: calls leave by load, under mutual TLS, and come back."""

import contextlib
import json
import re
import threading
import urllib.request

import pytest

from fakes.authorities import Authority
from fakes.balancers import Balancer
from fakes.ports import free_ports
from fakes.replicas import Hold
from trireme.regions.controller import Controller
from trireme.regions.options import RegionOptions
from trireme.regions.pages import serving
from trireme.regions.state import RegionState
from trireme.scale.endpoints import write_near
from trireme.scale.routes import RESIDENCY_HEADER, spill_key

MODEL = "rag"
MODELS = {"retrieval": {"serves": [MODEL], "maxRequests": 50, "failoverMaxRequests": 2}}
NAMES = ("here", "there")


class Region:
    """One region: Envoy with its listener for the other, and the controller beside it."""

    def __init__(self, folder, name, port, other, tls):
        folder.mkdir()
        (self.http,) = free_ports(1)
        self.balancer = Balancer(
            folder,
            MODELS,
            ({"name": name}, other),
            spill=True,
            regionListen={"address": "127.0.0.1", "port": port},
            regionTls=tls,
            controller={"address": "127.0.0.1", "port": self.http},
        )
        values = self.balancer.values
        # An answer may be late on a slow machine without a region being taken for lost.
        options = RegionOptions(
            folder / "values.yaml", folder, port=self.http, probe=0.1, answer=30.0, misses=100
        )
        state = RegionState(values, options)
        self.said = []
        self.controller = Controller(state, options, values, self.said.append)
        self._pages = serving(state, options, self.controller.loading)
        self._pages.__enter__()
        self._thread = threading.Thread(target=self.controller.run)
        self._thread.start()

    def close(self):
        self.controller.end()
        self._thread.join(60)
        self._pages.__exit__(None, None, None)
        self.balancer.close()

    def end_controller(self):
        self.controller.end()
        self._thread.join(60)

    def share(self):
        entries = json.loads(self.balancer.fetch("/runtime"))["entries"]
        return int(entries[spill_key(self.balancer.values.models[0])]["final_value"])

    def metrics(self):
        """Value of each metric of the entry."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics") as answer:
            found = re.findall(r'^(\w+){entry="retrieval"} (\S+)$', answer.read().decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def wait_for_share(self, share):
        self.balancer.wait_until(lambda: self.share() == share)


@pytest.fixture
def regions(tmp_path):
    ports = free_ports(2)
    authority = Authority(tmp_path / "authority")
    with contextlib.ExitStack() as stack:
        made = []
        for at in (0, 1):
            tls = authority.issue(tmp_path / f"tls-{NAMES[at]}", "IP:127.0.0.1")
            other = {"name": NAMES[1 - at], "balancer": f"127.0.0.1:{ports[1 - at]}"}
            made.append(Region(tmp_path / NAMES[at], NAMES[at], ports[at], other, tls))
            stack.callback(made[-1].close)
        yield made


def left_of(balancer, there, calls=40):
    """How many of so many calls went away."""
    before = there.calls
    for _ in range(calls):
        balancer.infer(MODEL)
    return there.calls - before


def test_calls_leave_by_load_are_capped_and_come_back(regions, replicas):
    (here, there), (own, other) = regions, replicas(2)
    own.utilization, other.utilization = 0.25, 0.25
    for region, replica in ((here, own), (there, other)):
        write_near(region.balancer.folder, "retrieval", [replica.endpoint()])
    for region in regions:
        region.balancer.wait_until(lambda region=region: region.controller.loading.near.known)
        healthy = "cluster.retrieval_{}.membership_healthy"
        for kind in ("near", "far"):
            name = healthy.format(kind)
            region.balancer.wait_until(lambda region=region, name=name: region.balancer.stat(name) == 1)
    here.wait_for_share(0)
    assert left_of(here.balancer, other) == 0
    # Half way between the load at which calls begin to leave and that at which all do.
    own.utilization = 1.25
    here.wait_for_share(50)
    assert 0 < left_of(here.balancer, other) < 40
    shown = here.metrics()
    assert shown["trireme_region_spill_percent"] == 50
    assert (shown["trireme_region_near_load"], shown["trireme_region_far_load"]) == (1.25, 0.25)
    own.utilization = 3.0
    here.wait_for_share(100)
    assert left_of(here.balancer, other) == 40
    # No more than the cap at once: the others are answered near.
    hold = Hold()
    answer, other.infer = other.infer, hold.infer
    held = [here.balancer.start(MODEL) for _ in range(2)]
    hold.wait_for(2)
    before = own.calls
    for _ in range(10):
        here.balancer.infer(MODEL)
    assert own.calls == before + 10
    hold.end.set()
    assert [call.result().id for call in held] == ["late", "late"]
    other.infer = answer
    # What must stay stays.
    before = own.calls
    here.balancer.infer(MODEL, metadata=[(RESIDENCY_HEADER, "near")])
    assert own.calls == before + 1
    # A far region that fills up gets less, and then nothing.
    other.utilization = 0.75
    here.wait_for_share(50)
    other.utilization = 1.0
    here.wait_for_share(0)
    assert left_of(here.balancer, other) == 0
    other.utilization = 0.0
    here.wait_for_share(100)
    own.utilization = 0.0
    here.wait_for_share(0)
    assert left_of(here.balancer, other) == 0
    assert there.share() == 0
    # A controller that is ended leaves nothing behind that would send calls away.
    own.utilization = 3.0
    here.wait_for_share(100)
    here.end_controller()
    here.wait_for_share(0)
