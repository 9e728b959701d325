"""What several tritonservers behind one address say together: which models are served, how many requests came."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import urllib.request
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPException
from typing import TypeVar

from trireme.errors import UnavailableError
from trireme.triton.metrics import count_interactive, read_metrics
from trireme.triton.served_models import ServedModel, read_served_models

T = TypeVar("T")
MOST_AT_ONCE = 16


def read_models_of_all(hosts: Sequence[str], http_port: int, metrics_port: int) -> list[ServedModel]:
    """As read_served_models, of all servers at `hosts`, merged. Those that do not answer are left out.

    A host's name may have several addresses. Raises UnavailableError where none answers.
    """
    return merge_served(_ask_all(hosts, lambda address: read_served_models(address, http_port, metrics_port)))


def count_interactive_of_all(
    hosts: Sequence[str], metrics_port: int, models: Collection[str]
) -> tuple[int, bool]:
    """As count_interactive, summed. Raises UnavailableError where none answers."""
    counts = _ask_all(hosts, lambda address: count_interactive(read_metrics(address, metrics_port), models))
    return sum(count for count, _ in counts), any(is_writing for _, is_writing in counts)


def read_ready(hosts: Sequence[str], http_port: int, seconds: float) -> list[tuple[str, bool]]:
    """Each address of `hosts`, and whether the server there says that it is ready. Blocks for about `seconds`."""

    def ask(address: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}:{http_port}/v2/health/ready", None, seconds):
                return True
        except (OSError, HTTPException):
            return False

    addresses = sorted(find_addresses(hosts))
    if not addresses:
        return []
    with ThreadPoolExecutor(min(MOST_AT_ONCE, len(addresses))) as threads:
        return list(zip(addresses, threads.map(ask, addresses), strict=True))


def merge_served(answers: Sequence[Sequence[ServedModel]]) -> list[ServedModel]:
    """One entry for each model that any server has, by name: ready where one has it ready. Pure.

    Its digest names the loads of all that have it ready: another one after each load of any of them. Its version is
    "" while they have different ones, as during a rolling restart with new files. Its adapters are those that all
    of them know.
    """
    found: dict[str, list[ServedModel]] = {}
    for answer in answers:
        for model in answer:
            found.setdefault(model.name, []).append(model)
    return [_merge(found[name]) for name in sorted(found)]


def _merge(models: Sequence[ServedModel]) -> ServedModel:
    serving = [model for model in models if model.is_ready] or list(models)
    digests = sorted({model.digest for model in serving})
    versions = {model.version for model in serving}
    joined = hashlib.sha256(" ".join(digests).encode()).hexdigest() if all(digests) else ""
    return replace(
        serving[0],
        reason=next((model.reason for model in models if model.reason), ""),
        digest=digests[0] if len(digests) == 1 else joined,
        version=versions.pop() if len(versions) == 1 else "",
        adapters=tuple(one for one in serving[0].adapters if all(one in model.adapters for model in serving)),
    )


def find_addresses(hosts: Sequence[str]) -> list[str]:
    """All addresses of `hosts`, as a URL has them; none of a name that nobody knows now. Asks DNS."""
    found: dict[str, None] = {}
    for host in hosts:
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            try:
                names = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError:
                continue
            found |= dict.fromkeys(str(name[4][0]) for name in names)
        else:
            found[host.strip("[]")] = None
    return [f"[{address}]" if ":" in address else address for address in found]


def _ask_all(hosts: Sequence[str], ask: Callable[[str], T]) -> list[T]:
    """What those say that answer, asked at the same time. Raises the first one's error where none does."""
    addresses = find_addresses(hosts)
    if not addresses:
        raise UnavailableError(f"no server has an address: {', '.join(hosts)}; see TRIREME_SERVER_HOSTS")
    answers: list[T] = []
    errors: list[UnavailableError] = []
    with ThreadPoolExecutor(min(MOST_AT_ONCE, len(addresses))) as threads:
        for asked in [threads.submit(ask, address) for address in addresses]:
            try:
                answers.append(asked.result())
            except UnavailableError as error:
                errors.append(error)
    if not answers:
        raise errors[0]
    return answers
