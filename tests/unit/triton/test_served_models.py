import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trireme.errors import UnavailableError
from trireme.triton.served_models import ServedModel, read_served_models, versions_of

STEPS = {
    "platform": "ensemble",
    "ensemble_scheduling": {"step": [{"model_name": "embedding"}, {"model_name": "best"}]},
}
PAGES = {
    "/v2/repository/index": [
        {"name": "search", "version": "1", "state": "READY"},
        {"name": "embedding", "version": "1", "state": "READY"},
        {"name": "best", "version": "1", "state": "READY"},
        {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "no weights"},
        {"name": "idle"},
        {"name": "gone", "version": "1", "state": "READY"},
        {"name": "rag", "version": "1", "state": "READY"},
        {"name": "foreign", "version": "1", "state": "READY"},
    ],
    "/v2/models/search/config": STEPS,
    "/v2/models/embedding/config": {"backend": "text_encoder"},
    "/v2/models/best/config": {"backend": "sort"},
    "/v2/models/rag/config": {"backend": "rag", "parameters": {"steps": {"string_value": "embedding,best"}}},
    "/v2/models/foreign/config": {"backend": "onnxruntime"},
}


@pytest.fixture
def serve():
    """Serves pages, JSON or bytes by path, on a free port; returns the port."""
    servers = []

    def started(pages):
        class Pages(BaseHTTPRequestHandler):
            def do_GET(self):
                page = pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.end_headers()
                self.wfile.write(page if isinstance(page, bytes) else json.dumps(page).encode())

            def do_POST(self):
                self.do_GET()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


def metrics(**ready):
    lines = []
    for name, value in ready.items():
        labels = f'{{instance="{name}_0_0",model="{name}"}}'
        lines.append(f"trireme_model_ready{labels} {float(value)}")
        lines.append(f"trireme_model_checked_seconds{labels} {time.time():.15g}")
    return {"/metrics": "\n".join(lines).encode()}


def test_every_model_comes_with_its_kind_and_what_it_says_of_itself(serve):
    page = metrics(embedding=True, best=True, rag=True)
    assert read_served_models("127.0.0.1", serve(PAGES), serve(page)) == [
        ServedModel("best", "sort", True),
        ServedModel("broken", "", False, "no weights"),
        ServedModel("embedding", "text_encoder", True),
        ServedModel("foreign", "onnxruntime", True),
        ServedModel("gone", "", True),
        ServedModel("rag", "rag", True, steps=("embedding", "best")),
        ServedModel("search", "search", True, steps=("embedding", "best")),
    ]


@pytest.mark.parametrize(
    ("outputs", "engine", "said"),
    [
        (["text_output", "logprobs"], "openvino", 0),
        (["text_output", "logprobs"], "vllm", 20),
        (["text_output"], "vllm", None),
    ],
)
def test_a_generator_says_how_many_alternatives_of_a_token_it_names(serve, outputs, engine, said):
    config = {
        "backend": "generator",
        "output": [{"name": name} for name in outputs],
        "parameters": {"engine": {"string_value": engine}},
    }
    pages = {
        "/v2/repository/index": [{"name": "llm", "version": "1", "state": "READY"}],
        "/v2/models/llm/config": config,
    }
    [found] = read_served_models("127.0.0.1", serve(pages), serve(metrics(llm=True)))
    assert found.alternatives == said


def ready_ones(found):
    return {model.name for model in found if model.is_ready}


def test_a_model_is_ready_when_all_of_its_steps_are(serve):
    page = metrics(embedding=True, best=False, rag=True)
    found = read_served_models("127.0.0.1", serve(PAGES), serve(page))
    assert ready_ones(found) == {"embedding", "foreign", "gone"}


def test_a_model_of_ours_that_says_nothing_is_not_ready(serve):
    found = read_served_models("127.0.0.1", serve(PAGES), serve(metrics(embedding=True, rag=True)))
    assert ready_ones(found) == {"embedding", "foreign", "gone"}


def test_where_the_index_is_locked_the_models_that_the_server_counts_for_are_listed(serve):
    pages = {path: page for path, page in PAGES.items() if "index" not in path}
    names = ("search", "embedding", "best", "foreign")
    counts = "\n".join(f'nv_inference_request_success{{model="{name}",version="1"}} 0' for name in names)
    page = {"/metrics": metrics(embedding=True, best=True)["/metrics"] + f"\n{counts}".encode()}
    found = read_served_models("127.0.0.1", serve(pages), serve(page))
    assert ready_ones(found) == set(names) == {model.name for model in found}


def test_without_metrics_a_model_is_ready_when_triton_has_loaded_it(serve):
    found = read_served_models("127.0.0.1", serve(PAGES), 1)
    assert ready_ones(found) == {"best", "embedding", "foreign", "gone", "rag", "search"}


@pytest.mark.parametrize("page", [None, b"<html>", {"error": "no"}, ["a"], [{}]])
def test_what_is_no_tritonserver_is_said_to_be_none(serve, page):
    with pytest.raises(UnavailableError, match="no tritonserver"):
        read_served_models("127.0.0.1", serve({"/v2/repository/index": page}), 1)


def test_no_server_says_so():
    with pytest.raises(UnavailableError, match=r"no tritonserver answers at 127\.0\.0\.1:1"):
        read_served_models("127.0.0.1", 1, 1)


def loads(age=0.0, **names):
    """Lines of what models say that they have loaded; several names are of several instances."""
    at = time.time() - age
    return "".join(
        f'trireme_model_loaded_seconds{{digest="{one}",instance="{n}",model="{name}"}} {at:.15g}\n'
        for name, digests in names.items()
        for n, one in enumerate(digests.split("+"))
    ).encode()


def digests(serve, page, pages=PAGES):
    said = {"/metrics": metrics(embedding=True, best=True, rag=True)["/metrics"] + b"\n" + page}
    return {one.name: one.digest for one in read_served_models("127.0.0.1", serve(pages), serve(said))}


def test_a_digest_is_another_one_where_the_model_or_one_that_it_calls_was_loaded_anew(serve):
    before = digests(serve, loads(embedding="a", best="b", rag="c"))
    assert all(before[name] for name in ("embedding", "best", "rag", "search"))
    assert digests(serve, loads(embedding="a", best="b", rag="c")) == before
    after = digests(serve, loads(embedding="a2", best="b", rag="c"))
    changed = {name for name, digest in before.items() if after[name] != digest}
    assert changed == {"embedding", "rag", "search"}


def test_a_digest_is_another_one_after_a_change_of_the_configuration(serve):
    page = loads(embedding="a", best="b", rag="c")
    other = {**PAGES, "/v2/models/embedding/config": {"backend": "text_encoder", "max_batch_size": 8}}
    before, after = digests(serve, page), digests(serve, page, other)
    assert {name for name, digest in before.items() if after[name] != digest} == {
        "embedding",
        "rag",
        "search",
    }


def test_without_the_word_of_all_that_it_calls_a_model_has_no_digest(serve):
    assert digests(serve, b"")["embedding"] == ""
    found = digests(serve, loads(embedding="a", rag="c"))
    assert found["embedding"]
    assert (found["rag"], found["search"], found["best"], found["foreign"], found["gone"]) == ("",) * 5
    # One that does not know, and one that has said nothing for long.
    assert digests(serve, loads(embedding="a+", best="b"))["embedding"] == ""
    assert digests(serve, loads(5.0, embedding="a"))["embedding"] == ""


def test_each_instance_counts(serve):
    one, two = (digests(serve, loads(embedding=names))["embedding"] for names in ("a", "a+b"))
    assert one
    assert two
    assert one != two
    assert digests(serve, loads(embedding="b+a"))["embedding"] == two


def versions(serve, *lines):
    at = time.time()
    page = "".join(
        f'trireme_model_loaded_seconds{{digest="{digest}",instance="{n}",model="embedding",{more}}} {at:.15g}\n'
        for n, (digest, more) in enumerate(lines)
    )
    said = {"/metrics": metrics(embedding=True)["/metrics"] + b"\n" + page.encode()}
    found = read_served_models("127.0.0.1", serve(PAGES), serve(said))
    return next(one.version for one in found if one.name == "embedding")


def test_a_version_is_the_same_after_each_load_and_that_of_all_instances(serve):
    assert versions(serve, ("a", 'version="v1"')) == versions(serve, ("b", 'version="v1"')) == "v1"
    assert versions(serve, ("a", 'version="v1"'), ("b", 'version="v1"')) == "v1"
    assert versions(serve, ("a", 'version="v1"'), ("b", 'version="v2"')) == ""
    # Of a server that is older than versions, and of one that does not know what it has loaded.
    assert versions(serve, ("a", 'other="x"')) == ""
    assert versions(serve, ("", 'version="v1"')) == ""


def test_the_versions_of_a_model_are_those_of_all_that_it_calls():
    served = [
        ServedModel("embedding", "text_encoder", True, version="e"),
        ServedModel("search", "ensemble", True, steps=("embedding", "gone")),
        ServedModel("rag", "rag", True, version="r", steps=("search", "embedding", "rag")),
        ServedModel("other", "sort", True, version="o"),
    ]
    assert versions_of("rag", served) == (("embedding", "e"), ("rag", "r"), ("search", ""))
    assert versions_of("other", served) == (("other", "o"),)
    assert versions_of("none", served) == ()


def test_a_generator_says_which_adapters_it_has(serve):
    pages = {
        "/v2/repository/index": [{"name": "llm", "version": "1", "state": "READY"}],
        "/v2/models/llm/config": {
            "backend": "generator",
            "parameters": {"adapters": {"string_value": "law,art"}},
        },
    }
    [found] = read_served_models("127.0.0.1", serve(pages), serve(metrics(llm=True)))
    assert found.adapters == ("law", "art")
