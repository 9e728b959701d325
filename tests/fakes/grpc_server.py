"""A gRPC server of the KServe v2 protocol whose answers a person can predict."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2_grpc
from tritonclient.grpc import service_pb2 as messages


def response_of(outputs, *, is_last=True, request_id=""):
    """A ModelInferResponse of arrays by name; text as BYTES."""
    response = messages.ModelInferResponse(id=request_id)
    for name, rows in outputs.items():
        array = np.array(rows)
        if array.dtype.kind == "U":
            raw = b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in array.reshape(-1))
            datatype = "BYTES"
        else:
            datatype = {"f": "FP32", "i": "INT32"}[array.dtype.kind]
            raw = array.astype(np.float32 if datatype == "FP32" else np.int32).tobytes()
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(raw)
    response.parameters["triton_final_response"].bool_param = is_last
    return response


def config_of(name, *, backend="", platform="", inputs=(), outputs=(), engine="", rows=0, adapters=""):
    """What a server says of one of its models."""
    config = model_config_pb2.ModelConfig(name=name, backend=backend, platform=platform, max_batch_size=rows)
    for one in inputs:
        config.input.add(name=one)
    for one in outputs:
        config.output.add(name=one)
    if engine:
        config.parameters["engine"].string_value = engine
    if adapters:
        config.parameters["adapters"].string_value = adapters
    return config


class ScriptedServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """`infer(request, context)` gives an answer, `stream(request, context)` its responses, one by one."""

    def __init__(self):
        self.infer = lambda request, context: response_of({"x": [[1]]})
        self.stream = lambda request, context: iter(())
        self.requests = []
        self.cancelled = 0
        self.configs = {}
        self.config_questions = []
        self.ready = {"embedding"}
        # Metadata of each question that a client asks of what is served.
        self.routes = []

    def ModelInfer(self, request, context):  # noqa: N802 - the protocol's name
        self.requests.append(request)
        return self.infer(request, context)

    def ModelStreamInfer(self, requests, context):  # noqa: N802 - the protocol's name
        request = next(requests)
        self.requests.append(request)
        for one in self.stream(request, context):
            if isinstance(one, str):
                yield messages.ModelStreamInferResponse(error_message=one)
            else:
                yield messages.ModelStreamInferResponse(infer_response=one)

    def ModelConfig(self, request, context):  # noqa: N802 - the protocol's name
        self.config_questions.append(request.name)
        if request.name not in self.configs:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found"
            )
        return messages.ModelConfigResponse(config=self.configs[request.name])

    def ServerReady(self, request, context):  # noqa: N802 - the protocol's name
        return messages.ServerReadyResponse(ready=True)

    def ModelReady(self, request, context):  # noqa: N802 - the protocol's name
        self.routes.append(dict(context.invocation_metadata()))
        return messages.ModelReadyResponse(ready=request.name in self.ready)

    def RepositoryIndex(self, request, context):  # noqa: N802 - the protocol's name
        answer = messages.RepositoryIndexResponse()
        for name in self.configs:
            answer.models.add(name=name, version="1", state="READY")
        return answer


@contextmanager
def serving():
    """A running server and its URL."""
    server = grpc.server(ThreadPoolExecutor(4))
    scripted = ScriptedServer()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(scripted, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield scripted, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
