"""What a running server serves, asked over HTTP: the repository index, each model's configuration, readiness."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from trireme.artifacts.contracts import ADAPTERS, most_alternatives
from trireme.artifacts.kinds import KINDS
from trireme.errors import UnavailableError
from trireme.observe import metrics as table
from trireme.triton.calls import ENSEMBLE_KIND
from trireme.triton.metrics import Loaded, read_loads, read_metrics, read_readiness, read_samples

SECONDS = 5.0
# Triton counts the requests of every model that it has loaded, ensembles too.
_COUNTED = table.TRITON_SUCCEEDED.name
# Backends of ours say each second whether they are ready.
SPEAKING = frozenset(kind.backend for kind in KINDS.values()) - {""}


class _RefusedError(UnavailableError):
    """Something answers, with an error."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of the server. `kind` is its backend; `reason` says why one could not be loaded.

    inputs: names of its tensors. digest: of what it and all that it calls have loaded; another one after each load,
    "" where that is not known. version: of its files, the same after each load of them (see backends.loaded), "" as
    digest. steps: models that it calls. alternatives: of a generator, see contracts.most_alternatives. is_far: no
    server here has it, and one of another region answers (see far_models). adapters: as calls.ModelFacts.
    """

    name: str
    kind: str
    is_ready: bool
    reason: str = ""
    inputs: tuple[str, ...] = ()
    digest: str = ""
    alternatives: int | None = None
    version: str = ""
    steps: tuple[str, ...] = ()
    is_far: bool = False
    adapters: tuple[str, ...] = ()


def read_served_models(host: str, http_port: int, metrics_port: int) -> list[ServedModel]:
    """Every model that the server has or tried to load, by name. Blocks at most 5 s for each question.

    A model is ready when Triton has loaded it, it says so of its session, files and database, and all of its steps
    are ready. Without the metrics nothing is said: what is loaded counts. Raises UnavailableError where no
    tritonserver answers.
    """
    server = f"{host}:{http_port}"
    index = _read_index(server, host, metrics_port)
    loaded = [entry["name"] for entry in index if entry["state"] == "READY"]
    configs = {name: _read_config(server, name) for name in loaded}
    try:
        said, loads = read_readiness(host, metrics_port), read_loads(host, metrics_port)
    except UnavailableError:
        said, loads = dict.fromkeys(loaded, True), {}
    # Of models that are not ours nothing is known but that they are loaded.
    own = {name: said.get(name, _kind(config) not in SPEAKING) for name, config in configs.items()}
    found = {}
    for entry in index:
        config = configs.get(entry["name"], {})
        is_ready = own.get(entry["name"], False) and all(own.get(step, False) for step in _steps(config))
        reason = str(entry.get("reason") or "")
        inputs = tuple(str(tensor.get("name")) for tensor in config.get("input") or ())
        digest = _digest(entry["name"], configs, loads)
        alternatives = _alternatives(config)
        version = loads[entry["name"]].version if entry["name"] in loads else ""
        found[entry["name"]] = ServedModel(
            entry["name"],
            _kind(config),
            is_ready,
            reason,
            inputs,
            digest,
            alternatives,
            version,
            tuple(_steps(config)),
            adapters=_names(config, ADAPTERS),
        )
    return [found[name] for name in sorted(found)]


def versions_of(name: str, served: Iterable[ServedModel]) -> tuple[tuple[str, str], ...]:
    """Name and version of a model and of all that it calls, by name; of models that are not served none."""
    known = {model.name: model for model in served}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in known and one not in found:
            found.add(one)
            waiting += known[one].steps
    return tuple((one, known[one].version) for one in sorted(found))


def _read_index(server: str, host: str, metrics_port: int) -> list[dict[str, Any]]:
    """Entries with name, state and reason; of a server that locks its index away, the models that it counts for."""
    try:
        index = _ask(server, "repository/index", b"{}")
    except _RefusedError as error:
        try:
            counted = read_samples(read_metrics(host, metrics_port), _COUNTED)
        except UnavailableError:
            raise error from None
        return [
            {"name": name, "state": "READY"} for name in dict.fromkeys(one["model"] for one, _ in counted)
        ]
    if not isinstance(index, list) or not all(isinstance(entry, dict) and "name" in entry for entry in index):
        raise UnavailableError(f"what answers at {server} is no tritonserver")
    # A folder of the repository that nobody asked to load has no state.
    return [entry for entry in index if entry.get("state")]


def _kind(config: dict[str, Any]) -> str:
    return ENSEMBLE_KIND if config.get("platform") == "ensemble" else str(config.get("backend") or "")


def _alternatives(config: dict[str, Any]) -> int | None:
    engine = (config.get("parameters") or {}).get("engine") or {}
    outputs = [str(tensor.get("name")) for tensor in config.get("output") or ()]
    return most_alternatives(outputs, str(engine.get("string_value") or ""))


def _steps(config: dict[str, Any]) -> list[str]:
    """Of an ensemble, and of a backend that calls other models, such as rag's."""
    steps = (config.get("ensemble_scheduling") or {}).get("step") or []
    return [*(step["model_name"] for step in steps), *_names(config, "steps")]


def _names(config: dict[str, Any], parameter: str) -> tuple[str, ...]:
    """Of a parameter that holds names, separated by commas."""
    said = (config.get("parameters") or {}).get(parameter) or {}
    return tuple(filter(None, str(said.get("string_value") or "").split(",")))


def _digest(
    name: str,
    configs: dict[str, dict[str, Any]],
    loads: dict[str, Loaded],
    above: tuple[str, ...] = (),
) -> str:
    """Of configuration, loads and steps. "" where one of them is not known, as of models that are not ours."""
    config = configs.get(name)
    if not config or name in above:
        return ""
    is_ensemble = _kind(config) == ENSEMBLE_KIND
    steps = [_digest(step, configs, loads, (*above, name)) for step in _steps(config)]
    if not all(steps) or (not is_ensemble and name not in loads):
        return ""
    names = loads[name].names if name in loads else ()
    said = json.dumps([config, names, steps], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


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
    except urllib.error.HTTPError as error:
        raise _RefusedError(f"no tritonserver answers at {server}: HTTP status {error.code}") from None
    except (OSError, ValueError, HTTPException):
        raise UnavailableError(f"no tritonserver answers at {server}; start one with: make serve") from None
