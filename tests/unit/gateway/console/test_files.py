"""The console's files over a gateway of fakes: what is served, with which headers, and what never is."""

import http.client
import json
from importlib.resources import files

import pytest

from fakes.gateways import Echo, FakeGateway
from trireme.gateway.console.files import FILES, POLICY, TYPES, read_files

STATIC = files("trireme.gateway.console") / "static"


@pytest.fixture(scope="module")
def gateway():
    with FakeGateway(Echo(lambda call, model: [])) as running:
        yield running


def get(gateway, path, headers=None, method="GET"):
    return gateway.ask(method, path, None, headers or {}, secret="")


def test_the_console_without_its_slash_leads_to_the_one_with_it(gateway):
    status, headers, body = get(gateway, "/console")
    assert (status, headers["location"], body) == (308, "/console/", b"")


def test_the_console_is_its_index_and_needs_no_key(gateway):
    status, headers, body = get(gateway, "/console/")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert body == (STATIC / "index.html").read_bytes()


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_served_as_it_is_with_its_type_and_the_policy(gateway, path):
    status, headers, body = get(gateway, f"/console/{path}")
    assert status == 200
    assert body == STATIC.joinpath(*path.split("/")).read_bytes()
    assert headers["content-type"] == TYPES[f".{path.rpartition('.')[2]}"]
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["permissions-policy"]
    assert headers["cache-control"] == "no-cache"


def test_the_policy_lets_nothing_in_but_what_the_gateway_serves():
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert {rules[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert "unsafe" not in POLICY


def test_who_has_a_file_is_told_so_and_sent_nothing(gateway):
    _, headers, _ = get(gateway, "/console/app.js")
    tag = headers["etag"]
    for said in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        status, headers, body = get(gateway, "/console/app.js", {"if-none-match": said})
        assert (status, body, headers["etag"]) == (304, b"", tag)
        assert headers["content-security-policy"] == POLICY
    status, _, body = get(gateway, "/console/app.js", {"if-none-match": '"other"'})
    assert status == 200
    assert body


def test_each_file_has_a_tag_of_its_own():
    assert len({file.tag for file in FILES.values()}) == len({file.body for file in FILES.values()})


def test_head_says_what_get_says_and_sends_no_body(gateway):
    _, headers, body = get(gateway, "/console/app.css")
    status, said, nothing = get(gateway, "/console/app.css", method="HEAD")
    assert (status, nothing) == (200, b"")
    assert said["content-length"] == str(len(body))
    assert said["etag"] == headers["etag"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_files_are_only_read(gateway, method):
    status, _, body = get(gateway, "/console/app.js", method=method)
    assert status == 405
    assert method in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js",
        "files.py",
        "__init__.py",
        "../files.py",
        "lib/../app.js",
        "lib/../../files.py",
        "%2e%2e/files.py",
        "..%2ffiles.py",
        "..%5cfiles.py",
        "lib%2fapi.js%00",
        "/app.js",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "lib/",
        "lib",
        "APP.JS",
        "app.js/",
        "static/app.js",
    ],
)
def test_what_is_not_in_the_table_is_not_found_whatever_it_is_called(gateway, path):
    # As it stands: a client of HTTP would tidy it up.
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    connection.request("GET", f"/console/{path}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404
    assert answer.headers["content-security-policy"] == POLICY
    assert json.loads(body)["error"]["message"]


def test_a_gateway_may_serve_no_console():
    with FakeGateway(Echo(lambda call, model: []), file="[console]\non = false") as without:
        for path in ("/console", "/console/", "/console/app.js"):
            status, _, body = get(without, path)
            assert status == 404
            assert "gateway.toml" in json.loads(body)["error"]["message"]


def test_only_files_of_known_types_are_read(tmp_path):
    (tmp_path / "lib").mkdir()
    for name in ("index.html", "lib/a.js", "notes.txt", ".hidden", "lib/a.js.orig"):
        (tmp_path / name).write_text("x")
    assert set(read_files(tmp_path)) == {"index.html", "lib/a.js"}
