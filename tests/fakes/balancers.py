"""A real Envoy over a folder of endpoints, and a client of it."""

import contextlib
import json
import subprocess
import time
import urllib.request

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from fakes.ports import free_ports
from trireme.errors import UnsupportedError
from trireme.scale import endpoints
from trireme.scale.clusters import ADMIN_CLUSTER
from trireme.scale.envoy import arguments, bootstrap, find_envoy
from trireme.scale.region_tls import write_secrets
from trireme.scale.routes import MODEL_HEADER
from trireme.scale.spill import write_shares
from trireme.scale.values import parse_values

CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# Looks often, and takes no slowness for a fault; who is left stays so for as long as a test runs.
QUICK = {
    "healthIntervalSeconds": 0.05,
    "healthTimeoutSeconds": 5,
    "outlierSeconds": 600,
    "perTryTimeoutSeconds": 0,
    "keepaliveTimeoutSeconds": 20,
}


def envoy_program():
    try:
        return find_envoy()
    except UnsupportedError as error:
        pytest.skip(str(error))


class Balancer:
    """Envoy with the entries `models` and settings `envoy`; close it."""

    def __init__(self, folder, models, regions=(), has_files=True, **envoy):
        self.program = envoy_program()
        self.folder = folder
        grpc_port, self.admin_port, self.metrics_port = free_ports(3)
        ports = {
            name: {"address": "127.0.0.1", "port": port}
            for name, port in (
                ("listen", grpc_port),
                ("admin", self.admin_port),
                ("metrics", self.metrics_port),
            )
        }
        raw = {
            "models": models,
            "envoy": {**QUICK, **ports, **envoy},
            # By name alone, or as the file has them.
            "regions": [{"name": r} if isinstance(r, str) else r for r in regions],
        }
        self.values = parse_values(raw, "test")
        for entry in self.values.models:
            place_in(folder, entry.name, [])
        if self.values.envoy.region_tls is not None:
            write_secrets(folder, self.values.envoy.region_tls, self.values.other_regions)
        if self.values.envoy.spill:
            write_shares(folder, {})
        file = folder / "envoy.json"
        made = bootstrap(
            self.values, endpoints=folder if has_files else None, far_endpoints=folder, secrets=folder
        )
        file.write_text(json.dumps(made))
        self.log = (folder / "envoy.log").open("wb")
        command = arguments(self.program, file, self.values.envoy)
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.address = f"127.0.0.1:{grpc_port}"
        self.channel = grpc.insecure_channel(self.address, CHANNEL_OPTIONS)
        self.region_port = self.values.envoy.region_listen.port if self.values.envoy.region_listen else 0
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.wait_until(self._is_ready)

    def close(self):
        self.channel.close()
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def _is_ready(self):
        assert self.process.poll() is None, (self.folder / "envoy.log").read_text()
        with contextlib.suppress(OSError):
            return self.fetch("/ready") == "LIVE\n"
        return False

    def fetch(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}") as answer:
            return answer.read().decode()

    def wait_until(self, condition, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"did not happen within {seconds:.0f} s"
            time.sleep(0.02)

    def stat(self, name):
        """A counter or gauge; 0 where Envoy has none of that name yet."""
        lines = dict(line.split(": ") for line in self.fetch(f"/stats?filter=^{name}$").splitlines())
        return int(lines.get(name, 0))

    def hosts(self):
        """Port of each replica that Envoy knows, with its state of health."""
        clusters = json.loads(self.fetch("/clusters?format=json"))["cluster_statuses"]
        found = {}
        for cluster in clusters:
            for host in cluster.get("host_statuses", []):
                # Those of Envoy's own have no port. What is in two clusters is well where it is so in both.
                at = host["address"].get("socket_address")
                if at and cluster["name"] != ADMIN_CLUSTER:
                    found.setdefault(at["port_value"], {}).update(host["health_status"])
        return found

    def is_out(self, replica):
        """Whether a replica has failed its checks."""
        return self.hosts()[replica.port].get("failed_active_health_check", False)

    def leaves(self, *some, model="rag", calls=10):
        """Whether so many calls all reach others. Envoy says what is so before its threads act by it."""
        before = [one.calls for one in some]
        for _ in range(calls):
            self.infer(model)
        return [one.calls for one in some] == before

    def priority_of(self, replica):
        """The priority of a replica within its cluster."""
        found = f"127.0.0.1:{replica.port}::priority::"
        return next(
            int(line.split("::")[-1]) for line in self.fetch("/clusters").splitlines() if found in line
        )

    def place(self, *some, entry=None):
        """Replaces the replicas of an entry and waits until Envoy has all of them as they are said to be.

        Each is a replica, or an endpoint. Those of which one waits to be unhealthy are not placed by this.
        """
        wanted = [one if isinstance(one, endpoints.Endpoint) else one.endpoint() for one in some]
        place_in(self.folder, entry or self.values.default.name, wanted)

        def is_so():
            hosts = self.hosts()
            return set(hosts) >= {one.port for one in wanted} and all(
                (hosts[one.port].get("eds_health_status") == "DRAINING") == (one.state == "draining")
                and not {"failed_active_health_check", "pending_active_hc"} & set(hosts[one.port])
                for one in wanted
            )

        self.wait_until(is_so)

    def request(self, model, **fields):
        return messages.ModelInferRequest(model_name=model, **fields)

    def infer(self, model="", metadata=(), timeout=30.0, **fields):
        return self.stub.ModelInfer(
            self.request(model, **fields), metadata=[*_named(model), *metadata], timeout=timeout
        )

    def start(self, model="", metadata=()):
        """A call that runs on."""
        return self.stub.ModelInfer.future(
            self.request(model), metadata=[*_named(model), *metadata], timeout=30.0
        )

    def open_stream(self, model="", requests=None, metadata=()):
        requests = requests or iter([self.request(model)])
        return self.stub.ModelStreamInfer(requests, metadata=[*_named(model), *metadata], timeout=30.0)

    def stream(self, model="", metadata=()):
        """The texts of a whole stream."""
        return [part.infer_response.id for part in self.open_stream(model, metadata=metadata)]


def place_in(folder, entry, some):
    """Near and far endpoints, by their priorities."""
    # The far ones first: while calls move there they are known.
    endpoints.write_far(folder, entry, [one for one in some if one.priority])
    endpoints.write_near(folder, entry, [one for one in some if not one.priority])


def _named(model):
    return [(MODEL_HEADER, model)] if model else []


def code_of(call):
    """The status with which a call fails; fails the test where it does not."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code().name
