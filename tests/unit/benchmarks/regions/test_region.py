"""The regions of measurements and tests: what their Envoys are told, and how states are read."""

import re

import yaml

from benchmarks.common.report import DOCS
from benchmarks.regions.region import PROFILE, REGION_PORT, Region, state_of
from trireme.scale.endpoints import Endpoint
from trireme.scale.values import read_values

MODELS = {"retrieval": {"serves": ["embedding"]}}


def test_the_settings_that_are_measured_are_those_of_the_page():
    page = (DOCS / "regions.md").read_text(encoding="utf-8")
    stated = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])["envoy"]
    assert {key: stated.get(key) for key in PROFILE} == PROFILE


def test_a_region_writes_values_that_trireme_reads(tmp_path):
    region = Region(
        "eu", tmp_path, MODELS, others={"us": "198.18.0.2:8010"}, listen="198.18.0.1", retries=7, **PROFILE
    )
    found = read_values(region.values_file)
    assert found == region.values
    assert [one.name for one in found.regions] == ["eu", "us"]
    assert found.envoy.region_listen.address == "198.18.0.1"
    assert (found.envoy.region_listen.port, found.envoy.retries) == (REGION_PORT, 7)


def test_the_order_of_other_regions_is_that_of_their_priorities(tmp_path):
    region = Region("eu", tmp_path, MODELS)
    assert region.far_order("retrieval") == []
    region.place_far(
        "retrieval",
        Endpoint("198.18.0.6", 8010, region="us", priority=2),
        Endpoint("198.18.0.10", 8010, region="ap", priority=1),
    )
    assert region.far_order("retrieval") == ["ap", "us"]


def test_a_state_of_envoys_is_one_word():
    assert state_of({"eds_health_status": "HEALTHY"}) == "healthy"
    assert state_of({"eds_health_status": "DRAINING", "failed_active_health_check": True}) == "draining"
    assert state_of({"pending_active_hc": True, "failed_active_health_check": True}) == "waiting"
    for fault in ("failed_active_health_check", "failed_outlier_check", "active_hc_timeout"):
        assert state_of({"eds_health_status": "HEALTHY", fault: True}) == "out"
