"""LiteLLM's proxy: an environment of its own, made from a lock file, and the proxy before the fake provider."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common.report import show_progress_note
from benchmarks.common.script import make_parser, run_script
from benchmarks.gateway.servers import HOST, Server, run_process
from benchmarks.gateway.upstream import MODEL
from benchmarks.rivals.setup import ENVIRONMENTS, install, is_made_from
from trireme.errors import UnavailableError
from trireme.machine import pick_ports

NAME = "LiteLLM"
ENVIRONMENT = ENVIRONMENTS / "litellm"
LOCK = Path(__file__).with_name("litellm.lock")
START_S = 180.0
# Of the proxy on loopback, for the minutes of a run.
MASTER_KEY = "sk-loopback"


def prepare(folder: Path, python: str, *, force: bool = False) -> str:
    """Makes the environment unless it is there. Blocks for minutes; returns "" or why it failed."""
    if is_made_from(folder, LOCK) and not force:
        return ""
    show_progress_note("LiteLLM: its environment")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    steps = (
        ("its environment", [python, "-m", "venv", str(folder)]),
        ("its libraries", [*pip, "--no-deps", "-r", str(LOCK)]),
    )
    return install(folder, LOCK, steps)


def make_config(upstream_port: int) -> str:
    """config.yaml: one model at the fake upstream, a key, no database. JSON is YAML, too."""
    there = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://{HOST}:{upstream_port}/v1",
        "api_key": "sk-none",
    }
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": there}],
        "litellm_settings": {"request_timeout": 60, "num_retries": 0, "telemetry": False},
        "general_settings": {"master_key": MASTER_KEY},
    }
    return json.dumps(config, indent=2)


def make_environ(home: Path) -> dict[str, str]:
    """Its own words for: no telemetry, no prices from the internet, errors alone in the log. No proxy is known."""
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }


@contextmanager
def start_litellm(environment: Path, upstream_port: int, folder: Path) -> Iterator[Server]:
    """The proxy with one worker. Raises UnavailableError where it is not installed or does not start."""
    binary = environment / "bin" / "litellm"
    if not binary.is_file():
        raise UnavailableError("LiteLLM's environment is not set up: python -m benchmarks.gateway.rivals")
    [port] = pick_ports(HOST, 1)
    config = folder / "config.yaml"
    config.write_text(make_config(upstream_port), encoding="utf-8")
    command = [str(binary), "--config", str(config), "--host", HOST, "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    page = f"http://{HOST}:{port}/health/liveliness"
    with run_process(folder, command, make_environ(folder), page=page, seconds=START_S) as process:
        headers = {"authorization": f"Bearer {MASTER_KEY}"}
        yield Server(NAME, port, headers, process.pid, read_versions(environment))


def read_versions(environment: Path) -> dict[str, str]:
    """Of the proxy and of what carries it."""
    code = (
        "import json; from importlib.metadata import version; "
        "print(json.dumps({n: version(n) for n in ('litellm', 'fastapi', 'uvicorn', 'openai', 'aiohttp')}))"
    )
    command = [str(environment / "bin" / "python"), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def work(given: argparse.Namespace, _words: list[str]) -> None:
    """Goes on also where it cannot be installed: the benchmark reports it."""
    started = time.monotonic()
    reason = prepare(ENVIRONMENT, given.python, force=given.force)
    state = f"failed: {reason}" if reason else "ready"
    show_progress_note(f"LiteLLM: {state}, {time.monotonic() - started:.0f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environment")
    parser.add_argument("--force", action="store_true", help="make it anew")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
