"""Two stacks of `trireme serve --behind-envoy`, each a region of the other, with the file of docs/regions.md."""

import contextlib
import io
import json
import re
import threading
import urllib.request
from contextlib import ExitStack

import pytest
import yaml
from rich.console import Console
from stacks import ROOT, settings_on_free_ports, wait_until

from fakes.authorities import Authority
from fakes.ports import free_ports
from trireme.artifacts.config_writer import place_config
from trireme.artifacts.recipe import Recipe, write_recipe
from trireme.commands.first_keys import NONE
from trireme.commands.serve import _announce
from trireme.errors import SettingError, TriremeError
from trireme.fleet.fleet import Fleet
from trireme.fleet.places import ENTRY
from trireme.scale.endpoints import far_file, read_far
from trireme.stack import LOOK_SECONDS, Stack
from trireme.triton.client import TritonClient
from trireme.triton.metrics import count_answered, read_metrics

ROWS = {
    "id": [["a", "b"]],
    "text": [["first", "second"]],
    "metadata": [["{}", "{}"]],
    "score": [[0.25, 0.75]],
}
(PAGE,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "regions.md").read_text(), re.DOTALL)
NAMES = ("eu-west", "us-east")


class Region:
    """A stack that is looked after in a thread; `said` is what it told."""

    def __init__(self, stack):
        self.stack, self.fleet, self.said = stack, stack.fleet, []
        self.settings = stack.settings
        self.endpoints = self.settings.data_dir / "fleet" / "endpoints"
        (self.replica,) = self.fleet.replicas
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self):
        while not self._end.wait(LOOK_SECONDS):
            self.stack.look_after(self.said.append)

    def close(self):
        self._end.set()
        self._thread.join()

    def answered(self):
        place = self.replica.place
        return count_answered(read_metrics(place.address, place.metrics_port)).get("sort", 0.0)

    def sort(self):
        with TritonClient(self.settings.grpc_url) as client:
            assert client.infer("sort", ROWS)["id"][0].tolist() == [b"b", b"a"]

    def serves(self):
        with contextlib.suppress(TriremeError):
            self.sort()
            return True
        return False

    def knows_other(self):
        seen = self.fleet.envoy.seen(f"{ENTRY}_far")
        return list(seen.values()) == ["healthy"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    recipe = Recipe("sort", kind="sort")
    (folder / "sort" / "1").mkdir(parents=True)
    place_config(folder / "sort", recipe)
    write_recipe(folder / "sort" / "recipe.toml", recipe)
    return folder


def write_file(folder, name, files, ports):
    """The page's file, of the region `name` on this machine."""
    more = yaml.safe_load(PAGE)
    other = next(one for one in NAMES if one != name)
    more["regions"] = [{"name": name}, {"name": other, "balancer": f"127.0.0.1:{ports[other]}"}]
    # A busy machine answers late: that is no fault here.
    more["envoy"] |= {"healthTimeoutSeconds": 10, "keepaliveTimeoutSeconds": 10, "connectTimeoutSeconds": 5}
    more["envoy"] |= {"perTryTimeoutSeconds": 30, "regionTls": files, "spill": True}
    more["envoy"]["regionListen"]["port"] = ports[name]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(more))
    return path


@pytest.fixture(scope="module")
def regions(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("regions")
    authority = Authority(folder / "authority")
    ports = dict(zip(NAMES, free_ports(2), strict=True))
    with ExitStack() as resources:
        made, database_url = [], ""
        for name in NAMES:
            files = authority.issue(folder / f"{name}-tls", "IP:127.0.0.1")
            settings = settings_on_free_ports(
                folder / name,
                model_repository=repository,
                database_url=database_url,
                regions_file=str(write_file(folder, name, files, ports)),
            )
            stack = resources.enter_context(Stack(settings, replicas=1))
            database_url = stack.database_url
            region = Region(stack)
            resources.callback(region.close)
            made.append(region)
        yield made


def test_a_region_without_replicas_is_served_by_the_other_and_by_its_own_when_they_are_back(regions):
    here, there = regions
    wait_until(lambda: here.knows_other() and there.knows_other())
    assert [one.region for one in read_far(here.endpoints, ENTRY)] == ["us-east"]
    wait_until(here.serves)
    before = there.answered()
    here.sort()
    assert there.answered() == before
    here.replica.hold()
    try:
        wait_until(lambda: here.fleet.envoy.seen(ENTRY + "_near").get(here.replica.key) == "draining")
        own, before = here.answered(), there.answered()
        here.sort()
        assert there.answered() == before + 1
        assert here.answered() == own
    finally:
        here.replica.let_go()
    wait_until(lambda: here.fleet.envoy.seen(ENTRY + "_near").get(here.replica.key) == "healthy")
    before = here.answered()
    wait_until(lambda: here.serves() and here.answered() > before)


def test_the_controller_hears_the_other_region_over_tls_and_serve_says_where_all_is(regions):
    here, there = regions

    def hears():
        with urllib.request.urlopen(f"http://{here.fleet.regions_metrics}/ready") as answer:
            (other,) = json.loads(answer.read())["regions"]
        return other["name"] == "us-east" and other["round_trip_seconds"] is not None

    wait_until(hears)
    console = Console(file=io.StringIO(), width=200)
    _announce(here.settings, NONE, console, here.fleet, has_console=True)
    told = console.file.getvalue()
    port = there.fleet.values.envoy.region_listen.port
    assert f"Other regions: us-east at 127.0.0.1:{port}." in told
    assert f"http://{here.fleet.regions_metrics}/metrics" in told


def test_both_controllers_know_the_loads_that_the_agents_of_both_report_and_idle_regions_keep_their_calls(
    regions,
):
    known = {
        "trireme_region_near_load": 0.0,
        "trireme_region_far_load": 0.0,
        "trireme_region_spill_percent": 0.0,
    }
    for region in regions:

        def knows(region=region):
            with urllib.request.urlopen(f"http://{region.fleet.regions_metrics}/metrics") as answer:
                page = answer.read().decode()
            found = re.findall(rf'^(\w+){{entry="{ENTRY}"}} (\S+)$', page, re.MULTILINE)
            return {name: float(value) for name, value in found} == known

        wait_until(knows)


def test_a_controller_that_is_killed_is_started_again_and_the_order_stays(regions):
    here, _ = regions
    wait_until(lambda: here.knows_other() and here.fleet.regions.is_ready())
    file = far_file(here.endpoints, ENTRY)
    before, pid = file.stat().st_ino, here.fleet.regions.pid
    here.fleet.regions.kill()
    wait_until(lambda: here.fleet.regions.pid != pid and here.fleet.regions.is_ready())
    assert any("controller of regions ended" in line for line in here.said)
    here.sort()
    assert here.knows_other()
    assert file.stat().st_ino == before


def test_a_region_listener_whose_port_is_taken_is_named_before_anything_starts(regions, tmp_path, repository):
    here, _ = regions
    settings = settings_on_free_ports(
        tmp_path, model_repository=repository, regions_file=here.settings.regions_file
    )
    with pytest.raises(SettingError, match=r"eu-west\.yaml: envoy\.regionListen 0\.0\.0\.0:\d+ is taken"):
        Fleet(settings, 1).start("")
