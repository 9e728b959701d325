"""What commands tell a balancer of their calls."""

import grpc
import pytest

from fakes.grpc_server import serving
from trireme.cli import main
from trireme.commands import reindex
from trireme.errors import UnavailableError
from trireme.ingest.encoder import Encoder
from trireme.settings import Settings
from trireme.types import Embedder

NEAR = ("trireme-residency", "near")
ENCODER = Encoder("embedding", Embedder("a" * 64, 4), None, None, None, None)


@pytest.fixture
def told():
    """The address of a server, and what it was told with each call, which it refuses."""
    found = []

    def refuse(_, context):
        found.append(tuple(context.invocation_metadata()))
        context.abort(grpc.StatusCode.UNAVAILABLE, "none")

    with serving() as (server, url):
        server.infer = server.stream = refuse
        yield url, found


@pytest.mark.parametrize("command", ["search", "ask"])
def test_a_question_of_a_command_stays_in_its_region(told, command):
    url, found = told
    assert main([command, "which oars?", "--url", url]) == 1
    assert found
    assert all(NEAR in metadata for metadata in found)


def test_the_questions_that_a_reindex_is_judged_by_stay_too(told):
    url, found = told
    host, _, port = url.partition(":")
    with pytest.raises(UnavailableError):
        reindex._embed_queries(Settings(host=host, grpc_port=int(port)), ENCODER, ["which oars?"])
    assert found
    assert all(NEAR in metadata for metadata in found)
