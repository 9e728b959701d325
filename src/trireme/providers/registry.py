"""Which kind of provider is which class: one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from trireme.errors import SettingError
from trireme.providers.backlogs import BacklogReader
from trireme.providers.models import ModelServer
from trireme.providers.port import ChatProvider
from trireme.providers.replicas import ReplicaReader
from trireme.triton.wire import own_address


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What opens one provider with one of its keys. `key` is the secret itself: kept out of repr, never logged.

    cache_salt: off, vllm (body field cache_salt) or openai (prompt_cache_key).
    """

    name: str
    url: str
    key: str = field(default="", repr=False)
    cache_salt: str = "off"


@dataclass(frozen=True, slots=True)
class TritonPorts:
    """Where our own tritonserver listens: the address that it is bound to, and its ports.

    hosts: of several that stand behind host:grpc_port; HTTP and metrics are there.
    """

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    hosts: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """host:port of gRPC."""
        return own_address(self.host, self.grpc_port)


def open_model_server(ports: TritonPorts, far_names: Iterable[str] | None = None) -> ModelServer:
    """What our own Triton does beside chats; connects when it is first used. far_names: see TritonModels."""
    from trireme.providers.triton_models import TritonModels
    from trireme.triton.async_client import AsyncTritonClient

    client = AsyncTritonClient(ports.url)
    http, metrics = ports.http_port, ports.metrics_port
    return TritonModels(client, ports.host, http, metrics, ports.hosts, far_names=far_names)


def open_backlogs(ports: TritonPorts) -> BacklogReader:
    """How much work waits in front of each of its models."""
    from trireme.providers.triton_backlogs import TritonBacklogs

    return TritonBacklogs(ports.host, ports.metrics_port)


def open_replicas(ports: TritonPorts) -> ReplicaReader:
    """Which servers there are, and which are ready."""
    from trireme.providers.triton_replicas import TritonReplicas

    return TritonReplicas(ports.hosts or (ports.host,), ports.http_port)


def open_provider(kind: str, options: ProviderOptions) -> ChatProvider:
    """A provider; connects when it is first used. Raises SettingError for an unknown kind."""
    if kind not in PROVIDERS:
        raise SettingError(
            f"providers.{options.name}.kind {kind!r} is unknown; known: {', '.join(PROVIDERS)}"
        )
    return PROVIDERS[kind](options)


def _triton(options: ProviderOptions) -> ChatProvider:
    from trireme.providers.triton_chat import TritonChat
    from trireme.triton.async_client import AsyncTritonClient

    return TritonChat(AsyncTritonClient(options.url))


def _openai(options: ProviderOptions) -> ChatProvider:
    from trireme.providers.openai import OpenAIProvider

    return OpenAIProvider(options)


def _anthropic(options: ProviderOptions) -> ChatProvider:
    from trireme.providers.anthropic import AnthropicProvider

    return AnthropicProvider(options)


PROVIDERS: dict[str, Callable[[ProviderOptions], ChatProvider]] = {
    "triton": _triton,
    "openai": _openai,
    "anthropic": _anthropic,
}
