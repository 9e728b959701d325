"""Requests made from a seed, good and bad, over every protocol to every model; and all that was found before.

FUZZ_REQUESTS and FUZZ_SEED set its size: `make fuzz` is the full run. Request N of a seed is always the same:
FUZZ_NUMBERS=3,17 sends those alone again.
"""

import os
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from stacks import ROOT, settings_on_free_ports

from trireme.indexing import ingest_path
from trireme.stack import Stack

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.calls import Call
from fuzz.contracts import read_contracts
from fuzz.judge import judge
from fuzz.make import make_call
from fuzz.regressions import REGRESSIONS
from fuzz.run import Run
from fuzz.send import Reply, Sender
from fuzz.watch import Watch

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "12"))
NUMBERS = [int(one) for one in os.environ.get("FUZZ_NUMBERS", "").split(",") if one] or range(REQUESTS)
STREAM = Call("stream", "embedding", (b"",), path="/inference.GRPCInferenceService/ModelStreamInfer")


@pytest.fixture(scope="module")
def served(tmp_path_factory, corpus):
    """A stack of its own, without a worker: what is published waits, and no other test shares a crash."""
    settings = settings_on_free_ports(tmp_path_factory.mktemp("data"))
    stopped = threading.Event()
    with Stack(settings) as stack:
        ingest_path(settings, corpus, stack.database_url, Console(quiet=True))

        def look_after():
            while not stopped.wait(0.2):
                stack.look_after(print)

        keeper = threading.Thread(target=look_after)
        keeper.start()
        yield stack
        stopped.set()
        keeper.join()


@pytest.fixture
def sender(served):
    opened = Sender(served.settings.host, served.settings.http_port, served.settings.grpc_port)
    yield opened
    opened.close()


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda one: one.name)
def test_what_was_found_once_is_answered(served, sender, regression):
    watch = Watch(served.server.pid)
    reply = sender.send(regression.call)
    assert not judge(regression.call, reply)
    assert not watch.ended()
    told = [f"{code} {text}" for code, text in reply.errors]
    if regression.expected != "any":
        assert any(regression.expected in one for one in told) if regression.expected else not told, told


@pytest.mark.parametrize(
    "reply, fault",
    [
        (Reply([("stream", "[NOT_FOUND] no collection 'x'")]), ""),
        (Reply([("stream", "in ensemble 'search', [NOT_FOUND] no collection 'x'")]), ""),
        (Reply([("stream", "[request id: 7] unexpected shape for input 'text'")]), ""),
        (Reply([("stream", "no collection 'x'")]), "no code"),
        (Reply([("stream", "[INTERNAL] internal error in model x")]), "internal"),
        (Reply([("INVALID_ARGUMENT", 'File "/srv/x.py", line 3, in read')]), "inside"),
        (Reply([("INTERNAL", "something at 0x7f00aabbccdd")]), "inside"),
        (Reply([("500", '{"error":"oops"}')]), "internal"),
        (Reply([], ended=False), "hang"),
        (Reply([], refused="Socket closed"), "refused"),
    ],
    ids=lambda one: str(one)[:60],
)
def test_a_reply_is_at_fault_only_where_it_is(reply, fault):
    found = judge(STREAM, reply)
    assert found[0].startswith(fault) if fault else not found


def test_the_same_number_of_a_seed_is_the_same_request():
    contracts = read_contracts(ROOT / "model_repository")
    calls = [make_call(SEED, number, contracts) for number in range(300)]
    assert calls == [make_call(SEED, number, contracts) for number in range(300)]
    assert {call.way for call in calls} == {"grpc", "stream", "http", "bytes", "grpc_bytes"}
    assert {call.model for call in calls} >= {contract.model for contract in contracts}
    assert calls == [type(call).read(call.write()) for call in calls]


@pytest.mark.timeout(14_400)
def test_no_request_hangs_ends_a_process_or_gets_an_answer_without_its_error(served):
    settings, contracts = served.settings, read_contracts(ROOT / "model_repository")
    place = settings.host, settings.http_port, settings.grpc_port
    run = Run(*place, lambda: served.server.pid, lambda: served.server.is_ready())  # noqa: PLW0108
    report = run.run((number, make_call(SEED, number, contracts)) for number in NUMBERS)
    print(report.describe(SEED))
    assert not report.findings, report.describe(SEED)
    assert sum(report.sent.values()) == len(NUMBERS)
