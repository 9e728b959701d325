import pytest

from trireme.scale.clusters import admin_cluster, clusters_of
from trireme.scale.values import EnvoyValues, parse_values

ENTRY = {"serves": ["llm"], "maxRequests": 64, "failoverMaxRequests": 8}
REGIONS = [{"name": "here"}, {"name": "there"}]


def clusters(folder, **more):
    values = parse_values({"models": {"llm": ENTRY}, **more}, "v")
    return {one["name"]: one for one in clusters_of(values.models[0], values, folder)}


def balancing(folder, **envoy):
    (policy,) = clusters(folder, envoy=envoy)["llm"]["load_balancing_policy"]["policies"]
    return policy["typed_extension_config"]["typed_config"]


def thresholds(cluster):
    (one,) = cluster["circuit_breakers"]["thresholds"]
    return one


def test_an_entry_of_one_machine_is_a_file_and_of_kubernetes_a_name(tmp_path):
    assert list(clusters(tmp_path)) == ["llm"]
    source = clusters(tmp_path)["llm"]["eds_cluster_config"]["eds_config"]["path_config_source"]
    assert source == {"path": str(tmp_path / "llm.json")}
    by_dns = clusters(None, envoy={"service": "r-{model}.ns", "serverPort": 7001, "agentPort": 7003})["llm"]
    (locality,) = by_dns["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    assert endpoint["endpoint"] == {
        "address": {"socket_address": {"address": "r-llm.ns", "port_value": 7001}},
        "health_check_config": {"port_value": 7003},
    }
    # Of two replicas one may be lost without a call that leaves the region.
    assert by_dns["load_assignment"]["policy"] == {"overprovisioning_factor": 200}
    bare = clusters(None, envoy={"agentPort": 0})["llm"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    assert "health_check_config" not in bare["endpoint"]


def test_with_regions_what_fails_over_has_a_breaker_of_its_own(tmp_path):
    found = clusters(tmp_path, regions=REGIONS)
    assert list(found) == ["llm_near", "llm_far", "llm"]
    assert found["llm"]["cluster_type"]["typed_config"]["clusters"] == ["llm_near", "llm_far"]
    assert thresholds(found["llm_near"])["max_requests"] == 64
    assert thresholds(found["llm_far"])["max_requests"] == 8
    assert found["llm_far"]["eds_cluster_config"]["service_name"] == "llm_far"


def test_connections_to_other_regions_have_a_time_out_of_their_own(tmp_path):
    found = clusters(tmp_path, regions=REGIONS, envoy={"connectTimeoutSeconds": 0.25})
    assert {name: one["connect_timeout"] for name, one in found.items()} == {
        "llm_near": "0.25s",
        "llm_far": "1s",
        "llm": "0.25s",
    }
    found = clusters(tmp_path, regions=REGIONS, envoy={"farConnectTimeoutSeconds": 2})
    assert (found["llm_near"]["connect_timeout"], found["llm_far"]["connect_timeout"]) == ("1s", "2s")


def order_of(cluster):
    return cluster["cluster_type"]["typed_config"]["clusters"]


def test_batch_calls_that_may_fail_over_have_a_breaker_of_their_own_over_the_same_replicas(tmp_path):
    models = {"llm": {**ENTRY, "failoverBatchRequests": 3}}
    values = parse_values({"models": models, "regions": REGIONS}, "v")
    found = {one["name"]: one for one in clusters_of(values.models[0], values, tmp_path)}
    assert list(found) == ["llm_near", "llm_far", "llm", "llm_far_batch", "llm_batch"]
    assert order_of(found["llm_batch"]) == ["llm_near", "llm_far_batch"]
    assert thresholds(found["llm_far_batch"])["max_requests"] == 3
    assert found["llm_far_batch"]["eds_cluster_config"] == found["llm_far"]["eds_cluster_config"]
    for name in ("llm", "llm_batch"):
        assert thresholds(found[name])["retry_budget"]["budget_percent"] == {"value": 20}


def test_what_spills_goes_by_the_relay_and_then_near(tmp_path):
    found = clusters(tmp_path, regions=REGIONS, envoy={"spill": True})
    assert list(found) == ["llm_near", "llm_far", "llm", "llm_relay", "llm_away"]
    assert order_of(found["llm_away"]) == ["llm_relay", "llm_near"]
    assert list(clusters(tmp_path, envoy={"spill": True})) == ["llm"]
    # All that the near replicas may have may be such.
    budget = thresholds(found["llm_away"])["retry_budget"]
    assert budget == {"budget_percent": {"value": 100}, "min_retry_concurrency": 64}
    assert thresholds(found["llm"])["retry_budget"]["budget_percent"] == {"value": 20}


def test_breakers_count_calls_and_show_what_is_left_and_retries_have_a_budget(tmp_path):
    one = thresholds(clusters(tmp_path, envoy={"retryBudgetPercent": 30, "minRetryConcurrency": 50})["llm"])
    assert one["retry_budget"] == {"budget_percent": {"value": 30}, "min_retry_concurrency": 50}
    assert one["track_remaining"] is True
    assert one["max_pending_requests"] == 64


def test_least_request_looks_at_all_replicas(tmp_path):
    assert balancing(tmp_path)["selection_method"] == "FULL_SCAN"


def test_a_slow_start_and_load_reports_come_with_the_policies_that_have_them(tmp_path):
    slow = {"slow_start_window": "30s"}
    assert "slow_start_config" not in balancing(tmp_path, balancing="roundRobin")
    assert balancing(tmp_path, balancing="roundRobin", slowStartSeconds=30)["slow_start_config"] == slow
    orca = balancing(tmp_path, balancing="orca", slowStartSeconds=30, orcaSeconds=0.5, agentPort=7003)
    assert orca["slow_start_config"] == slow
    assert orca["oob_reporting_config"] == {"port_value": 7003}
    assert orca["oob_reporting_period"] == "0.5s"


def test_no_panic_sends_calls_to_a_replica_that_drains(tmp_path):
    for name, cluster in clusters(tmp_path, regions=REGIONS).items():
        if name != "llm":
            assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}
            assert cluster["common_lb_config"]["update_merge_window"] == "0s"


def test_health_is_asked_as_often_without_calls_as_with_them(tmp_path):
    (check,) = clusters(tmp_path, envoy={"healthIntervalSeconds": 0.3})["llm"]["health_checks"]
    assert check["interval"] == check["no_traffic_interval"] == "0.3s"
    assert "grpc_health_check" in check


def test_errors_of_requests_eject_nobody(tmp_path):
    one = clusters(tmp_path)["llm"]["outlier_detection"]
    assert one["enforcing_consecutive_5xx"] == one["enforcing_success_rate"] == 0
    assert one["split_external_local_origin_errors"] is True


@pytest.mark.parametrize(("seconds", "has_pings"), [(0, False), (0.5, True)])
def test_pings_can_be_turned_off(tmp_path, seconds, has_pings):
    cluster = clusters(tmp_path, envoy={"keepaliveIntervalSeconds": seconds})["llm"]
    (options,) = cluster["typed_extension_protocol_options"].values()
    http2 = options["explicit_http_config"]["http2_protocol_options"]
    assert ("connection_keepalive" in http2) is has_pings


def test_the_admin_cluster_has_a_name_that_no_entry_can_have():
    assert not admin_cluster(EnvoyValues())["name"].isalnum()
    assert "_" in admin_cluster(EnvoyValues())["name"]
