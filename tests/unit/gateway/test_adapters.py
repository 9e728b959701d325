"""A model of ours with an adapter, from HTTP to the engine: on every surface it is a model of its own."""

import contextlib
import http.client
import json

import pytest

from fakes.calling_server import ADAPTER, NAME, serving_caller
from fakes.gateways import ANN, SECRET, FakeGateway
from trireme.access.keys import Key
from trireme.providers.models import ServedModel
from trireme.providers.triton_chat import TritonChat
from trireme.triton.async_client import AsyncTritonClient

ADAPTED = f"{NAME}:{ADAPTER}"
TOLD, SAID = "~one two three~", "one two three"
CHAT = {"messages": [{"role": "user", "content": TOLD}], "max_tokens": 40}
SURFACES = {
    "/v1/chat/completions": (CHAT, lambda body: body["choices"][0]["message"]["content"]),
    "/v1/completions": ({"prompt": TOLD, "max_tokens": 40}, lambda body: body["choices"][0]["text"]),
    "/v1/messages": (CHAT, lambda body: body["content"][0]["text"]),
    "/v1/responses": ({"input": TOLD}, lambda body: body["output"][0]["content"][0]["text"]),
}


class LateClient:
    """A client that is made where it is first used: it belongs to the event loop of then."""

    def __init__(self, url):
        self._url, self._client = url, None

    def __getattr__(self, name):
        self._client = self._client or AsyncTritonClient(self._url)
        return getattr(self._client, name)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    models = [ServedModel(name, "chat", True, takes_tools=True) for name in (NAME, ADAPTED)]
    keys = {SECRET: ANN, "tr-narrow": Key("key_bob", "acme", "bob", models=(NAME,))}
    with (
        serving_caller(tmp_path_factory.mktemp("caller")) as url,
        FakeGateway(TritonChat(LateClient(url)), keys=keys, models=models) as running,
    ):
        yield running


def ask(gateway, method, path, body=None, secret=SECRET):
    """Status and body of the answer."""
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    if path == "/v1/messages":
        headers["anthropic-version"] = "2023-06-01"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("path", SURFACES)
def test_an_adapter_answers_under_a_name_of_its_own(gateway, path):
    body, read = SURFACES[path]
    said = []
    for model in (NAME, ADAPTED, NAME):
        status, answer = ask(gateway, "POST", path, body | {"model": model})
        assert status == 200, answer
        assert answer["model"] == model
        said.append(read(answer))
    assert said[0] == said[2] == SAID
    # The fake says what it was told from its second token on, then what is before.
    assert said[1] != SAID and sorted(said[1]) == sorted(SAID)


def test_adapters_are_among_the_models_that_a_key_may_use(gateway):
    def names(secret):
        return [row["id"] for row in ask(gateway, "GET", "/v1/models", secret=secret)[1]["data"]]

    assert (names(SECRET), names("tr-narrow")) == ([NAME, ADAPTED], [NAME])
    assert ask(gateway, "GET", f"/v1/models/{ADAPTED}")[1]["id"] == ADAPTED


def test_an_adapter_that_is_not_there_is_a_model_that_is_not_there(gateway):
    status, answer = ask(gateway, "POST", "/v1/chat/completions", CHAT | {"model": f"{NAME}:other"})
    assert (status, answer["error"]["code"]) == (404, "not_found")


def test_a_key_of_the_model_may_not_use_its_adapter_unless_it_names_it(gateway):
    chat = "/v1/chat/completions"
    assert ask(gateway, "POST", chat, CHAT | {"model": NAME}, "tr-narrow")[0] == 200
    status, answer = ask(gateway, "POST", chat, CHAT | {"model": ADAPTED}, "tr-narrow")
    assert status == 403
    assert "may not use model 'caller:turned'" in answer["error"]["message"]
