"""The real Envoy before a real tritonserver: what the two make of each other's HTTP/2."""

import os
import shutil

import numpy as np
import pytest
from stacks import free_ports

from fakes.balancers import Balancer, code_of
from trireme.scale.endpoints import Endpoint
from trireme.triton.server import ServerConfig, TritonServer

CONFIG = """
name: "slow" backend: "python" max_batch_size: 0
input [{ name: "seconds" data_type: TYPE_FP32 dims: [1] }]
output [{ name: "number" data_type: TYPE_FP32 dims: [1] }]
model_transaction_policy { decoupled: true }
instance_group [{ count: 1 kind: KIND_CPU }]
"""
MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(2):
                sender.send(pb.InferenceResponse([pb.Tensor("number", np.array([number], np.float32))]))
                time.sleep(float(pb.get_input_tensor_by_name(request, "seconds").as_numpy()[0]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    version = folder / "models" / "slow" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    (version / "model.py").write_text(MODEL)
    (folder / "backends").mkdir()
    http, grpc, metrics = free_ports(3)
    config = ServerConfig(
        "127.0.0.1", http, grpc, metrics, folder / "models", folder / "backends", folder / "log"
    )
    with TritonServer(config, os.environ) as running:
        running.wait_until_ready(180)
        yield running
    shutil.rmtree(folder / "backends")


@pytest.fixture(scope="module")
def balancer(server, tmp_path_factory):
    models = {"all": {"serves": ["slow"]}}
    running = Balancer(tmp_path_factory.mktemp("envoy"), models, keepaliveIntervalSeconds=0.1)
    # Without an agent: the server's own health.
    running.place(Endpoint("127.0.0.1", server.config.grpc_port))
    yield running
    running.close()


def stream(balancer, seconds):
    request = balancer.request("slow")
    request.inputs.add(name="seconds", datatype="FP32", shape=[1])
    request.raw_input_contents.append(np.array([seconds], np.float32).tobytes())
    parts = balancer.open_stream("slow", iter([request]))
    return [
        float(np.frombuffer(part.infer_response.raw_output_contents[0], np.float32)[0])
        for part in parts
        if part.infer_response.outputs
    ]


def test_a_stream_that_is_quiet_for_ten_pings_comes_whole(balancer):
    # A tritonserver with gRPC's own limit of pings ends it: UNAVAILABLE, "Too many pings".
    assert stream(balancer, seconds=1.0) == [0.0, 1.0]


def test_what_changes_a_server_does_not_pass(balancer):
    from tritonclient.grpc import service_pb2 as messages

    request = messages.RepositoryModelUnloadRequest(model_name="slow")
    assert code_of(lambda: balancer.stub.RepositoryModelUnload(request)) == "UNIMPLEMENTED"
    request = messages.ModelReadyRequest(name="slow")
    assert balancer.stub.ModelReady(request).ready
