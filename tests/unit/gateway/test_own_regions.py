import pytest

from trireme.errors import SettingError
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.own_regions import LocalRow, check_regions_of_file, find_far_names


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("other_regions = ['us-east']", "local.region is missing"),
        ("region = 'eu'\nother_regions = ['eu']", "'eu' stands twice, or is local.region"),
        ("region = 'eu'\nother_regions = ['us', 'us']", "'us' stands twice"),
        ("region = 'EU west'", "local.region: 'EU west' is no name"),
        ("region = 'eu'\nother_regions = ['']", "local.other_regions: '' is no name"),
        ("region = 'eu'\n[providers.local]\nkind = 'triton'\nregion = 'us'", "take one away"),
        ("regions = ['eu']", "regions"),
    ],
)
def test_regions_of_our_own_that_cannot_be_are_refused(text, named):
    with pytest.raises(SettingError, match=named):
        parse_gateway_file(f"[local]\n{text}".encode(), "gateway.toml")


@pytest.mark.parametrize(
    ("forbidden", "stays"),
    [([], False), (["eu-west"], False), (["mars"], False), (["us-east"], True), (["AP-south", "x"], True)],
)
def test_a_tenant_that_forbids_another_region_of_ours_keeps_its_calls_in_this_one(forbidden, stays):
    text = "[local]\nregion = 'eu-west'\nother_regions = ['us-east', 'ap-south']"
    assert parse_gateway_file(text.encode(), "gateway.toml").local.keeps(forbidden) is stays
    assert not parse_gateway_file(b"", "gateway.toml").local.keeps(forbidden)


def test_another_region_may_answer_for_our_models_in_the_file_and_those_that_have_a_folder(tmp_path):
    for name in ("embedding", "half"):
        (tmp_path / name).mkdir()
    (tmp_path / "embedding" / "config.pbtxt").touch()
    targets = ["local:llm", "openai:gpt", "local:a:b"]
    # b is an adapter of a.
    row = LocalRow("eu", ["us"])
    assert find_far_names(row, targets, "local", tmp_path) == ["a", "embedding", "llm"]
    assert find_far_names(row, [], "local", tmp_path / "none") == []
    assert find_far_names(LocalRow("eu"), targets, "local", tmp_path) is None


@pytest.mark.parametrize("region", ["", "us-east ", " us-east"])
def test_a_rule_that_can_be_of_no_region_is_refused(region):
    with pytest.raises(SettingError, match=r"tenants\.acme\.forbid_regions: .* is no name of a region"):
        parse_gateway_file(f'[tenants.acme]\nforbid_regions = ["{region}"]'.encode(), "gateway.toml")


@pytest.mark.parametrize(
    ("row", "has_rules"),
    [
        (LocalRow(), True),
        (LocalRow("eu"), False),
        (LocalRow("us", ["eu"]), False),
        (LocalRow("eu", ["asia"]), False),
    ],
)
def test_a_gateway_that_does_not_know_the_regions_of_its_machines_envoy_is_refused(row, has_rules):
    with pytest.raises(SettingError, match=r'\[local\] .*region = "eu", other_regions = \["us"\]'):
        check_regions_of_file(row, ("eu", "us"), "gateway.toml", has_rules=has_rules)


def test_a_gateway_may_know_more_regions_than_envoy_and_without_rules_none():
    # A tenant's home may be where no calls go.
    check_regions_of_file(LocalRow("eu", ["asia", "us"]), ("eu", "us"), "gateway.toml", has_rules=True)
    check_regions_of_file(LocalRow(), ("eu", "us"), "gateway.toml", has_rules=False)
