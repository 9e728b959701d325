from pathlib import Path

import pytest

from trireme.errors import SettingError
from trireme.gateway.file import parse_gateway_file, read_gateway_file, split_target

ROOT = Path(__file__).parents[3]


def parse(text):
    return parse_gateway_file(text.encode(), "gateway.toml")


def test_without_a_file_the_local_triton_is_the_only_provider(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = read_gateway_file(Path("gateway.toml"))
    assert {name: row.kind for name, row in file.providers.items()} == {"local": "triton"}
    assert not file.models


def test_the_file_of_the_project_says_what_no_file_says():
    assert read_gateway_file(ROOT / "gateway.toml") == parse("")


def test_a_file_that_was_named_and_is_missing_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"none\.toml is missing; TRIREME_GATEWAY_FILE names it"):
        read_gateway_file(tmp_path / "none.toml")


def test_the_example_in_the_file_of_the_project_is_valid():
    lines = (ROOT / "gateway.toml").read_text().splitlines()
    example = "\n".join(
        line.removeprefix("#").strip() for line in lines if line.startswith("# [") or "=" in line
    )
    file = parse(example)
    assert file.providers["openai"].keys == ["OPENAI_API_KEY"]
    assert file.models["assistant"].chain == ["llm", "openai:gpt-5-mini"]


def test_a_provider_of_a_known_kind_is_four_lines():
    file = parse(
        '[providers.openai]\nkind = "openai"\nurl = "https://api.openai.com/v1"\nkeys = ["OPENAI_API_KEY"]'
    )
    assert set(file.providers) == {"local", "openai"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[provider.x]\nkind = 'openai'", "provider"),
        ("[providers.x]\nkind = 'openai'\nkye = 'A'", "kye"),
        ("[limits]\nbody_bites = 3", "body_bites"),
        ("[limits]\nbody_bytes = 'much'", "body_bytes"),
        ("[providers.x]\nurl = 'http://x'", "kind"),
        ("[models.m]\nchain = []", "models.m.chain is empty"),
        ("[models.m]\nchain = ['nobody:x']", "'nobody'"),
        ("[models.m]\nchain = ['local:']", "names no model"),
        ("[providers.'A b']\nkind = 'openai'", "lower-case"),
        ("[providers.x]\nkind = 'openai'\nfirst_seconds = 0", "first_seconds"),
        ("[tenants.t]\nforbid_providers = ['opnai']", "'opnai'"),
        ("[providers.x]\nkind = 'openai'\ncache_salt = 'yes'", "cache_salt"),
        ("a = ", "gateway.toml"),
        ("[providers.local]\nkind = 'openai'\nurl = 'http://x'", "providers.local"),
        (
            "[providers.local]\nkind = 'triton'\nurl = 'x:1'\n[tenants.t]\nforbid_regions = ['us']",
            "providers.local.region",
        ),
        (
            "[providers.x]\nkind = 'openai'\n[tenants.t]\nforbid_regions = ['us']",
            "providers.x.region is missing",
        ),
        ("[attempts]\nmost = 0", "attempts.most"),
        ("[attempts]\nretry_share = 2.0", "attempts.retry_share"),
        ("[limits]\nrequests = 0", "limits.requests"),
        ("[limits]\nidle_seconds = 0.2", "limits.idle_seconds"),
    ],
)
def test_a_key_or_value_that_is_wrong_stops_the_start_and_is_named(text, named):
    with pytest.raises(SettingError) as caught:
        parse(text)
    assert named in str(caught.value)
    assert "gateway.toml" in str(caught.value)


def test_a_target_without_a_provider_is_a_model_of_our_own():
    assert split_target("llm") == ("local", "llm")
    assert split_target("openai:ft:gpt-5:acme") == ("openai", "ft:gpt-5:acme")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("seconds = -1.0", "cache.seconds"),
        ("seconds = nan", "cache.seconds"),
        ("seconds = inf", "cache.seconds"),
        ("http_seconds = -5", "cache.http_seconds"),
        ("hit_share = 2.0", "cache.hit_share"),
        ("hit_share = -0.5", "cache.hit_share"),
        ("hit_share = nan", "cache.hit_share"),
        ("entry_bytes = 0", "cache.entry_bytes"),
    ],
)
def test_a_number_of_the_caches_that_cannot_be_is_refused(line, named):
    with pytest.raises(SettingError, match=named):
        parse_gateway_file(f"[cache]\n{line}".encode(), "gateway.toml")


def test_a_threshold_that_is_no_number_is_refused():
    raw = b"[tenants.acme.semantic]\nmax_false_hits = 0.01\nthreshold = nan"
    with pytest.raises(SettingError, match="threshold"):
        parse_gateway_file(raw, "gateway.toml")


HOME = '[local]\nregion = "us"\nother_regions = ["eu"]\n[tenants.acme]\nhome = "{}"\n'


def test_a_tenants_home_is_its_row_or_this_region():
    file = parse(HOME.format("eu") + '[tenants.beta]\nhome = "us"\n')
    homes = [file.home_of(tenant) for tenant in ("acme", "beta", "nobody")]
    assert (homes, file.homes()) == (["eu", "", ""], ["eu"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (HOME.format("asia"), "tenants.acme.home 'asia' is neither"),
        (HOME.format("eu") + 'forbid_regions = ["eu"]', "tenants.acme.home is a region that it forbids"),
        ("[budgets]\nshare = 1.5", "budgets.share must be from 0 to 1"),
        ("[budgets]\nshare = nan", "budgets.share must be from 0 to 1"),
        ('[budgets]\nwithout_home = "maybe"', "budgets.without_home"),
    ],
)
def test_a_home_or_share_that_cannot_be_is_named(text, named):
    with pytest.raises(SettingError, match=named):
        parse(text)
