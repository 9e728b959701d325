"""The clients that people have, unchanged, against a gateway; docs/gateway-clients.md is what they could do.

Their packages have environments of their own: .venv-clients and .venv-llamaindex beside .venv (make clients-env).
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
from blocks import Reader, blocks_of
from gateway_clients_page import FORMS, write_page
from stacks import ROOT

SCRIPTS = ROOT / "tests" / "clients"
PAGE = ROOT / "docs" / "gateway-clients.md"
# Environment of each client's script, "" for the tests' own.
CLIENTS = {
    "openai": ".venv-clients",
    "anthropic": ".venv-clients",
    "cohere": ".venv-clients",
    "langchain": ".venv-clients",
    "llamaindex": ".venv-llamaindex",
    "huggingface": "",
    "curl": "",
}


@dataclass
class Result:
    """What a client's script printed. outcomes: case -> "", or the traceback."""

    versions: dict
    outcomes: dict
    # curl is whatever the machine has.
    says_versions: bool


def cases_of(client):
    """The cases of a script, read without running it: its packages are not here."""
    tree = ast.parse((SCRIPTS / f"{client}_client.py").read_text())
    paths = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names, values = (getattr(one, "elts", [one]) for one in (node.targets[0], node.value))
            paths |= {
                name.id: value.value
                for name, value in zip(names, values, strict=False)
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant)
            }
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "case":
                yield tuple(paths[one.id] if isinstance(one, ast.Name) else one.value for one in mark.args)


CASES = [(client, case) for client in CLIENTS for case in cases_of(client)]


def interpreter(client):
    """The client's Python; skips where its environment is not there."""
    if client == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if not CLIENTS[client]:
        return sys.executable
    python = ROOT / CLIENTS[client] / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"no {CLIENTS[client]} (make clients-env)")
    return str(python)


@pytest.fixture(scope="module")
def key(gateway):
    return gateway.new_key("--user", "ann")


@pytest.fixture(scope="module")
def result_of(gateway, key):
    """result_of(client): its script is run once."""
    keys = {
        "GATEWAY_URL": gateway.url,
        "GATEWAY_KEY": key,
        "GATEWAY_LIMITED_KEY": gateway.new_key("--requests-per-minute", "1"),
        "GATEWAY_NARROW_KEY": gateway.new_key("--endpoint", "models"),
    }
    ended = {}

    def read(client):
        if client not in ended:
            words = [interpreter(client), str(SCRIPTS / f"{client}_client.py")]
            # Nothing of this process: a proxy or a key of its user would change what a client does.
            environ = {
                **keys,
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                "HF_HUB_DISABLE_TELEMETRY": "1",
            }
            ended[client] = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=300)
        assert ended[client].returncode == 0, ended[client].stderr
        first, *rows = [json.loads(line) for line in ended[client].stdout.splitlines()]
        outcomes = {tuple(row["case"]): row["said"] for row in rows}
        return Result(first["versions"], outcomes, client != "curl")

    return read


@pytest.mark.parametrize(
    ("client", "case"), CASES, ids=[f"{client} {' '.join(case)}" for client, case in CASES]
)
def test_the_client_gets_what_it_expects(result_of, client, case):
    assert case[1] in FORMS
    fault = result_of(client).outcomes[case]
    assert fault == "", fault


def test_no_case_has_the_name_of_another():
    assert len(set(CASES)) == len(CASES)


def test_the_page_is_what_the_clients_could_do(result_of):
    page = write_page({client: result_of(client) for client in CLIENTS})
    if os.environ.get("GATEWAY_CLIENTS_PAGE") == "write":
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "write it anew: docs/gateway-clients.md begins with the command"


def test_the_blocks_of_the_document_run(settings, gateway, key):
    reader = Reader(settings, gateway, KEY=key)
    document = ROOT / "docs" / "gateway.md"
    scripts, programs = blocks_of(document, "sh"), blocks_of(document, "python")
    assert (len(scripts), len(programs)) == (4, 3)
    for script in scripts:
        reader.run_script(script)
    for program in programs:
        reader.run_python(program, interpreter("openai"))
