"""LlamaIndex: llama-index-llms-openai-like and llama-index-embeddings-openai-like."""

import asyncio
from importlib.metadata import version

import openai
from cases import KEY, LIMITED_KEY, URL, case, raises, run, same, until_refused
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

CHAT, TEXT, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
TEXT_OF_PIECES = "one two three four"


def say(text: str) -> str:
    """Say it."""
    return f"{text} is said"


def model(name, **more):
    given = {"is_chat_model": True, "api_key": KEY, **more}
    return OpenAILike(model=name, api_base=f"{URL}/v1", max_retries=0, **given)


def embedder(**more):
    given = {"model_name": "embedding", **more}
    return OpenAILikeEmbedding(api_base=f"{URL}/v1", api_key=KEY, max_retries=0, **given)


def ask(text):
    return [ChatMessage(role="user", content=text)]


@case(CHAT, "whole", "chat")
def chat():
    assert model("llm", max_tokens=8).chat(ask("What is a trireme?")).message.content
    same(model("assistant").chat(ask("oars of fir")).message.content, "oars of fir")


@case(CHAT, "whole", "complete of a chat model")
def complete_chat():
    same(model("assistant").complete("oars of fir").text, "oars of fir")


@case(CHAT, "whole", "asyncio")
def chat_async():
    same(asyncio.run(model("assistant").achat(ask("oars of fir"))).message.content, "oars of fir")


@case(CHAT, "streamed", "stream_chat")
def stream_chat():
    for name in ("assistant", "claude"):
        same([part.delta for part in model(name).stream_chat(ask(TEXT_OF_PIECES)) if part.delta][-1], " four")
    parts = list(model("llm", max_tokens=8).stream_chat(ask("What is a trireme?")))
    assert parts[-1].message.content


@case(CHAT, "tools", "chat_with_tools")
def tools():
    one = model("assistant", is_function_calling_model=True)
    answer = one.chat_with_tools([FunctionTool.from_defaults(say)], user_msg="hello")
    (call,) = one.get_tool_calls_from_response(answer)
    same((call.tool_name, call.tool_kwargs), ("say", {"text": "hello"}))


@case(CHAT, "tools", "in pieces")
def tools_in_pieces():
    one = model("claude", is_function_calling_model=True)
    *_, last = one.stream_chat_with_tools([FunctionTool.from_defaults(say)], user_msg="hello")
    (call,) = one.get_tool_calls_from_response(last)
    same((call.tool_name, call.tool_kwargs), ("say", {"text": "hello"}))


@case(CHAT, "error", "404 no such model")
def chat_with_nothing():
    raises(openai.NotFoundError, lambda: model("gpt-1").chat(ask("a")), "gpt-1")


@case(CHAT, "error", "429 with retry-after")
def chat_over_limit():
    one = model("assistant", api_key=LIMITED_KEY)
    error = until_refused(openai.RateLimitError, lambda: one.chat(ask("a")))
    assert int(error.response.headers["retry-after"]) > 0


@case(CHAT, "error", "fault in mid stream")
def stream_cut():
    one = model("fakeopenai:fault-cut-middle")
    raises(openai.APIError, lambda: list(one.stream_chat(ask("one two three four five six"))))


@case(TEXT, "whole", "complete")
def complete():
    assert model("llm", is_chat_model=False, max_tokens=8).complete("A trireme is").text
    same(model("assistant", is_chat_model=False).complete("oars of fir").text, "oars of fir")


@case(TEXT, "streamed", "stream_complete")
def stream_complete():
    *_, last = model("assistant", is_chat_model=False).stream_complete(TEXT_OF_PIECES)
    same(last.text, TEXT_OF_PIECES)


@case(EMBEDDINGS, "whole", "texts and query")
def embed():
    one = embedder()
    vectors = one.get_text_embedding_batch(["oars of fir", "sails of flax"])
    query = one.get_query_embedding("oars of fir")
    same((len(vectors), len(vectors[0])), (2, len(query)))
    assert sum(a * b for a, b in zip(vectors[0], query, strict=True)) > 0.9


@case(EMBEDDINGS, "whole", "dimensions")
def embed_short():
    same(len(embedder(dimensions=64).get_text_embedding("oars")), 64)


@case(EMBEDDINGS, "error", "404 no such model")
def embed_by_nothing():
    raises(openai.NotFoundError, lambda: embedder(model_name="ada").get_text_embedding("a"), "ada")


run(
    llama_index_llms_openai_like=version("llama-index-llms-openai-like"),
    llama_index_embeddings_openai_like=version("llama-index-embeddings-openai-like"),
    openai=openai.__version__,
)
