"""What the chart promises of its pods and autoscalers, and what it refuses."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from trireme.cli import _parser
from trireme.gateway.file import parse_gateway_file
from trireme.settings import PREFIX, Settings, read_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
OWN = yaml.safe_load((CHART / "values.yaml").read_text())
EVERYWHERE = "0.0.0.0"  # noqa: S104 - in a pod
KEY = {"name": "A", "secret": "a", "key": "b"}
GPU = {"target": "gpu", "resources": {"limits": {"nvidia.com/gpu": 1}}}


TWO = [{"name": "a"}, {"name": "b", "balancer": "b.example.org:8010"}]
SAFE = {"regions": TWO, "secrets": {"region": {"secret": "s"}}}


def llm(**entry):
    return {"models": {"llm": entry}}


def of_kind(objects, kind):
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def pods(objects):
    return {name: one["spec"]["template"]["spec"] for name, one in of_kind(objects, "Deployment").items()}


def containers(pod):
    return [*pod.get("initContainers", []), *pod["containers"]]


def servers(objects):
    """Pods of tritonservers: the pod, its agent and its server."""
    return [
        (pod, pod["initContainers"][0], pod["containers"][0])
        for pod in pods(objects).values()
        if pod["containers"][0]["name"] == "tritonserver"
    ]


def autoscalers(objects):
    """Name of the Deployment -> (least, most, behavior)."""
    scaled = {}
    for name, one in of_kind(objects, "ScaledObject").items():
        spec = one["spec"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        scaled[name] = (spec["minReplicaCount"], spec["maxReplicaCount"], behavior)
    for name, one in of_kind(objects, "HorizontalPodAutoscaler").items():
        scaled[name] = (one["spec"]["minReplicas"], one["spec"]["maxReplicas"], one["spec"]["behavior"])
    return scaled


# --- Autoscaling ---


def test_every_deployment_has_one_autoscaler_with_a_cap_and_a_rate_and_states_no_replicas_itself(variant):
    scaled = autoscalers(variant)
    assert set(scaled) == set(pods(variant))
    assert (
        len(of_kind(variant, "ScaledObject").keys() & of_kind(variant, "HorizontalPodAutoscaler").keys()) == 0
    )
    for name, one in of_kind(variant, "Deployment").items():
        assert "replicas" not in one["spec"], name
    for name, (least, most, behavior) in scaled.items():
        assert 1 <= least <= most <= 100, name
        assert behavior["scaleUp"]["policies"], name


def test_scaling_in_waits(variant):
    for name, (_, _, behavior) in autoscalers(variant).items():
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300, name


def test_replicas_come_and_go_as_each_entry_says(chart):
    scale = {"up": {"percent": 0, "pods": 1}, "down": {"percent": 0, "pods": 1, "periodSeconds": 120}}
    _, _, behavior = autoscalers(chart.objects(llm(scale=scale)))["trireme-llm"]
    assert behavior["scaleUp"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 15}]
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]


def test_the_knobs_are_those_that_were_replayed(objects):
    policies = pytest.importorskip(
        "benchmarks.scaling.policies", reason="benchmarks.scaling is not there yet"
    )
    knobs, own = policies.Knobs(), OWN["scaling"]["defaults"]
    found = (
        own["utilization"],
        own["drainSeconds"],
        own["spare"],
        own["rateSeconds"],
        own["down"]["waitSeconds"],
    )
    replayed = (knobs.utilization, knobs.drain_s, knobs.spare, knobs.window_s, knobs.down_window_s)
    assert found == replayed
    _, _, behavior = autoscalers(objects)["trireme-llm"]
    replayed = policies.ours(knobs).behavior
    for direction, rules in (("scaleUp", replayed.up), ("scaleDown", replayed.down)):
        assert behavior[direction]["stabilizationWindowSeconds"] == rules.window_s
        policy = {
            (one["type"], one["value"], one["periodSeconds"]) for one in behavior[direction]["policies"]
        }
        assert policy == {(one.kind, one.value, one.period_s) for one in rules.policies}


def test_a_signal_that_is_lost_scales_nothing_in(objects):
    scaled = of_kind(objects, "ScaledObject")
    assert len(scaled) == 4
    for one in scaled.values():
        assert one["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert one["spec"]["fallback"]["replicas"] >= one["spec"]["minReplicaCount"]
        for trigger in one["spec"]["triggers"]:
            assert trigger["metadata"]["ignoreNullValues"] == "false"
            assert "vector(" not in trigger["metadata"]["query"]


def test_keda_is_given_nothing_that_it_leaves_unheard(objects):
    for one in of_kind(objects, "ScaledObject").values():
        assert not {"pollingInterval", "cooldownPeriod", "idleReplicaCount"} & set(one["spec"])


def test_latency_is_compared_as_a_value_and_all_else_as_an_average(chart):
    p95 = {"models": {"retrieval": {"scale": {"on": "p95", "target": 0.25}}}}
    trigger = of_kind(chart.objects(p95), "ScaledObject")["trireme-retrieval"]["spec"]["triggers"][0]
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("Value", "0.25")
    own = of_kind(chart.objects(), "ScaledObject")
    types = {name: one["spec"]["triggers"][0]["metricType"] for name, one in own.items()}
    assert set(types.values()) == {"AverageValue"}
    assert own["trireme-llm"]["spec"]["triggers"][0]["metadata"]["threshold"] == "1"
    hpa = of_kind(chart.objects({**p95, "scaling": {"autoscaler": "hpa"}}), "HorizontalPodAutoscaler")
    metric = hpa["trireme-retrieval"]["spec"]["metrics"][0]["external"]
    assert metric["target"] == {"type": "Value", "value": "0.25"}
    assert metric["metric"]["name"] == "trireme_scale_signal"


def test_all_autoscalers_read_the_one_series_that_the_rules_make_for_them(objects):
    rule = next(iter(of_kind(objects, "PrometheusRule").values()))
    made = {
        rule["labels"]["deployment"]
        for group in rule["spec"]["groups"]
        for rule in group["rules"]
        if rule.get("record") == "trireme:scale_signal"
    }
    scaled = of_kind(objects, "ScaledObject")
    assert made == set(scaled)
    for name, one in scaled.items():
        query = one["spec"]["triggers"][0]["metadata"]["query"]
        assert query == f'trireme:scale_signal{{namespace="trireme",deployment="{name}"}}'


def test_the_target_of_a_cpu_entry_is_what_was_measured_for_its_cores(objects):
    read = json.loads((ROOT / "benchmarks" / "results" / "scaling-target.json").read_text())
    (search,) = [one for one in read["found"] if one["model"] == "search"]
    entry = OWN["models"]["retrieval"]
    cores = int(entry["resources"]["requests"]["cpu"])
    # Whole requests, of a measurement that is no finer.
    assert entry["scale"]["target"] == pytest.approx(
        search["target"] / read["circumstances"]["cores"] * cores, rel=0.1
    )


# --- Starting and ending ---


def test_a_replica_gets_calls_when_its_agent_says_so_and_time_to_warm_up(objects):
    for pod, agent, server in servers(objects):
        port = agent["ports"][0]["containerPort"]
        assert server["startupProbe"]["grpc"] == {"port": port} == server["readinessProbe"]["grpc"]
        name = server["volumeMounts"]
        assert name
        probe = server["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 300
        assert pod["initContainers"][0]["restartPolicy"] == "Always"


def test_the_agent_drains_before_the_server_is_told_to_end_and_the_grace_is_longer_than_that(variant):
    for pod, agent, server in servers(variant):
        line = server["lifecycle"]["preStop"]["exec"]["command"][-1]
        drained, otherwise = line.split(" || ")
        words = shlex.split(drained)
        assert words[:3] == ["trireme", "drain", "--agent"]
        assert words[3] == f"127.0.0.1:{agent['ports'][1]['containerPort']}"
        longest = int(words[words.index("--seconds") + 1])
        left = int(otherwise.removeprefix("sleep "))
        exits = next(arg for arg in server["args"] if arg.startswith("--exit-timeout-secs="))
        assert pod["terminationGracePeriodSeconds"] > longest + left + int(exits.split("=")[1])
        assert f"--drain-seconds={longest}" in agent["args"]


def test_a_drain_lasts_as_long_as_the_longest_answer_of_the_entry(chart):
    slow = {"models": {"llm": {"drain": {"longestAnswerSeconds": 900}}}}
    found = {name: pod["terminationGracePeriodSeconds"] for name, pod in pods(chart.objects(slow)).items()}
    assert found["trireme-llm"] > 900 > found["trireme-retrieval"] > 300


def test_gateway_and_envoy_wait_for_their_calls_too(objects):
    for name in ("trireme-gateway", "trireme-envoy"):
        pod = pods(objects)[name]
        command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        leave, longest = (int(word) for word in command[2:4])
        assert pod["terminationGracePeriodSeconds"] > leave + longest
        script = command[1].removeprefix("/etc/trireme/")
        assert (CHART / "files" / script).is_file()
        maps = of_kind(objects, "ConfigMap")
        assert any(one["data"].get(script) == (CHART / "files" / script).read_text() for one in maps.values())


def test_gateway_and_envoy_wait_as_long_as_the_slowest_entry(chart):
    slow = {"models": {"llm": {"drain": {"longestAnswerSeconds": 900}}}}
    for name in ("trireme-gateway", "trireme-envoy"):
        pod = pods(chart.objects(slow))[name]
        assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][3] == "900"
        assert pod["terminationGracePeriodSeconds"] > 900


def test_a_new_version_comes_beside_the_old_one_except_on_gpus_which_are_counted(chart):
    quota = {"gpuQuota": 5}
    for values, expected in (
        ({}, {"maxSurge": 1, "maxUnavailable": 0}),
        ({**quota, "models": {"llm": GPU}}, {"maxSurge": 0, "maxUnavailable": 1}),
        ({**quota, "models": {"llm": {**GPU, "scale": {"surge": 1}}}}, {"maxSurge": 1, "maxUnavailable": 0}),
    ):
        deployment = of_kind(chart.objects(values), "Deployment")["trireme-llm"]
        assert deployment["spec"]["strategy"]["rollingUpdate"] == expected


# --- Balancing ---


def test_envoy_finds_every_replica_behind_headless_services_and_asks_the_agents(objects):
    services = of_kind(objects, "Service")
    config = yaml.safe_load(of_kind(objects, "ConfigMap")["trireme-envoy"]["data"]["values.yaml"])
    for name in config["models"]:
        service = services[config["envoy"]["service"].replace("{model}", name)]["spec"]
        assert service["clusterIP"] == "None"
        assert service["publishNotReadyAddresses"]
        ports = {port["name"]: port["port"] for port in service["ports"]}
        assert ports["grpc"] == config["envoy"]["serverPort"]
        assert ports["agent"] == config["envoy"]["agentPort"]
    for pod, agent, server in servers(objects):
        assert f"--port={config['envoy']['agentPort']}" in agent["args"]
        assert f"--grpc-port={config['envoy']['serverPort']}" in server["args"]
        assert pod


def test_envoys_values_are_the_charts_with_its_ports_open_to_the_pod_and_the_admin_closed(objects):
    config = yaml.safe_load(of_kind(objects, "ConfigMap")["trireme-envoy"]["data"]["values.yaml"])
    assert config["envoy"]["listen"] == {**OWN["envoy"]["listen"], "address": EVERYWHERE}
    assert config["envoy"]["metrics"] == {**OWN["envoy"]["metrics"], "address": EVERYWHERE}
    assert config["envoy"]["admin"] == OWN["envoy"]["admin"]
    assert OWN["envoy"]["admin"]["address"] == "127.0.0.1"
    for name, entry in OWN["models"].items():
        assert {**entry, **config["models"][name]} == entry


def test_large_numbers_reach_envoy_and_the_settings_as_whole_ones(chart):
    made = chart.objects(
        {
            "envoy": {"retryBodyBytes": 1 << 20},
            "models": {"llm": {"maxRequests": 1_000_000}},
            "settings": {"TRIREME_MAX_DOCUMENT_BYTES": 1 << 30},
        }
    )
    maps = of_kind(made, "ConfigMap")
    config = yaml.safe_load(maps["trireme-envoy"]["data"]["values.yaml"])
    found = (config["envoy"]["retryBodyBytes"], config["models"]["llm"]["maxRequests"])
    assert found == (1 << 20, 1_000_000)
    assert {type(value) for value in found} == {int}
    assert maps["trireme-settings"]["data"] == {"TRIREME_MAX_DOCUMENT_BYTES": str(1 << 30)}


def test_clients_of_the_models_go_through_envoy_and_ask_all_servers_what_they_serve(objects):
    for name in ("trireme-gateway", "trireme-worker"):
        environment = {one["name"]: one.get("value") for one in pods(objects)[name]["containers"][0]["env"]}
        assert environment["TRIREME_HOST"] == "trireme-envoy"
        assert set(environment["TRIREME_SERVER_HOSTS"].split(",")) <= set(of_kind(objects, "Service"))


# --- Regions ---


def test_a_region_alone_has_no_listener_no_controller_and_no_second_service(objects):
    assert [one["name"] for one in containers(pods(objects)["trireme-envoy"])] == ["bootstrap", "envoy"]
    assert "trireme-envoy-region" not in of_kind(objects, "Service")
    config = yaml.safe_load(of_kind(objects, "ConfigMap")["trireme-envoy"]["data"]["values.yaml"])
    assert not {"regionListen", "regionTls"} & set(config["envoy"]) and "regions" not in config


def test_other_regions_find_the_listener_by_a_service_of_its_own(regional):
    service = of_kind(regional, "Service")["trireme-envoy-region"]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["loadBalancerSourceRanges"] == ["10.2.0.0/16"]
    assert service["metadata"]["annotations"]
    (port,) = service["spec"]["ports"]
    ports = {
        one["name"]: one["containerPort"] for one in pods(regional)["trireme-envoy"]["containers"][0]["ports"]
    }
    config = yaml.safe_load(of_kind(regional, "ConfigMap")["trireme-envoy"]["data"]["values.yaml"])
    listen = config["envoy"]["regionListen"]
    assert port["port"] == ports[port["targetPort"]] == listen["port"]
    assert listen["address"] == EVERYWHERE
    # Clients of this region do not get there by their Service.
    assert [one["name"] for one in of_kind(regional, "Service")["trireme-envoy"]["spec"]["ports"]] == ["grpc"]


def test_a_controller_beside_envoy_writes_far_replicas_into_a_folder_that_envoy_reads(regional):
    pod = pods(regional)["trireme-envoy"]
    parts = {one["name"]: one for one in containers(pod)}
    controller = parts["regions"]
    assert controller["restartPolicy"] == "Always"
    # After the bootstrap, which makes empty files where there are none, and before Envoy.
    assert [one["name"] for one in pod["initContainers"]] == ["bootstrap", "regions"]
    mounts = {name: {one["name"]: one for one in part["volumeMounts"]} for name, part in parts.items()}
    folder = mounts["regions"]["far"]["mountPath"]
    assert f"--endpoints={folder}" in controller["command"]
    # Other regions ask it through Envoy how loaded this one is.
    config = yaml.safe_load(of_kind(regional, "ConfigMap")["trireme-envoy"]["data"]["values.yaml"])
    told = config["envoy"]["controller"]
    assert f"--port={told['port']}" in controller["command"] and told["address"] == "127.0.0.1"
    assert controller["ports"][0]["containerPort"] == told["port"]
    assert f"--far-endpoints={folder}" in parts["bootstrap"]["command"]
    assert mounts["envoy"]["far"] == {"name": "far", "mountPath": folder, "readOnly": True}
    assert "readOnly" not in mounts["regions"]["far"] and "readOnly" not in mounts["bootstrap"]["far"]
    assert {one["name"]: one for one in pod["volumes"]}["far"]["emptyDir"]


def test_certificates_of_regions_are_files_of_a_secret_by_name(regional):
    pod = pods(regional)["trireme-envoy"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "region"]
    assert volume["secret"]["secretName"] == "trireme-region"
    tls = yaml.safe_load(of_kind(regional, "ConfigMap")["trireme-envoy"]["data"]["values.yaml"])["envoy"][
        "regionTls"
    ]
    for container in containers(pod):
        (folder,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "region"]
        assert {str(Path(path).parent) for path in tls.values()} == {folder}
    assert {Path(path).name for path in tls.values()} == {"tls.crt", "tls.key", "ca.crt"}


def test_only_other_regions_reach_the_region_listener_and_only_prometheus_the_controller(regional, chart):
    def callers(objects):
        rules = of_kind(objects, "NetworkPolicy")["trireme-envoy"]["spec"]["ingress"]
        return {port["port"]: rule.get("from") for rule in rules for port in rule["ports"]}

    found = callers(regional)
    assert found["region"] == [{"ipBlock": {"cidr": "10.2.0.0/16"}}]
    assert found["regions"] == OWN["networkPolicy"]["prometheus"]
    # With TLS anybody may try.
    tls = {"secrets": {"region": {"secret": "s"}}, "envoy": {"regionListen": {"port": 8010}}}
    assert callers(chart.objects(tls))["region"] is None


def test_prometheus_reads_the_controllers_too(regional):
    ports = [
        one["port"] for one in of_kind(regional, "PodMonitor")["trireme-envoy"]["spec"]["podMetricsEndpoints"]
    ]
    assert ports == ["metrics", "regions"]


def test_calls_in_other_regions_are_capped_as_each_entry_says(regional):
    config = yaml.safe_load(of_kind(regional, "ConfigMap")["trireme-envoy"]["data"]["values.yaml"])
    found = config["models"]["retrieval"]
    assert (found["failoverMaxRequests"], found["failoverBatchRequests"]) == (64, 8)
    assert [one["name"] for one in config["regions"]] == ["eu-west", "us-east"]


def test_the_example_of_each_region_names_the_other_one():
    folder = CHART / "examples"
    read = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
    for name, values in read.items():
        own, *others = values["regions"]
        assert own == {"name": name}
        assert {one["name"] for one in others} == set(read) - {name}
        assert all(one["balancer"].startswith(f"{one['name']}.") for one in others)


# --- Security ---


def test_pods_run_without_rights_and_without_a_token(variant):
    for name, pod in pods(variant).items():
        assert pod["automountServiceAccountToken"] is False, name
        # Else the Service trireme-gateway would set TRIREME_GATEWAY_PORT, which is a setting.
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}


def test_only_named_callers_reach_a_pod(objects):
    policies = of_kind(objects, "NetworkPolicy")
    assert set(policies) == set(pods(objects))
    for name in ("trireme-llm", "trireme-retrieval"):
        callers = {}
        for rule in policies[name]["spec"]["ingress"]:
            for port in rule["ports"]:
                peers = [one.get("podSelector", {}).get("matchLabels", {}) for one in rule["from"]]
                found = [peer.get("app.kubernetes.io/component", "elsewhere") for peer in peers]
                callers.setdefault(port["port"], []).extend(found)
        assert callers["grpc"] == callers["agent"] == ["envoy"]
        assert callers["http"] == ["gateway", "worker"]
        assert callers["metrics"] == ["gateway", "worker", "elsewhere"]
    (rule,) = policies["trireme-worker"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "metrics"}]
    assert "podSelector" not in rule["from"][0]


def test_logs_traces_and_shared_memory_of_tritonserver_are_locked(objects):
    from trireme.triton.fences import LOCKED, LOCKED_HEADER, SHARED_MEMORY, STACK_BYTES

    for _, _, server in servers(objects):
        line = server["command"][2]
        assert f'lock="{SHARED_MEMORY},{",".join(LOCKED)}:{LOCKED_HEADER}=' in line
        assert '--http-restricted-api="$lock" --grpc-restricted-protocol="$lock"' in line
        assert f"ulimit -S -s {STACK_BYTES // 1024}" in line


def test_the_shell_of_a_server_starts_it_with_its_options_and_a_lock_that_nobody_knows(objects, tmp_path):
    fake = tmp_path / "tritonserver"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    _, _, server = servers(objects)[0]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    locks = set()
    for _ in range(2):
        words = [*server["command"], *server["args"]]
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        http, grpc, *rest = ran.stdout.splitlines()
        assert rest == server["args"]
        (key,) = re.findall(r"--http-restricted-api=.*=([0-9a-f]{32})$", http)
        assert grpc.endswith(f"={key}")
        locks.add(key)
    assert len(locks) == 2


def test_secrets_are_references_and_cannot_be_written_into_settings(chart, objects):
    assert "secretKeyRef" in chart.render()
    assert not of_kind(objects, "Secret")
    stores = ("TRIREME_REDIS_URL", "TRIREME_REGION_REDIS_URLS", "TRIREME_REGION_DATABASE_URLS")
    for key in ("TRIREME_DATABASE_URL", "TRIREME_GATEWAY_SECRET", *stores):
        refused = chart.refusal({"settings": {key: "postgresql://user:password@host/database"}})
        assert f"at '/settings': additional properties '{key}' not allowed" in refused
    assert "models.llm.env.TRIREME_DATABASE_URL" in chart.refusal(
        {"models": {"llm": {"env": {"TRIREME_DATABASE_URL": "x"}}}}
    )


def test_what_has_a_machine_kind_notes_hours_and_its_agent_reads_the_database_from_the_secret(chart, objects):
    kinds = {"models": {"llm": {"machineKind": "h200"}}, "gateway": {"machineKind": "small"}}
    made = pods(chart.objects(kinds | {"worker": {"machineKind": "small"}}))
    said = {
        (name, part["name"], one["name"]): one.get("value", one.get("valueFrom"))
        for name, pod in made.items()
        for part in containers(pod)
        for one in part.get("env", [])
    }
    kind, url = "TRIREME_MACHINE_KIND", "TRIREME_DATABASE_URL"
    assert {key[:2]: value for key, value in said.items() if key[2] == kind} == {
        ("trireme-llm", "agent"): "h200",
        ("trireme-gateway", "gateway"): "small",
        ("trireme-worker", "worker"): "small",
    }
    secret = {"secretKeyRef": {"name": "trireme", "key": "database-url"}}
    assert said["trireme-llm", "agent", url] == secret
    assert ("trireme-retrieval", "agent", url) not in said
    assert kind not in json.dumps(objects)
    assert "machineKind" in chart.refusal({"worker": {"machineKind": "two words"}})


def test_gateways_get_the_urls_of_tenants_homes_from_secrets(chart):
    kept = {"secret": "homes", "key": "urls"}
    objects = chart.objects({"secrets": {"homeRedis": kept, "homeDatabases": kept}})
    told = {
        part["name"]: {one["name"] for one in part.get("env", []) if "TRIREME_REGION_" in one["name"]}
        for pod in pods(objects).values()
        for part in containers(pod)
    }
    assert told.pop("gateway") == {"TRIREME_REGION_REDIS_URLS", "TRIREME_REGION_DATABASE_URLS"}
    assert not any(told.values())


# --- What runs in the pods ---


def test_every_variable_of_a_container_is_a_setting_that_a_process_takes(variant):
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    maps = of_kind(variant, "ConfigMap")
    for pod in pods(variant).values():
        for container in containers(pod):
            environment = {}
            for source in container.get("envFrom", []):
                environment |= maps[source["configMapRef"]["name"]]["data"]
            for one in container.get("env", []):
                scheme = "postgresql" if "DATABASE" in one["name"] else "redis"
                region = "eu-west=" if one["name"].startswith("TRIREME_REGION_") else ""
                environment[one["name"]] = one.get("value", f"{region}{scheme}://{'x' * 40}")
            # Of servers behind one address; with trireme.fleet it is a setting.
            if "TRIREME_SERVER_HOSTS" not in known:
                environment.pop("TRIREME_SERVER_HOSTS", None)
            read_settings(environment)


def test_settings_may_name_what_neither_a_secret_nor_the_chart_itself_sets(objects):
    schema = json.loads((CHART / "values.schema.json").read_text())
    allowed = set(schema["properties"]["settings"]["properties"])
    assert {"TRIREME_TENANT", "TRIREME_COLLECTION", "TRIREME_MAX_DOCUMENT_BYTES"} <= allowed
    assert allowed <= {PREFIX + field.name.upper() for field in fields(Settings)}
    secret = {PREFIX + field.name.upper() for field in fields(Settings) if not field.repr}
    own = {
        one["name"]
        for pod in pods(objects).values()
        for part in containers(pod)
        for one in part.get("env", [])
    }
    assert not allowed & (secret | own)


def commands(objects):
    """Every command line of ours that a container, a probe or a hook runs."""
    for pod in pods(objects).values():
        for container in containers(pod):
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [""])[-1]
            for words in (
                [*container.get("command", []), *container.get("args", [])],
                shlex.split(hook.split(" || ")[0]),
            ):
                if words[:1] == ["trireme"]:
                    yield words[1:]


@pytest.mark.parametrize("command", ["gateway", "worker", "agent", "drain", "envoy", "regions"])
def test_the_containers_run_commands_that_exist_with_options_that_they_take(variant, regional, command):
    lines = [words for words in commands(variant) if words[0] == command]
    assert lines or (command == "regions" and variant is not regional)
    for words in lines:
        _parser().parse_args(words)


def test_the_image_has_what_the_containers_need():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    extras = set(re.search(r"pip install -c requirements.lock '\.\[([a-z,]+)\]'", text)[1].split(","))
    assert extras >= {"gateway", "ingest", "openvino", "agent"}
    # wait-for-requests.sh asks the gateway with it.
    assert re.search(r"apt-get install .*\bcurl\b", text)


def test_gateway_toml_arrives_as_it_was_written(chart):
    text = '[models.assistant]\nchain = ["llm"]  # "quoted"\n'
    made = of_kind(chart.objects({"gateway": {"toml": text}}), "ConfigMap")["trireme-gateway"]
    assert made["data"]["gateway.toml"] == text


def gateway_toml(objects):
    return tomllib.loads(of_kind(objects, "ConfigMap")["trireme-gateway"]["data"]["gateway.toml"])


def test_the_gateway_is_told_the_regions_so_that_what_a_tenant_forbids_holds_there(chart, regional):
    assert gateway_toml(regional) == {"local": {"region": "eu-west", "other_regions": ["us-east"]}}
    text = of_kind(regional, "ConfigMap")["trireme-gateway"]["data"]["gateway.toml"]
    read = parse_gateway_file(text.encode(), "gateway.toml")
    assert (read.local.region, list(read.local.other_regions)) == ("eu-west", ["us-east"])
    values = SAFE
    toml = '[tenants.acme]\nforbid_regions = ["b"]\n'
    made = gateway_toml(chart.objects({**values, "gateway": {"toml": toml}}))
    assert made["local"] == {"region": "a", "other_regions": ["b"]}
    assert made["tenants"] == {"acme": {"forbid_regions": ["b"]}}
    own = '[local]\nother_regions = ["b"]\nregion = "a"\n'
    assert gateway_toml(chart.objects({**values, "gateway": {"toml": own}})) == tomllib.loads(own)


def test_a_change_of_settings_starts_the_pods_anew(chart, objects):
    changed = chart.objects({"settings": {"TRIREME_TENANT": "acme"}})
    for name, before in of_kind(objects, "Deployment").items():
        after = of_kind(changed, "Deployment")[name]["spec"]["template"]["metadata"]["annotations"]
        same = after == before["spec"]["template"]["metadata"]["annotations"]
        assert same == (name == "trireme-envoy"), name


# --- Refusals ---


# What Kubernetes and Helm know and the chart passes on as it is: any volume, and what other charts share.
PASSED_ON = {("modelRepository", "volume"), ("global",)}


def objects_of_schema(schema, path=()):
    if schema.get("type") == "object":
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects_of_schema(inner, (*path, name))
    for inner in schema.get("patternProperties", {}).values():
        yield from objects_of_schema(inner, (*path, "NAME"))
    if isinstance(schema.get("items"), dict):
        yield from objects_of_schema(schema["items"], (*path, "-"))


def test_every_map_of_the_values_names_its_keys_or_says_what_their_values_are():
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_ones = {
        path for path, one in objects_of_schema(schema) if one.get("additionalProperties", True) is True
    }
    assert open_ones == PASSED_ON


def test_gpus_beyond_the_quota_are_refused_with_the_numbers(chart):
    said = chart.refusal({"gpuQuota": 3, "models": {"llm": {**GPU, "replicas": {"min": 1, "max": 4}}}})
    assert "gpuQuota: 3 GPUs, but the entries may take 4: models.llm (max 4 + surge 0) x 1 = 4" in said
    assert chart.objects({"gpuQuota": 4, "models": {"llm": {**GPU, "replicas": {"min": 1, "max": 4}}}})


def test_the_quota_counts_every_gpu_entry_and_what_a_rollout_takes_beyond(chart):
    two = {"target": "gpu", "resources": {"limits": {"nvidia.com/gpu": 2}}, "replicas": {"min": 1, "max": 3}}
    draft = {**two, "serves": ["draft"], "scale": {"on": "work", "surge": 1}}
    said = chart.refusal(
        {"gpuQuota": 9, "models": {"draft": draft, "llm": {**GPU, "replicas": {"min": 1, "max": 2}}}}
    )
    assert "the entries may take 10" in said
    assert "models.draft (max 3 + surge 1) x 2 = 8; models.llm (max 2 + surge 0) x 1 = 2" in said


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (llm(replicas={"min": 0}), "at '/models/llm/replicas/min': minimum: got 0, want 1"),
        (llm(replicas={"max": 101}), "at '/models/llm/replicas/max': maximum: got 101, want 100"),
        (llm(replicas={"min": 5}), "models.llm.replicas: min 5 is more than max 4"),
        (llm(replica={}), "at '/models/llm': additional properties 'replica' not allowed"),
        ({"models": {"LLM": {}}}, "at '/models': additional properties 'LLM' not allowed"),
        (llm(target="tpu"), "at '/models/llm/target': value must be one of 'cpu', 'gpu'"),
        (
            {"models": {"gateway": OWN["models"]["llm"]}},
            "models.gateway: the chart has a Deployment of that name",
        ),
        (llm(serves=["llm", "rag"]), "models.retrieval.serves: rag is served by models.llm already"),
        (llm(idempotent=["rag"]), "models.llm.idempotent: rag is not in models.llm.serves"),
        (llm(default=True), "models: llm and retrieval are both default"),
        (llm(target="gpu"), "models.llm.resources.limits: target gpu needs nvidia.com/gpu"),
        (
            llm(resources=GPU["resources"]),
            "models.llm.target: cpu, but models.llm.resources.limits asks for 1",
        ),
        ({"gpuQuota": 4, **llm(**GPU, scale={"on": "requests", "target": 1})}, "a GPU entry scales on work"),
        (llm(scale={"on": "running"}), "at '/models/llm/scale/on': value must be one of"),
        (llm(scale={"on": "p95"}), "models.llm.scale.target is missing: p95 in seconds"),
        (
            llm(drain={"longestAnswerSeconds": 5}),
            "models.llm.drain.longestAnswerSeconds: 5 s would cut answers",
        ),
        (llm(scale={"down": {"percent": 0}}), "trireme-llm: scale.down allows neither pods nor percent"),
        ({"monitoring": {"gatewayKey": None}}, "monitoring.gatewayKey is missing"),
        ({"modelRepository": {"claimName": ""}}, "modelRepository: set claimName or volume"),
        (
            {"modelRepository": {"volume": {"emptyDir": {}}}},
            "modelRepository: claimName and volume are both set",
        ),
        ({"scaling": {"autoscaler": "vpa"}}, "at '/scaling/autoscaler': value must be one of 'keda', 'hpa'"),
        ({"scaling": {"defaults": {"utilization": 2}}}, "at '/scaling/defaults/utilization': maximum: got 2"),
        ({"envoy": {"perTryTimeout": 1}}, "at '/envoy': additional properties 'perTryTimeout' not allowed"),
        ({"secrets": {"database": {"url": "x"}}}, "at '/secrets/database': additional properties 'url' not"),
        ({"worker": {"replicas": {"min": 9}}}, "worker.replicas: min 9 is more than max 4"),
        (
            llm(resources={"limits": {"nvidia.com/gpu": 1.5}}),
            "nvidia.com/gpu must be a whole number, got 1.5",
        ),
        (
            llm(resources={"requests": {"nvidia.com/gpu": 1}}),
            "nvidia.com/gpu is 1 in requests and 0 in limits",
        ),
        (llm(args=["--grpc-port=9"]), "models.llm.args: the chart sets --grpc-port"),
        (llm(env={"HOME": "/x"}), "models.llm.env.HOME: the chart sets it"),
        (llm(env={"A B": "x"}), "at '/models/llm/env': additional properties 'A B' not allowed"),
        ({"envoy": {"agentPort": 8001}}, "envoy.agentPort and envoy.serverPort are both port 8001"),
        ({"envoy": {"agentPort": 7999}}, "envoy.agentPort + 1 and tritonserver's HTTP are both port 8000"),
        ({"envoy": {"serverPort": 8002}}, "envoy.serverPort and tritonserver's metrics are both port 8002"),
        ({"envoy": {"agentPort": 65535}}, "envoy.agentPort: at most 65534"),
        ({"envoy": {"metrics": {"port": 9901}}}, "envoy.metrics need ports of their own: 8001, 9901, 9901"),
        ({"envoy": {"admin": {"address": EVERYWHERE}}}, "envoy.admin.address: 0.0.0.0"),
        ({"envoy": {"slowStartSeconds": 30}}, "envoy.slowStartSeconds needs envoy.balancing"),
        ({"envoy": {"hedging": True, "perTryTimeoutSeconds": 0}}, "envoy.hedging needs"),
        ({"envoy": {"perTryTimeoutSeconds": 0.001}}, "at '/envoy/perTryTimeoutSeconds': minimum: got 0.001"),
        ({"envoy": {"outlierSeconds": 1e6}}, "at '/envoy/outlierSeconds': maximum"),
        ({"envoy": {"healthIntervalSeconds": 5}}, "drain.leaveSeconds: 10, but Envoy notices after 15 s"),
        ({"gateway": {"scale": {"on": "cpu", "target": 60.5}}}, "gateway.scale.target: 60.5"),
        ({"gateway": {"keys": [KEY, KEY]}}, "gateway.keys: A is set already"),
        ({"gateway": {"keys": [{**KEY, "name": "TRIREME_REDIS_URL"}]}}, "TRIREME_REDIS_URL is a setting"),
        ({"modelRepository": {"subPath": "../x"}}, "at '/modelRepository/subPath'"),
        ({"modles": {}}, "additional properties 'modles' not allowed"),
        ({"gateway": {"toml": "[models"}}, "gateway.toml: toml"),
        (
            {"regions": [{"name": "a", "host": "b"}]},
            "at '/regions/0': additional properties 'host' not allowed",
        ),
        (
            {"regions": [{"name": "a", "balancer": "b:1"}]},
            "regions[0].balancer: a is this release's own region",
        ),
        ({"regions": [{"name": "a"}, {"name": "a"}]}, "regions[1].name: a stands twice"),
        ({"regions": [{"name": "a"}, {"name": "b"}]}, "regions[1].balancer is missing"),
        ({"regions": TWO}, "secrets.region is missing"),
        ({"envoy": {"regionListen": {"port": 8010}}}, "secrets.region is missing"),
        (
            {"envoy": {"regionListen": {"port": 8010}, "regionInsecure": True}},
            "networkPolicy.regionClients is missing",
        ),
        (
            {"regions": TWO, "secrets": {"region": {"secret": "s"}}, "envoy": {"regionInsecure": True}},
            "envoy.regionInsecure: take it away",
        ),
        (
            {"envoy": {"regionListen": {"port": 8001}, "regionInsecure": True}},
            "envoy.regionListen need ports of their own: 8001, 9901, 9902, 8001",
        ),
        (
            {"regions": TWO, "balancer": {"regions": {"port": 9902}}},
            "balancer.regions.port need ports of their own: 8001, 9901, 9902, 9902",
        ),
        (
            {**SAFE, "gateway": {"toml": '[local]\nregion = "a"\n'}},
            "[local] names the regions a, but regions names a, b",
        ),
        (
            {**SAFE, "gateway": {"toml": '[local]\nregion = "b"\nother_regions = ["a"]\n'}},
            "local.region is b, but regions[0] is a",
        ),
        ({"envoy": {"regionTls": {}}}, "at '/envoy': additional properties 'regionTls' not allowed"),
        (
            llm(tolerations=[{"keys": "a"}]),
            "at '/models/llm/tolerations/0': additional properties 'keys' not allowed",
        ),
        ({"gateway": {"resources": {"limit": {}}}}, "at '/gateway/resources': additional properties 'limit'"),
        (
            {"networkPolicy": {"envoyClients": [{"podSelector": {"labels": {}}}]}},
            "at '/networkPolicy/envoyClients/0/podSelector': additional properties 'labels' not allowed",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_and_named(chart, values, words):
    assert words in chart.refusal(values)


def test_a_pods_name_is_not_cut_for_rules_find_replicas_by_it(chart):
    entry = {**OWN["models"]["llm"], "serves": ["x"]}
    for letters, is_refused in ((15, False), (16, True)):
        file = chart._folder / "long.yaml"
        file.write_text(yaml.safe_dump({"models": {"x" * 30: entry}}))
        command = [chart.helm, "template", "r" * letters, CHART, "--values", file]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (said.returncode != 0) is is_refused
        assert ("has 47 letters, at most 46" in said.stderr) is is_refused


def test_texts_that_yaml_would_take_for_something_else_stay_texts(chart):
    odd = {
        "models": {
            "123": {**OWN["models"]["llm"], "serves": ["true", "1.5", "a.b"], "default": False},
            "llm": {
                "args": ["--log-format=a: b", "--x=1 #y"],
                "env": {"true": "on"},
                "runtimeClassName": "null",
                "image": "x: y",
            },
        },
        "secrets": {"redis": {"secret": "123", "key": "on"}},
        "modelRepository": {"claimName": "123"},
        "image": {"pullSecrets": ["1"]},
        "balancer": {"image": "z: #1"},
        "scaling": {"prometheus": "http://p #q: r"},
        "monitoring": {"runbook": "r: #1"},
        "gateway": {"toml": "  # indented\na = 1\n"},
    }
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="make installs it with the tools")
    objects = chart.objects(odd)
    for one in objects:
        # Those of KEDA and of the operator have schemas of their own.
        if "." not in one["apiVersion"] or "k8s.io" in one["apiVersion"]:
            kubernetes_validate.validate(one, "1.32", strict=True)
    server = pods(objects)["trireme-llm"]["containers"][0]
    assert server["args"][-2:] == odd["models"]["llm"]["args"]
    assert server["image"] == "x: y"
    assert pods(objects)["trireme-envoy"]["containers"][0]["image"] == "z: #1"
    triggers = of_kind(objects, "ScaledObject")["trireme-llm"]["spec"]["triggers"]
    assert triggers[0]["metadata"]["serverAddress"] == "http://p #q: r"
    assert of_kind(objects, "ConfigMap")["trireme-gateway"]["data"]["gateway.toml"] == odd["gateway"]["toml"]
    mounts = pods(objects)["trireme-123"]["containers"][0]["volumeMounts"]
    assert [one["subPath"] for one in mounts if one["name"] == "models"] == ["true", "1.5", "a.b"]
    # A dot stands for itself.
    rules = of_kind(objects, "PrometheusRule")["trireme"]["spec"]["groups"][0]["rules"]
    assert r'model=~"true|1\\.5|a\\.b"' in rules[0]["expr"]
