"""What Envoy says of replicas, in the words of a real one."""

from trireme.fleet.envoy_process import read_clusters


def host(port, **health):
    address = {"socket_address": {"address": "127.0.0.11", "port_value": port}}
    return {"address": address, "health_status": health}


def test_a_replica_is_healthy_draining_or_at_fault():
    said = {
        "cluster_statuses": [
            {"name": "other", "host_statuses": [host(1, eds_health_status="HEALTHY")]},
            {
                "name": "models",
                "host_statuses": [
                    host(2, eds_health_status="HEALTHY"),
                    host(3, eds_health_status="DRAINING"),
                    host(4, eds_health_status="DRAINING", failed_active_health_check=True),
                    host(5, eds_health_status="HEALTHY", failed_active_health_check=True),
                    host(6, eds_health_status="HEALTHY", failed_outlier_check=True),
                    host(7, eds_health_status="HEALTHY", pending_active_hc=True),
                ],
            },
        ]
    }
    seen = {port: state for (_, port), state in read_clusters(said, "models").items()}
    assert seen == {
        2: "healthy",
        3: "draining",
        4: "draining",
        5: "unhealthy",
        6: "unhealthy",
        7: "unhealthy",
    }


def test_a_cluster_without_replicas_has_none():
    assert read_clusters({"cluster_statuses": [{"name": "models"}]}, "models") == {}
