"""Models with steps over a stack: their rows, the versions that their calibrations name, and how they are asked."""

import contextlib
import http.client
import json

from stacks import wait_until

from trireme.triton.served_models import read_served_models

PROVIDER = """
[providers.fakeopenai]
kind = "openai"
url = "{url}/v1"
keys = ["FAKE_PROVIDER_KEY"]
"""


def model_row(name, mode, **model):
    """`rag` in one mode, judged by NAME.json, and then the fake provider."""
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in model.items())
    return f"""
[models.{name}]
exact = "off"
{more}[[models.{name}.steps]]
name = "{mode}"
target = "rag"
answer_mode = "{mode}"
calibration = "cascade/{name}.json"
seconds = 300
[[models.{name}.steps]]
name = "big"
chain = ["fakeopenai:echo"]
"""


def versions_of(stack, *models):
    """What the stack has loaded as these, once it says so: pairs of a name and a version."""
    settings, served = stack.settings, {}

    def read():
        found = read_served_models(settings.host, settings.http_port, settings.metrics_port)
        served.update({model.name: model.version for model in found})
        return all(served.get(name) for name in models)

    wait_until(read, 60)
    return tuple((name, served[name]) for name in sorted(models))


@contextlib.contextmanager
def asking(gateway, key, model, text, *, stream=False, waits=("unknown_version", "version")):
    """The answer, of which the head alone is read; asked again until no step is passed over for such a reason."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
    host = gateway.url.removeprefix("http://")
    with contextlib.ExitStack() as opened:
        answers = []

        def is_known():
            connection = http.client.HTTPConnection(host, timeout=120)
            opened.enter_context(contextlib.closing(connection))
            headers = {"authorization": f"Bearer {key}"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answers.append(connection.getresponse())
            assert answers[-1].status == 200, answers[-1].read()
            return (answers[-1].headers["x-trireme-escalated"] or "").partition("=")[2] not in waits

        wait_until(is_known, 90)
        yield answers[-1]
