"""Reads the server's Prometheus page."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable

from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError

# A model says each second whether it is ready.
STALE_SECONDS = 4.0

# Requests that people wait for: an encoder's own count leaves a worker's bulk out, other models have none.
_INTERACTIVE = re.compile(r"^trireme_interactive_requests_total\{[^}]*\} (\S+)$", re.MULTILINE)
_ANSWERED = re.compile(r'^nv_inference_request_success\{model="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)
_ENDED = re.compile(
    r'^(?:nv_inference_request_success|nv_inference_request_failure)\{[^}]*model="([^"]+)"[^}]*\} (\S+)$',
    re.MULTILINE,
)
_PENDING = re.compile(r"^nv_inference_pending_request_count\{[^}]*\} (\S+)$", re.MULTILINE)
_DECODING = re.compile(r"^vllm:num_requests_running\{[^}]*\} (\S+)$", re.MULTILINE)

_CHECKED = re.compile(r"^trireme_model_checked_seconds\{([^}]*)\} (\S+)$", re.MULTILINE)
_READY = re.compile(r"^trireme_model_ready\{([^}]*)\} (\S+)$", re.MULTILINE)
_MODEL = re.compile(r'(?:^|,)model="([^"]+)"')


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

    Those of `recipes` that have steps are ready when all of their steps are, and they themselves where they say so:
    ensembles do not. A model that has said nothing for STALE_SECONDS is not ready: its process is gone or still.
    """
    page = read_metrics(host, port)
    fresh = time.time() - STALE_SECONDS
    checked = {labels: float(value) for labels, value in _CHECKED.findall(page)}
    recipes = list(recipes)
    said: dict[str, bool] = {}
    for labels, value in _READY.findall(page):
        model = _MODEL.search(labels)
        name = model[1] if model else ""
        is_ready = float(value) == 1.0 and checked.get(labels, 0.0) >= fresh
        # Each instance speaks for itself.
        said[name] = is_ready and said.get(name, True)
    for recipe in recipes:
        if not recipe.traits.is_ensemble:
            said.setdefault(recipe.model, False)
    whole = {
        recipe.model: said.get(recipe.model, True) and all(said.get(step, False) for step in recipe.steps)
        for recipe in recipes
    }
    return said | whole


def count_interactive(page: str, models: Collection[str]) -> tuple[int, bool]:
    """How many requests people have sent since the server started, and whether the LLM writes for one now.

    models: those that do nothing in bulk, such as rerankers. Only a growing number means something.
    """
    counts = list(_INTERACTIVE.findall(page))
    counts += [value for model, value in _ANSWERED.findall(page) if model in models]
    is_decoding = any(float(value) > 0 for value in _DECODING.findall(page))
    return int(sum(map(float, counts))), is_decoding


def count_answered(page: str) -> dict[str, float]:
    """Requests that each model has ended since the server started, with an answer or an error."""
    counts: dict[str, float] = {}
    for model, value in _ENDED.findall(page):
        counts[model] = counts.get(model, 0.0) + float(value)
    return counts


def has_pending(page: str) -> bool:
    """Whether a request waits in one of Triton's queues, or the LLM writes."""
    return any(float(value) > 0 for value in (*_PENDING.findall(page), *_DECODING.findall(page)))
