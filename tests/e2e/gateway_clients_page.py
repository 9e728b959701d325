"""The table of docs/gateway-clients.md, made of what the cases of tests/clients said."""

FORMS = ("whole", "streamed", "tools", "error")
HEAD = """# What clients can do here

Each entry is a case of `tests/clients`, which the client's own package ran against a gateway over a real
tritonserver and a real PostgreSQL. What our own models cannot do or say alike each time (tools, several choices,
images, chains, faults) comes from providers on 127.0.0.1 that speak OpenAI's and Anthropic's HTTP. The tests
compare this page with what happened, and write it anew, after `make clients-env`, by

```sh
GATEWAY_CLIENTS_PAGE=write .venv/bin/python -m pytest tests/e2e/test_gateway_clients.py
```

A case that fails stands here as **fails**, and fails the tests. Where a cell is empty nothing was tried: embeddings
are not streamed, and rerankers call no tools. What is said of tools and our own model is the generator's backend
over an engine that can be told what to answer; the default LLM's template takes none, and it says so by name.

What a client must be told, beside URL and key:

- OpenAI's clients take the URL with `/v1`, Anthropic's and Cohere's the one without it; `InferenceClient` takes
  `model="http://127.0.0.1:8080/embed"` for vectors, and `base_url` with `/v1` for chats.
- LangChain's `OpenAIEmbeddings`: `check_embedding_ctx_length=False`. Without it texts come as tokens of OpenAI's
  vocabulary, which mean something else to every other model.
- LlamaIndex's `OpenAILike`: `is_chat_model=True`, and for tools `is_function_calling_model=True`.
"""


def write_page(results):
    """The page. results: client -> its versions and its rows, as test_gateway_clients.py reads them."""
    return "\n".join([HEAD, *(line for name, one in results.items() for line in _section(name, one))])


def _section(name, result):
    versions = ", ".join(f"{key.replace('_', '-')} {value}" for key, value in result.versions.items())
    yield f"## {name}\n"
    if result.says_versions:
        yield f"{versions}\n"
    yield "| endpoint | " + " | ".join(FORMS) + " |"
    yield "| --- " * (len(FORMS) + 1) + "|"
    for endpoint in dict.fromkeys(endpoint for endpoint, _, _ in result.outcomes):
        cells = [_cell(result.outcomes, endpoint, form) for form in FORMS]
        yield " | ".join([f"| {_code(endpoint)}", *cells]) + " |"
    yield ""


def _code(endpoint):
    return f"`{endpoint}`" if endpoint.startswith("/") else endpoint


def _cell(outcomes, endpoint, form):
    return "; ".join(
        name if fault == "" else f"**fails**: {name}"
        for (at, kind, name), fault in outcomes.items()
        if (at, kind) == (endpoint, form)
    )
