"""A server of one model that calls tools: the generator's backend over the fake engine, behind gRPC of its own."""

import queue
import sys
from contextlib import contextmanager

import numpy as np
from tritonclient.grpc import service_pb2 as messages

from fakes import fake_pb
from fakes.calling_llm import write_calling_llm
from fakes.fake_pb import arguments
from fakes.grpc_server import config_of, serving

NAME = "caller"
# Of the model: see FakeEngine for what it changes.
ADAPTER = "turned"
PARAMETERS = {
    "engine": "fake",
    "max_num_seqs": 4,
    "max_num_batched_tokens": 64,
    "max_waiting": 4,
    "prefix_caching": "true",
    "kv_cache_gb": "0.1",
    "gpu_memory_utilization": "0.9",
    "tensor_parallel_size": 1,
    "threads": 1,
    "default_max_tokens": 200,
    "chat_text_input": "true",
    "max_text_bytes": 100_000,
}
_END = object()


class Request(dict):
    """A request as the stub hands it over: inputs by name, parameters as JSON, and its own sender."""

    def __init__(self, request):
        super().__init__(zip([one.name for one in request.inputs], _arrays(request), strict=True))
        self.id = request.id
        self.sent = queue.SimpleQueue()

    def request_id(self):
        return self.id

    def parameters(self):
        return "{}"

    def get_response_sender(self):
        return self

    def is_cancelled(self):
        return False

    def send(self, response=None, flags=0):
        if response is not None:
            self.sent.put((response, bool(flags)))
        if flags:
            self.sent.put(_END)


def _arrays(request):
    for one, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        yield np.array([raw[4:]], dtype=object) if one.datatype == "BYTES" else np.array([bool(raw[0])])


def _as_grpc(response, *, is_last, request_id):
    said = messages.ModelInferResponse(id=request_id)
    for name, array in response.outputs.items():
        is_text = array.dtype == object
        text = b"".join(len(one).to_bytes(4, "little") + one for one in array) if is_text else b""
        said.outputs.add(name=name, datatype="BYTES" if is_text else "UINT32", shape=array.shape)
        said.raw_output_contents.append(text if is_text else array.tobytes())
    said.parameters["triton_final_response"].bool_param = is_last
    return said


@contextmanager
def serving_caller(folder):
    """The address of a running one, host:port."""
    from trireme.artifacts.contracts import GENERATOR

    write_calling_llm(folder / NAME / "1", adapters=[ADAPTER])
    before = sys.modules.get("triton_python_backend_utils")
    sys.modules["triton_python_backend_utils"] = fake_pb
    try:
        from trireme.triton.backends.generator import GeneratorModel

        model = GeneratorModel()
        outputs = [one.name for one in GENERATOR.outputs]
        model.initialize(arguments(folder / NAME, outputs=outputs, **PARAMETERS, adapters=ADAPTER))
    finally:
        if before is None:
            del sys.modules["triton_python_backend_utils"]
        else:
            sys.modules["triton_python_backend_utils"] = before

    def stream(request, _context):
        asked = Request(request)
        model.execute([asked])
        while (one := asked.sent.get()) is not _END:
            response, is_last = one
            if response.error is not None:
                yield response.error.message
            else:
                yield _as_grpc(response, is_last=is_last, request_id=request.id)

    with serving() as (server, url):
        server.configs = {
            NAME: config_of(
                NAME,
                backend="generator",
                inputs=[one.name for one in GENERATOR.inputs],
                outputs=outputs,
                engine="fake",
                adapters=ADAPTER,
            )
        }
        server.stream = stream
        try:
            yield url
        finally:
            model.finalize()
