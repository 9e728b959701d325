"""What the documents state must be what is so; where a test can tell, it does."""

import re
import tomllib
from pathlib import Path

from trireme.settings import read_settings

ROOT = Path(__file__).parents[2]
STARTING = (ROOT / "docs" / "starting.md").read_text(encoding="utf-8")


def section(heading):
    return STARTING.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_the_ports_of_the_start_page_are_the_defaults():
    settings = read_settings({})
    stated = [int(port) for port in re.findall(r"port (\d+)", section("Which ports does the server use?"))]
    ports = (settings.http_port, settings.grpc_port, settings.metrics_port, settings.gateway_port)
    assert stated == list(ports)


def test_the_python_versions_of_the_start_page_are_those_that_install():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least, most = re.findall(r"3\.(\d+)", project["requires-python"])
    stated = re.findall(r"3\.(\d+)", section("Which Python versions are supported?"))
    assert [int(minor) for minor in stated] == list(range(int(least), int(most)))


def test_the_sizes_of_the_start_page_are_the_limits():
    from trireme.gateway.file import Limits

    stated = section("How large may a file be?")
    assert f"{read_settings({}).max_document_bytes >> 30} GiB (`TRIREME_MAX_DOCUMENT_BYTES`)" in stated
    assert f"{Limits().upload_bytes >> 20} MiB" in stated


def test_the_start_page_names_what_the_makefile_indexes():
    corpus = re.search(r"serve --corpus (.+)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split()
    stated = section("What does the sample corpus hold?")
    assert all(f"`{name}`" in stated for name in corpus)
