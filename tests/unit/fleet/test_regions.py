"""What a fleet takes from its file of regions, and what it refuses."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fakes.authorities import Authority
from fakes.ports import free_ports
from trireme.artifacts.recipe import Recipe
from trireme.cli import main
from trireme.errors import SettingError
from trireme.fleet.fleet import Fleet
from trireme.fleet.places import ENTRY, raw_values, regions_address
from trireme.fleet.regions import ENTRY_KEYS, OWN_ENVOY, with_regions
from trireme.scale.values import parse_values
from trireme.settings import Settings

RAW = raw_values(Settings(), [Recipe("embedding", kind="text_encoder", source="x/y")], 2)
REGIONS = [{"name": "here"}, {"name": "there", "balancer": "127.0.0.1:8010"}]


def refused(more, *words):
    with pytest.raises(SettingError) as raised:
        with_regions(RAW, more, "regions.yaml")
    for word in ("regions.yaml", *words):
        assert word in str(raised.value)


def test_the_files_settings_hold_and_all_others_are_the_fleets():
    more = {
        "regions": REGIONS,
        "envoy": {"perTryTimeoutSeconds": 0.3, "regionListen": {"port": 8020}},
        "models": {ENTRY: {"failoverMaxRequests": 7, "failoverBatchRequests": 1}},
    }
    values = parse_values(with_regions(RAW, more, "regions.yaml"), "regions.yaml")
    own = parse_values(RAW, "own")
    assert (values.own_region, values.other_regions[0].balancer) == ("here", "127.0.0.1:8010")
    assert (values.envoy.per_try_timeout_seconds, own.envoy.per_try_timeout_seconds) == (0.3, 0.0)
    assert values.envoy.region_listen.port == 8020
    assert (values.envoy.listen, values.envoy.admin, values.envoy.retries) == (
        own.envoy.listen,
        own.envoy.admin,
        5,
    )
    (entry,) = values.models
    assert (entry.failover_max_requests, entry.failover_batch_requests) == (7, 1)
    assert (entry.serves, entry.max_requests) == (("embedding",), own.models[0].max_requests)


@pytest.mark.parametrize("key", OWN_ENVOY)
def test_what_a_fleet_decides_itself_is_refused(key):
    refused({"regions": REGIONS, "envoy": {key: 1}}, f"envoy.{key}", "trireme serve decides it")


def test_other_keys_are_refused_by_name_with_those_that_are_known():
    refused({"regions": REGIONS, "image": "x"}, "image is no setting here", "regions")
    refused({"regions": REGIONS, "models": {"llm": {}}}, "models.llm", ENTRY)
    refused({"regions": REGIONS, "models": {ENTRY: {"serves": []}}}, f"models.{ENTRY}.serves", *ENTRY_KEYS)
    refused({"regions": REGIONS, "envoy": {"regionListn": {}}}, "envoy.regionListn", "regionListen")
    refused({"regions": REGIONS, "envoy": []}, "envoy must be a map")
    for more in (None, [], "x"):
        refused(more, "must be a map")
    for regions in (None, [], {}):
        refused({"regions": regions}, "own region first")
    refused({"envoy": {}}, "own region first")


def test_a_file_of_tls_that_is_not_there_is_named_before_anything_starts(tmp_path):
    tls = Authority(tmp_path / "authority").issue(tmp_path / "tls", "IP:127.0.0.1")
    more = {"regions": REGIONS, "envoy": {"regionTls": tls}}
    assert with_regions(RAW, more, "regions.yaml")["envoy"]["regionTls"] == tls
    for key in tls:
        refused(
            {**more, "envoy": {"regionTls": {**tls, key: f"{tmp_path}/tls/none"}}},
            f"envoy.regionTls.{key}",
            "none",
        )


def test_certificates_and_keys_that_envoy_could_not_use_are_refused_before_anything_starts(tmp_path):
    authority = Authority(tmp_path / "authority")
    tls, other = (authority.issue(tmp_path / name, "IP:127.0.0.1") for name in ("tls", "other"))
    words = ("-in", tls["key"], "-aes256", "-passout", "pass:secret", "-out", f"{tls['key']}.closed")
    subprocess.run(["openssl", "ec", *words], check=True, capture_output=True)
    for key, path in (
        ("key", other["key"]),
        ("key", f"{tls['key']}.closed"),
        ("key", tls["certificate"]),
        ("authority", tls["key"]),
    ):
        # Certificate and key are in one folder.
        shutil.copy(path, fresh := str(Path(tls["certificate"]).parent / "tried"))
        refused({"regions": REGIONS, "envoy": {"regionTls": {**tls, key: fresh}}}, f"envoy.regionTls.{key}")


def test_a_fleet_reads_the_file_that_the_setting_names(tmp_path):
    file = tmp_path / "regions.yaml"
    file.write_text("regions: [{name: here}, {name: there, balancer: '127.0.0.1:8010'}]\n")
    repository = tmp_path / "models"
    repository.mkdir()
    settings = Settings(data_dir=tmp_path, model_repository=repository, regions_file=str(file))
    fleet = Fleet(settings, 1)
    assert fleet.values.own_region == "here"
    at = regions_address(settings)
    assert fleet.regions_metrics == f"{at.address}:{at.port}"
    file.write_text("regions: [{name: here}]\n")
    assert Fleet(settings, 1).regions_metrics == ""
    file.write_text("regions: []\n")
    with pytest.raises(SettingError, match=r"regions\.yaml: regions must be a list"):
        Fleet(settings, 1)
    file.unlink()
    with pytest.raises(SettingError, match=r"regions\.yaml: No such file"):
        Fleet(settings, 1)


def test_serve_is_refused_where_the_gateway_could_not_keep_a_tenant_from_a_region(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regions.yaml").write_text(
        "regions: [{name: here}, {name: there, balancer: 'localhost:8010'}]\n"
    )
    (tmp_path / "gateway.toml").write_text('[tenants.acme]\nforbid_regions = ["there"]\n')
    monkeypatch.setenv("TRIREME_REGIONS_FILE", "regions.yaml")
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    for command in (["serve", "--behind-envoy"], ["gateway", "--port", str(free_ports(1)[0])]):
        assert main(command) == 1
        assert "gateway.toml: [local] must name the regions" in capsys.readouterr().err
    (tmp_path / "regions.yaml").write_text("")
    assert main(["serve", "--behind-envoy"]) == 1
    assert "regions.yaml must be a map" in capsys.readouterr().err


def test_regions_without_envoy_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("TRIREME_REGIONS_FILE", "regions.yaml")
    assert main(["serve"]) == 1
    assert "--behind-envoy" in capsys.readouterr().err


def test_the_controller_has_a_place_of_its_own():
    settings = Settings()
    envoy = parse_values(RAW, "own").envoy
    at = regions_address(settings)
    taken = [(one.address, one.port) for one in (envoy.listen, envoy.admin, envoy.metrics)]
    assert (at.address, at.port) not in taken
    assert at.address == envoy.admin.address
