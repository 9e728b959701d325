"""What a running server serves, asked over HTTP: the repository index, each model's configuration, readiness."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from trireme.errors import UnavailableError
from trireme.triton.metrics import read_readiness

SECONDS = 5.0
# Our only ensemble, as its recipe calls it.
ENSEMBLE_KIND = "search"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of the server. `kind` is its backend; `reason` says why one could not be loaded."""

    name: str
    kind: str
    is_ready: bool
    reason: str = ""


def read_served_models(host: str, http_port: int, metrics_port: int) -> list[ServedModel]:
    """Every model that the server has or tried to load, by name. Blocks at most 5 s for each question.

    A model is ready when Triton has loaded it and it says so of its session, files and database; an ensemble, when
    all of its steps are. Raises UnavailableError where no tritonserver answers.
    """
    server = f"{host}:{http_port}"
    index = _ask(server, "repository/index", b"{}")
    if not isinstance(index, list) or not all(isinstance(entry, dict) and "name" in entry for entry in index):
        raise UnavailableError(f"what answers at {host}:{http_port} is no tritonserver")
    try:
        said = read_readiness(host, metrics_port)
    except UnavailableError:
        said = {}
    # A folder of the repository that nobody asked to load has no state.
    index = [entry for entry in index if entry.get("state")]
    loaded = {entry["name"]: entry["state"] == "READY" for entry in index}
    configs = {name: _read_config(server, name) for name, is_loaded in loaded.items() if is_loaded}
    ready = {name: is_loaded and said.get(name, True) for name, is_loaded in loaded.items()}
    found = {}
    for entry in index:
        name = entry["name"]
        config = configs.get(name, {})
        is_ready = ready[name] and all(ready.get(step, False) for step in _steps(config))
        found[name] = ServedModel(name, _kind(config), is_ready, str(entry.get("reason") or ""))
    return [found[name] for name in sorted(found)]


def _kind(config: dict[str, Any]) -> str:
    return ENSEMBLE_KIND if config.get("platform") == "ensemble" else str(config.get("backend") or "")


def _steps(config: dict[str, Any]) -> list[str]:
    steps = (config.get("ensemble_scheduling") or {}).get("step") or []
    return [step["model_name"] for step in steps]


def _read_config(server: str, name: str) -> dict[str, Any]:
    """Empty where the model went away meanwhile."""
    try:
        config = _ask(server, f"models/{urllib.parse.quote(name, safe='')}/config")
    except UnavailableError:
        return {}
    return config if isinstance(config, dict) else {}


def _ask(server: str, path: str, body: bytes | None = None) -> Any:
    try:
        with urllib.request.urlopen(f"http://{server}/v2/{path}", body, SECONDS) as answer:
            return json.load(answer)
    except (OSError, ValueError, HTTPException):
        raise UnavailableError(f"no tritonserver answers at {server}; start one with: make serve") from None
