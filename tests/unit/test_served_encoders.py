from contextlib import closing

from fakes.grpc_server import response_of, serving
from trireme.served_encoders import BulkClients


def test_a_workers_passages_are_batch_work_that_stays_in_its_region():
    heard = []

    def infer(request, context):
        heard.append(dict(context.invocation_metadata()))
        return response_of({"embedding": [[1.0]]})

    with serving() as (server, url), closing(BulkClients(url)) as clients:
        server.infer = infer
        assert clients.embed("embedding", ["a"]).tolist() == [[1.0]]
    (metadata,) = heard
    assert metadata["trireme-model"] == "embedding"
    assert metadata["trireme-priority"] == "batch"
    assert metadata["trireme-residency"] == "near"
