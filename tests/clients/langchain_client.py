"""LangChain: langchain-openai and langchain-anthropic."""

import asyncio
from importlib.metadata import version

import anthropic
import openai
from cases import KEY, URL, case, raises, run, same
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

CHAT, TEXT, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"
TEXT_OF_PIECES = "one two three four"


@tool
def say(text: str) -> str:
    """Say it."""
    return f"{text} is said"


def of_openai(model, **more):
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, **more)


def of_anthropic(model, **more):
    given = {"api_key": KEY, "max_tokens": 99, **more}
    return ChatAnthropic(model=model, base_url=URL, max_retries=0, **given)


def embedder(**more):
    # Off: it would send tokens of OpenAI's vocabulary, which no other model has.
    given = {"model": "embedding", "check_embedding_ctx_length": False, **more}
    return OpenAIEmbeddings(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, **given)


def check_tools(chat):
    question = ("user", "hello")
    called = chat.bind_tools([say]).invoke([question])
    (call,) = called.tool_calls
    same((call["name"], call["args"]), ("say", {"text": "hello"}))
    result = say.invoke(call)
    assert isinstance(result, ToolMessage)
    answer = chat.bind_tools([say]).invoke([question, called, result])
    same(answer.text, "hello is said")


def check_tools_in_pieces(chat):
    whole = None
    for chunk in chat.bind_tools([say]).stream("hello"):
        whole = chunk if whole is None else whole + chunk
    (call,) = whole.tool_calls
    same((call["name"], call["args"]), ("say", {"text": "hello"}))


def check_stream(chat):
    chunks = list(chat.stream(TEXT_OF_PIECES))
    same("".join(chunk.text for chunk in chunks), TEXT_OF_PIECES)
    assert len([chunk for chunk in chunks if chunk.text]) == 2
    return chunks


@case(CHAT, "whole", "ChatOpenAI.invoke and usage")
def invoke():
    answer = of_openai("llm", max_tokens=8).invoke("What is a trireme?")
    assert answer.text
    assert answer.usage_metadata["output_tokens"] > 0


@case(CHAT, "whole", "ainvoke and batch")
def batch():
    chat = of_openai("assistant")
    same([answer.text for answer in chat.batch(["oars", "sails"])], ["oars", "sails"])
    same(asyncio.run(chat.ainvoke("oars")).text, "oars")


@case(CHAT, "streamed", "ChatOpenAI.stream")
def stream():
    for model in ("assistant", "claude"):
        check_stream(of_openai(model))
    assert "".join(chunk.text for chunk in of_openai("llm", max_tokens=8).stream("What is a trireme?"))


@case(CHAT, "streamed", "usage")
def stream_with_usage():
    chunks = list(of_openai("assistant", stream_usage=True).stream(TEXT_OF_PIECES))
    (usage,) = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    same((usage["input_tokens"], usage["output_tokens"]), (4, 4))


@case(CHAT, "tools", "bind_tools, results sent back")
def tools():
    check_tools(of_openai("assistant"))
    check_tools(of_openai("claude"))


@case(CHAT, "tools", "in pieces")
def tools_in_pieces():
    check_tools_in_pieces(of_openai("assistant"))
    check_tools_in_pieces(of_openai("claude"))


@case(CHAT, "error", "404 no such model")
def invoke_nothing():
    raises(openai.NotFoundError, lambda: of_openai("gpt-1").invoke("a"), "gpt-1")


@case(CHAT, "error", "fault in mid stream")
def stream_cut():
    chat = of_openai("fakeopenai:fault-reset-middle")
    raises(openai.APIError, lambda: list(chat.stream("one two three four five six")))


@case(RESPONSES, "whole", "ChatOpenAI.invoke")
def invoke_responses():
    same(
        of_openai("assistant", use_responses_api=True, store=False).invoke("oars of fir").text, "oars of fir"
    )


@case(RESPONSES, "streamed", "ChatOpenAI.stream")
def stream_responses():
    for model in ("assistant", "claude"):
        check_stream(of_openai(model, use_responses_api=True))


@case(RESPONSES, "tools", "bind_tools, results sent back; in pieces")
def tools_of_responses():
    for model in ("assistant", "claude"):
        check_tools(of_openai(model, use_responses_api=True))
        check_tools_in_pieces(of_openai(model, use_responses_api=True))


@case(TEXT, "whole", "OpenAI.invoke")
def invoke_text():
    one = OpenAI(model="assistant", base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    same(one.invoke("oars of fir"), "oars of fir")


@case(TEXT, "streamed", "OpenAI.stream")
def stream_text():
    one = OpenAI(model="assistant", base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    same("".join(one.stream(TEXT_OF_PIECES)), TEXT_OF_PIECES)


@case(MESSAGES, "whole", "ChatAnthropic.invoke and usage")
def invoke_anthropic():
    answer = of_anthropic("llm", max_tokens=8).invoke("What is a trireme?")
    assert answer.text
    assert answer.usage_metadata["output_tokens"] > 0


@case(MESSAGES, "streamed", "ChatAnthropic.stream and usage")
def stream_anthropic():
    for model in ("claude", "assistant"):
        whole = None
        for chunk in check_stream(of_anthropic(model)):
            whole = chunk if whole is None else whole + chunk
        same(whole.usage_metadata["output_tokens"], 4)


@case(MESSAGES, "tools", "bind_tools, results sent back")
def tools_anthropic():
    check_tools(of_anthropic("claude"))
    check_tools(of_anthropic("assistant"))


@case(MESSAGES, "tools", "in pieces")
def tools_in_pieces_anthropic():
    check_tools_in_pieces(of_anthropic("claude"))
    check_tools_in_pieces(of_anthropic("assistant"))


@case(MESSAGES, "error", "401 no such key")
def invoke_anthropic_without_key():
    raises(anthropic.AuthenticationError, lambda: of_anthropic("llm", api_key="tr-none").invoke("a"))


@case(EMBEDDINGS, "whole", "embed_documents and embed_query")
def embed():
    one = embedder()
    vectors = one.embed_documents(["oars of fir", "sails of flax"])
    query = one.embed_query("oars of fir")
    same((len(vectors), len(vectors[0])), (2, len(query)))
    assert sum(a * b for a, b in zip(vectors[0], query, strict=True)) > 0.9


@case(EMBEDDINGS, "whole", "dimensions")
def embed_short():
    same(len(embedder(dimensions=64).embed_query("oars")), 64)


@case(EMBEDDINGS, "error", "404 no such model")
def embed_by_nothing():
    raises(openai.NotFoundError, lambda: embedder(model="ada").embed_query("a"), "ada")


run(
    langchain_openai=version("langchain-openai"),
    langchain_anthropic=version("langchain-anthropic"),
    langchain_core=version("langchain-core"),
)
