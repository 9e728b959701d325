"""Errors of streams behind the real Envoy, as the gateway meets them: asked again, or told as what they are."""

import asyncio
import threading

import pytest
from tritonclient.grpc import service_pb2 as messages

from fakes.balancers import Balancer
from fakes.grpc_server import response_of
from fakes.replicas import PATIENCE, Replica
from trireme.errors import UnavailableError
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.chat import ChatCall, Message, Text, TextDelta
from trireme.providers.models import ServedModel
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.targets import Entry, Target
from trireme.providers.triton_chat import TritonChat
from trireme.triton.async_client import AsyncTritonClient

MODELS = {"llm": {"serves": ["llm"], "default": True}}
CALL = ChatCall("openai", "llm", (Message("user", (Text("hi"),)),), stream=True)
FULL = "[UNAVAILABLE] 8 requests wait, the limit of the queue; try again"


def part(text, reason=""):
    outputs = {"text_output": [text], "finish_reason": [reason]}
    counts = {"num_input_tokens": [5], "num_output_tokens": [2]} if reason else {}
    return response_of(outputs | counts, is_last=bool(reason))


WHOLE = [part("An "), part("oar.", "stop")]


class Llm(Replica):
    """`says(number)`: what the replica answers its call of this number with: messages, and texts of errors."""

    says = staticmethod(lambda number: WHOLE)

    def ModelStreamInfer(self, requests, context):  # noqa: N802 - the protocol's name
        next(requests)
        self._count(context)
        for one in self.says(self.calls):
            if isinstance(one, str):
                yield messages.ModelStreamInferResponse(error_message=one)
            elif callable(one):
                one(self)
            else:
                yield messages.ModelStreamInferResponse(infer_response=one)


@pytest.fixture(scope="module")
def balancer(tmp_path_factory):
    running = Balancer(tmp_path_factory.mktemp("errors"), MODELS)
    yield running
    running.close()


@pytest.fixture
def llms(balancer):
    some = [Llm(), Llm()]
    balancer.place(*some)
    yield some
    for one in some:
        one.close()


def ask(balancer, *, events=None):
    """The text of an answer as the gateway asks for it; events: gets each as it comes."""

    async def work():
        provider = TritonChat(AsyncTritonClient(balancer.address))
        provider.learn([ServedModel("llm", "chat", True)])
        attempts = Attempts(AttemptPolicy(), sleep=lambda seconds: asyncio.sleep(0))
        try:
            target = Target(Entry("local", (provider,), AttemptLimits()), "llm")
            opened = await attempts.open(CALL, [target], PATIENCE)
            text = ""
            async for event in opened.events:
                if isinstance(event, TextDelta):
                    text += event.text
                    if events is not None:
                        events(event)
            return text, [one.outcome for one in opened.attempts]
        finally:
            await provider.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    "said",
    [
        FULL,
        "Exceeds maximum queue size",
        "Stub process 'llm_0' is not healthy.",
        "Server is stopping, scheduler for model has stopped accepting new inference requests",
    ],
)
def test_a_passing_error_in_a_message_before_the_first_part_is_asked_again(balancer, llms, said):
    first = threading.Lock()
    for one in llms:
        one.says = lambda number: [said] if first.acquire(blocking=False) else WHOLE
    assert ask(balancer) == ("An oar.", ["overloaded", "ok"])
    # Envoy saw two streams that went well.
    assert sum(one.calls for one in llms) == 2


def test_an_error_that_would_come_again_is_told_and_not_asked_again(balancer, llms):
    for one in llms:
        one.says = lambda number: ["[INVALID_ARG] max_tokens must be at least 1"]
    with pytest.raises(ProviderError, match="max_tokens must be at least 1"):
        ask(balancer)
    assert sum(one.calls for one in llms) == 1


def test_a_server_that_is_lost_amid_an_answer_is_told_as_that_and_the_answer_is_not_asked_for_again(
    balancer, llms
):
    seen = threading.Event()

    def lose(replica):
        assert seen.wait(PATIENCE)
        replica.cut()

    for one in llms:
        one.says = lambda number: [part("An "), lose, part("oar.", "stop")]
    with pytest.raises(ProviderError, match=r"^the server was lost after the answer had begun \(") as raised:
        ask(balancer, events=lambda event: seen.set())
    assert raised.value.kind == "cut"
    assert sum(one.calls for one in llms) == 1


def test_a_client_of_ones_own_is_told_the_same_as_an_unavailable_server(balancer, llms):
    seen = threading.Event()

    def lose(replica):
        assert seen.wait(PATIENCE)
        replica.cut()

    for one in llms:
        one.says = lambda number: [part("An "), lose]

    async def work():
        async with AsyncTritonClient(balancer.address) as client:
            async for _ in client.stream("llm", {"text_input": "hi"}):
                seen.set()

    with pytest.raises(UnavailableError, match="was lost after the answer had begun"):
        asyncio.run(work())
