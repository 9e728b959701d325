"""Reads the server's Prometheus page."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable

from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError

# Requests that people wait for: an encoder's own count leaves a worker's bulk out, other models have none.
_INTERACTIVE = re.compile(r"^trireme_interactive_requests_total\{[^}]*\} (\S+)$", re.MULTILINE)
_ANSWERED = re.compile(r'^nv_inference_request_success\{model="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)
_DECODING = re.compile(r"^vllm:num_requests_running\{[^}]*\} (\S+)$", re.MULTILINE)

_READY = re.compile(r'^trireme_model_ready\{model="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)


def read_metrics(host: str, port: int) -> str:
    """The page as text. Blocks at most 5 s; raises UnavailableError."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as page:
            text: str = page.read().decode()
    except (urllib.error.URLError, OSError):
        raise UnavailableError(f"no metrics at {host}:{port}; start a server with: make serve") from None
    return text


def read_readiness(host: str, port: int, recipes: Iterable[Recipe] = ()) -> dict[str, bool]:
    """What each model says of itself: its session, files and database answer. Raises UnavailableError.

    Ensembles say nothing of their own: those of `recipes` are ready when all of their steps are.
    """
    ready = {name: float(value) == 1.0 for name, value in _READY.findall(read_metrics(host, port))}
    ensembles = {
        recipe.model: all(ready.get(step, False) for step in recipe.steps)
        for recipe in recipes
        if recipe.steps
    }
    return ready | ensembles


def count_interactive(page: str, models: Collection[str]) -> tuple[int, bool]:
    """How many requests people have sent since the server started, and whether the LLM writes for one now.

    models: those that do nothing in bulk, such as rerankers. Only a growing number means something.
    """
    counts = list(_INTERACTIVE.findall(page))
    counts += [value for model, value in _ANSWERED.findall(page) if model in models]
    is_decoding = any(float(value) > 0 for value in _DECODING.findall(page))
    return int(sum(map(float, counts))), is_decoding
