"""Our own server as a provider of chats, answers, vectors, scores and searches, in front of the running models."""

import asyncio

import numpy as np
import pytest
from generators import FAILING_WORD, Hold, failing_token, place_generator
from stacks import ROOT, free_ports, start_server, wait_until

from trireme.artifacts.repository import version_dir
from trireme.errors import InvalidInputError, NotFoundError, UnsupportedError
from trireme.providers.chat import (
    ChatCall,
    Finished,
    Message,
    Sources,
    Started,
    Text,
    TextDelta,
    Thinking,
    Usage,
)
from trireme.providers.models import SearchCall
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.token_texts import TOKENIZER_FILE, TokenTexts
from trireme.providers.triton_chat import TritonChat
from trireme.providers.triton_models import TritonModels
from trireme.triton.async_client import AsyncTritonClient
from trireme.triton.metrics import read_metrics, read_samples

pytestmark = pytest.mark.e2e

QUERY = "what does the dynamic batcher wait for?"
LIMITS = AttemptLimits()
CHATS = {"surface": "openai", "tenant": "default", "user": "ann"}


def says(text, role="user"):
    return Message(role, (Text(text),))


def chat_of(text=QUERY, **changes):
    values = {"model": "llm", "messages": (says(text),), "max_tokens": 4, "temperature": 0.0, **changes}
    return ChatCall(**CHATS, **values)


def with_chat(stack, act):
    async def run():
        provider = TritonChat(AsyncTritonClient(stack.settings.grpc_url))
        try:
            return await act(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def with_models(stack, act):
    async def run():
        settings = stack.settings
        client = AsyncTritonClient(settings.grpc_url)
        models = TritonModels(client, settings.host, settings.http_port, settings.metrics_port)
        try:
            return await act(models)
        finally:
            await models.close()

    return asyncio.run(run())


def events_of(stack, call, model="llm", limits=LIMITS):
    async def act(provider):
        return [event async for event in provider.chat(call, model, limits)]

    return with_chat(stack, act)


def error_of(stack, call, model="llm", limits=LIMITS):
    with pytest.raises(ProviderError) as found:
        events_of(stack, call, model, limits)
    return found.value


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_streamed_chat_and_a_whole_one_say_the_same(stack):
    whole = events_of(stack, chat_of())
    streamed = events_of(stack, chat_of(stream=True))
    assert [type(event) for event in whole] == [Started, TextDelta, Usage, Finished]
    assert whole[0] == Started("llm")
    assert whole[2].output_tokens == 4
    assert whole[3] == Finished("length")
    assert text_of(streamed) == text_of(whole)
    assert len([event for event in streamed if isinstance(event, TextDelta)]) > 1
    assert streamed[-2:] == whole[-2:]


def test_a_chat_has_turns_and_a_completion_a_prompt(stack):
    turns = (
        says("Be brief.", "system"),
        says("Hello."),
        Message("assistant", (Thinking("a greeting"), Text("Hi."))),
        says("Who are you?"),
    )
    assert events_of(stack, chat_of(messages=turns))[-1] == Finished("length")
    completion = ChatCall("completions", "llm", prompt="Once upon", max_tokens=4, tenant="default")
    assert events_of(stack, completion)[-1] == Finished("length")


def test_a_stop_string_ends_a_chat(stack):
    text = text_of(events_of(stack, chat_of(max_tokens=16)))
    stop = text.split()[1]
    for stream in (True, False):
        events = events_of(stack, chat_of(max_tokens=16, stop=("never said", stop), stream=stream))
        assert events[-1] == Finished("stop_sequence", stop_sequence=stop)
        assert text_of(events) == text[: text.index(stop)]


def test_tokens_are_counted_as_the_answer_reports_them(stack):
    for call in (chat_of(), ChatCall(**CHATS, model="llm", prompt="Once upon a time", max_tokens=1)):
        count = with_chat(stack, lambda provider, call=call: provider.count_tokens(call, "llm"))
        assert (
            count == next(event for event in events_of(stack, call) if isinstance(event, Usage)).input_tokens
        )
    with pytest.raises(UnsupportedError, match="count with the model that writes"):
        with_chat(stack, lambda provider: provider.count_tokens(chat_of(), "rag"))


def test_an_answer_comes_with_its_sources_and_its_usage(stack):
    for stream in (True, False):
        call = chat_of(model="rag", stream=stream, answer_mode="extractive", passages=3, collection="default")
        events = events_of(stack, call, "rag")
        assert [type(event) for event in events] == [Started, TextDelta, Sources, Usage, Finished]
        (source,) = events[2].sources
        assert source.source.endswith("batching.md")
        assert source.text in text_of(events)
        assert events[2].details["answer_mode"] == "extractive"
        assert events[-1] == Finished("stop")


def test_the_tenant_and_the_collection_of_the_call_are_asked(stack):
    error = error_of(stack, chat_of(model="rag", collection="none"), "rag")
    assert (error.remedy, error.kind) == ("give_up", "not_found")
    assert "no collection 'none'" in str(error)
    other = ChatCall("openai", "rag", (says(QUERY),), tenant="somebody")
    assert error_of(stack, other, "rag").kind == "not_found"


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A server with one model, whose answers begin and do not end; two requests run in it and two wait."""
    repository, hold = tmp_path_factory.mktemp("models"), Hold(tmp_path_factory.mktemp("hold"))
    knobs = {"failing_token": failing_token(), **hold.knobs}
    place_generator(repository, "slow", knobs, chat_text_input=False, max_num_seqs=2, max_waiting=2)
    with start_server(repository, tmp_path_factory.mktemp("run")) as running_server:
        running_server.wait_until_ready()
        with hold.at(5):
            yield running_server.config


def slow_call(text="word " * 400, **changes):
    return ChatCall("completions", "slow", prompt=text, tenant="default", max_tokens=400, **changes)


def with_slow(config, act):
    async def run():
        provider = TritonChat(AsyncTritonClient(f"{config.host}:{config.grpc_port}"))
        try:
            return await act(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def requests(config, state):
    page = read_metrics(config.host, config.metrics_port)
    return sum(value for _, value in read_samples(page, f"vllm:num_requests_{state}"))


async def until_running(config, count):
    await asyncio.to_thread(wait_until, lambda: requests(config, "running") == count)


async def drain(provider, call, limits=LIMITS):
    async for _ in provider.chat(call, "slow", limits):
        pass


@pytest.mark.parametrize("stream", [True, False])
def test_a_chat_whose_task_is_cancelled_ends_in_the_engine(slow, stream):
    async def act(provider):
        task = asyncio.create_task(drain(provider, slow_call(stream=stream)))
        await until_running(slow, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_running(slow, 0)

    with_slow(slow, act)


def test_a_chat_that_is_closed_ends_in_the_engine(slow):
    async def act(provider):
        events = provider.chat(slow_call(stream=True), "slow", LIMITS)
        assert await anext(events) == Started("slow")
        assert isinstance(await anext(events), TextDelta)
        await until_running(slow, 1)
        await events.aclose()
        await until_running(slow, 0)

    with_slow(slow, act)


def test_an_answer_that_takes_too_long_is_cancelled(slow):
    async def act(provider):
        with pytest.raises(ProviderError, match="did not end its answer within 1 s") as found:
            await drain(provider, slow_call(stream=True), AttemptLimits(first=30, between=30, total=1.0))
        assert (found.value.remedy, found.value.kind) == ("next", "timeout")
        with pytest.raises(ProviderError, match="sent nothing for 1 s"):
            await drain(provider, slow_call(stream=False), AttemptLimits(first=1.0, between=30, total=30))
        await until_running(slow, 0)

    with_slow(slow, act)


def test_a_full_queue_may_be_tried_again(slow):
    async def act(provider):
        tasks = [asyncio.create_task(drain(provider, slow_call(stream=True))) for _ in range(4)]
        await until_running(slow, 2)
        await asyncio.to_thread(wait_until, lambda: requests(slow, "waiting") == 2)
        results = await asyncio.gather(
            *(drain(provider, slow_call(stream=True)) for _ in range(3)), return_exceptions=True
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until_running(slow, 0)
        return [(error.remedy, error.kind) for error in results]

    assert with_slow(slow, act) == [("again", "overloaded")] * 3


def test_an_engine_that_fails_in_the_middle_cuts_the_answer(slow):
    async def act(provider):
        events = provider.chat(slow_call(stream=True), "slow", LIMITS)
        assert [type(await anext(events)) for _ in range(2)] == [Started, TextDelta]
        with pytest.raises(ProviderError) as found:
            await drain(provider, slow_call(FAILING_WORD))
        assert (found.value.remedy, found.value.kind) == ("again", "overloaded")
        with pytest.raises(ProviderError) as cut:
            async for _ in events:
                pass
        assert (cut.value.remedy, cut.value.kind) == ("again", "cut")
        await until_running(slow, 0)

    with_slow(slow, act)


def test_what_a_model_cannot_do_is_refused_by_name_before_and_when_it_is_asked(stack):
    error = error_of(stack, chat_of(choices=17))
    assert (error.remedy, error.kind) == ("next", "invalid")
    assert str(error).startswith("n: ")
    turns = (says("Be brief.", "system"), says(QUERY))
    assert "exactly one message" in str(error_of(stack, chat_of(messages=turns), "rag"))
    assert "embeds texts and does not chat" in str(error_of(stack, chat_of(), "embedding"))
    error = error_of(stack, chat_of(temperature=3.0))
    assert (error.remedy, error.kind) == ("give_up", "invalid")
    assert "temperature must be" in str(error)


@pytest.mark.parametrize("model", ["none", "search__retrieve", "retriever", "ingest"])
def test_what_clients_may_not_name_is_not_there(stack, model):
    error = error_of(stack, chat_of(), model)
    assert (error.remedy, error.kind) == ("next", "not_found")


def test_faults_say_what_may_be_done(stack):
    error = error_of(stack, chat_of("oars " * 20_000))
    assert (error.remedy, error.kind) == ("larger", "too_long")

    async def ask_nobody():
        provider = TritonChat(AsyncTritonClient(f"127.0.0.1:{free_ports(1)[0]}"))
        try:
            return [event async for event in provider.chat(chat_of(), "llm", LIMITS)]
        finally:
            await provider.close()

    with pytest.raises(ProviderError, match="no server answers") as found:
        asyncio.run(ask_nobody())
    assert (found.value.remedy, found.value.kind) == ("next", "connect")


def test_the_models_that_clients_may_name_are_listed_with_what_they_do(stack):
    served = with_models(stack, lambda models: models.models())
    assert {model.name: model.ability for model in served} == {
        "embedding": "embed",
        "equivalence": "rerank",
        "llm": "chat",
        "rag": "answer",
        "reranker": "rerank",
        "search": "search",
    }
    assert all(model.is_ready for model in served)


def test_vectors_of_many_batches_are_those_of_the_client_with_their_counts(stack, client):
    texts = [f"the oar number {number}" for number in range(150)]
    found = with_models(stack, lambda models: models.embed(texts, "embedding", "passage"))
    np.testing.assert_allclose(found.vectors, client.embed(texts, "passage"), atol=1e-5)
    assert found.vectors.dtype == np.float32
    assert found.tokens.shape == found.truncated.shape == (150,)
    assert found.tokens.min() > 0 == found.truncated.max()
    short = with_models(stack, lambda models: models.embed(texts[:1], "embedding", "passage", 64))
    assert short.vectors.shape == (1, 64)
    np.testing.assert_allclose(np.linalg.norm(short.vectors), 1.0, atol=1e-5)
    long = with_models(stack, lambda models: models.embed(["oars " * 5000], "embedding"))
    assert long.truncated[0] > 0


def test_the_text_of_token_ids_has_the_vector_of_the_text_that_they_were_made_of(stack):
    from tokenizers import Tokenizer

    texts = [
        "What's a trireme's crew? About 170 rowers (and 10 hoplites).",
        "E-mail: ann@example.com, 3.5 km",
    ]
    path = version_dir(ROOT / "model_repository", "embedding") / TOKENIZER_FILE
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = [tokenizer.encode(text).ids for text in texts]
    decoded = TokenTexts(ROOT / "model_repository").decode("embedding", rows)
    found = with_models(stack, lambda models: models.embed([*texts, *decoded], "embedding"))
    assert found.tokens.tolist() == [len(row) for row in rows] * 2
    np.testing.assert_allclose(found.vectors[:2], found.vectors[2:], atol=1e-3)


def test_passages_are_scored_in_the_order_given(stack):
    passages = ["Simmer the lentils.", "The dynamic batcher waits for more requests."]
    found = with_models(stack, lambda models: models.rerank(QUERY, passages, "reranker"))
    assert found.scores.shape == found.truncated.shape == (2,)
    assert found.scores[1] > found.scores[0]
    assert with_models(stack, lambda models: models.rerank(QUERY, [], "reranker")).scores.shape == (0,)


def test_a_search_is_the_clients_own(stack, client):
    hits = with_models(
        stack,
        lambda models: models.search(
            SearchCall(QUERY, "default", "default", user="ann", top_k=2, mode="hybrid")
        ),
    )
    assert [hit.id for hit in hits] == [hit.id for hit in client.search(QUERY, 2, search_mode="hybrid")]


def test_faults_of_models_are_typed(stack):
    with pytest.raises(NotFoundError, match="no collection 'none'"):
        with_models(stack, lambda models: models.search(SearchCall(QUERY, "default", "none")))
    with pytest.raises(InvalidInputError, match="reranks passages"):
        with_models(stack, lambda models: models.embed(["a"], "reranker"))
    with pytest.raises(NotFoundError, match="no model 'none'"):
        with_models(stack, lambda models: models.embed(["a"], "none"))
    with pytest.raises(InvalidInputError, match="dimensions"):
        with_models(stack, lambda models: models.embed(["a"], "embedding", None, 4096))
    with pytest.raises(InvalidInputError, match="surrogate"):
        with_models(stack, lambda models: models.embed(["\ud800"], "embedding"))
