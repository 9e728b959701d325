"""Three regions on this machine, each in a network of its own: eu, whose replicas are a link away, us and ap.

eu is where the tests' calls begin. us is 82 ms of round trip away, ap 30; all links lose a packet now and then.
"""

import socket
from contextlib import ExitStack, closing

import grpc
from stacks import wait_until
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from benchmarks.regions.delays import Path
from benchmarks.regions.links import Link
from benchmarks.regions.namespaces import Namespace
from benchmarks.regions.region import GRPC_PORT, REGION_PORT, Region
from fakes.replicas import Relay, Replica
from trireme.scale.endpoints import Endpoint
from trireme.scale.routes import MODEL_HEADER

HOME, FAR, MIDDLE = "eu", "us", "ap"
PATHS = {HOME: Path(3.5, 0.2, 0.1), FAR: Path(41.0, 0.5, 0.1), MIDDLE: Path(15.0, 0.5, 0.1)}
FAILOVER, FAILOVER_BATCH = 8, 2
MODELS = {
    # Of replicas whose answers the tests decide.
    "retrieval": {
        "serves": ["embedding", "rag"],
        "idempotent": ["embedding"],
        "default": True,
    },
    # Few at once elsewhere.
    "small": {
        "serves": ["reranker"],
        "failoverMaxRequests": FAILOVER,
        "failoverBatchRequests": FAILOVER_BATCH,
    },
}
IDEMPOTENT, OTHER, STREAMED, SMALL = "embedding", "rag", "rag", "reranker"
# As the regional settings, with time for a machine that is busy with other things.
SETTINGS = {
    "healthIntervalSeconds": 0.3,
    "healthTimeoutSeconds": 2,
    "keepaliveIntervalSeconds": 0.5,
    "keepaliveTimeoutSeconds": 2,
    "connectTimeoutSeconds": 1,
    "perTryTimeoutSeconds": 1,
    "outlierSeconds": 0.5,
    "retries": 5,
    "minRetryConcurrency": 256,
}
# Its own look back for a quarter of a minute, and wait for half of one.
# A question that keeps connections open is a call in flight for a moment, which tests that count would notice.
CONTROLLER = (
    *("--probe-seconds", "0.1", "--window", "5", "--hold-seconds", "0.5", "--answer-seconds", "1"),
    *("--warm-seconds", "600"),
)
DEADLINE_S = 60.0
IN_A_ROW = 10


class Regions:
    """Namespaces, links, Envoys and replicas that say their region's name. Close it.

    A region is `envoys[name]`; `links[name]` leads from eu to its replicas, or from eu to the region.
    """

    def __init__(self, folder):
        self._resources = ExitStack()
        try:
            self._start(folder)
        except BaseException:
            self.close()
            raise

    def _start(self, folder):
        add = self._resources.enter_context
        self.spaces = {name: add(closing(Namespace())) for name in (HOME, FAR, MIDDLE, "servers")}
        self.links = {
            name: add(closing(Link(self.spaces[HOME], self.spaces[other], PATHS[name], seed=7)))
            for name, other in ((HOME, "servers"), (FAR, FAR), (MIDDLE, MIDDLE))
        }
        self.balancers = {name: f"{self.links[name].far}:{REGION_PORT}" for name in (FAR, MIDDLE)}
        home = {HOME: f"{self.links[FAR].near}:{REGION_PORT}"}
        self.envoys = {}
        for name, others in ((HOME, self.balancers), (FAR, home), (MIDDLE, {})):
            # Of eu each link has another end.
            listen = "0.0.0.0" if name == HOME else self.links[name].far  # noqa: S104 - links alone lead there
            self.envoys[name] = add(
                Region(
                    name,
                    folder / name,
                    MODELS,
                    namespace=self.spaces[name],
                    others=others,
                    listen=listen,
                    **SETTINGS,
                )
            )
        self.replicas = {HOME: self._replicas("servers", 2), FAR: self._replicas(FAR, 1)}
        self.replicas[MIDDLE] = self._replicas(MIDDLE, 1)
        for name, region in self.envoys.items():
            for entry in MODELS:
                region.place(entry, *(one.endpoint(region=name) for one in self.replicas[name]))
            region.start_envoy()
        self.start_controller()
        for entry in MODELS:
            self.envoys[FAR].place_far(
                entry, Endpoint(self.links[FAR].near, REGION_PORT, region=HOME, priority=1)
            )
        self.client = add(closing(Client(self.spaces[HOME])))

    def _replicas(self, space, count):
        # Threads of gRPC would stay in a namespace that they were begun in: the sockets alone are there.
        host = self.links[HOME].far if space == "servers" else "127.0.0.1"
        with self.spaces[space].entered():
            listeners = [socket.create_server((host, 0)) for _ in range(count)]
        made = [Replica(listener=one) for one in listeners]
        for one in made:
            self._resources.callback(one.close)
        return made

    def close(self):
        self._resources.close()

    def start_controller(self):
        """Of eu; it looks often."""
        self.envoys[HOME].start_controller(*CONTROLLER)

    def reset(self, has_home=True):
        """As at the beginning, with eu's own replicas or without: they have vanished, and its Envoy knows it.

        Returns once that is what Envoy and controller see.
        """
        for name, link in self.links.items():
            if has_home or name != HOME:
                link.set(PATHS[name])
        if not has_home:
            self.links[HOME].cut()
        for name, some in self.replicas.items():
            for one in some:
                one.infer = lambda request, context, name=name: messages.ModelInferResponse(id=name)
                one.stream = lambda request, context, name=name: iter((name, name))
        for region in self.envoys.values():
            if region.envoy.poll() is not None:
                region.start_envoy()
        if self.envoys[HOME].controller.poll() is not None:
            self.start_controller()
        self.wait_for_order(MIDDLE, FAR)
        for entry in MODELS:
            wait_until(lambda entry=entry: self.sees(entry, has_home))
        self.wait_for(HOME if has_home else MIDDLE)

    def sees(self, entry, has_home):
        """Whether eu's Envoy takes its own replicas for there, or for gone, and all else for healthy."""
        hosts = self.envoys[HOME].hosts(entry)
        own = {hosts.pop(f"{one.address}:{one.port}", "") for one in self.replicas[HOME]}
        return own == {"healthy" if has_home else "out"} and set(hosts.values()) == {"healthy"}

    def wait_for(self, region, model=OTHER):
        """Blocks until so many calls in a row are answered by `region`."""
        wait_until(lambda: self.client.answers(model, IN_A_ROW) == [region] * IN_A_ROW)

    def wait_for_order(self, *regions):
        """Blocks until eu asks the others in this order."""
        wait_until(lambda: self.envoys[HOME].far_order("retrieval") == [*regions])

    def calls(self, region):
        """That reached a region's replicas so far."""
        return sum(one.calls for one in self.replicas[region])


class Client:
    """Calls the Envoy of a region from this process, which is in another network: through a relay."""

    def __init__(self, space):
        def connect():
            opened = space.connect("127.0.0.1", GRPC_PORT)
            opened.settimeout(None)
            return opened

        self._relay = Relay(socket.create_server(("127.0.0.1", 0)), connect)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self._relay.port}")
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self):
        self._channel.close()
        self._relay.close()

    def start(self, model, *metadata):
        """A call that runs on; `metadata` beside the model's name."""
        named = [(MODEL_HEADER, model), *metadata]
        request = messages.ModelInferRequest(model_name=model)
        return self.stub.ModelInfer.future(request, metadata=named, timeout=DEADLINE_S)

    def answer(self, model, *metadata):
        """The region that answers, or the code with which the call fails."""
        return answer_of(self.start(model, *metadata))

    def answers(self, model, count, *metadata):
        return [self.answer(model, *metadata) for _ in range(count)]

    def open_stream(self, model, *metadata):
        requests = iter([messages.ModelInferRequest(model_name=model)])
        named = [(MODEL_HEADER, model), *metadata]
        return self.stub.ModelStreamInfer(requests, metadata=named, timeout=DEADLINE_S)


def answer_of(call):
    try:
        return call.result().id
    except grpc.RpcError as error:
        return error.code().name


def texts_of(stream):
    """What a stream says, and the code with which it fails, if it does."""
    texts = []
    try:
        texts += (part.infer_response.id for part in stream)
    except grpc.RpcError as error:
        texts.append(error.code().name)
    return texts
