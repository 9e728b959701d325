"""The endpoints that a key can be limited to, by the names that people give them."""

from __future__ import annotations

# Name -> the paths behind it, as a help text shows them.
ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "messages": "/v1/messages, /v1/messages/count_tokens",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings, /embed",
    "rerank": "/v2/rerank, /v1/rerank, /rerank",
    "classify": "/predict",
    "models": "/v1/models, /v1/model_cards, /info",
    "search": "/v1/search, /v1/vector_stores",
    "documents": "/v1/documents, /v1/jobs, /v1/files, DELETE /v1/vector_stores",
    "metrics": "/metrics",
    "usage": "/v1/usage, /v1/budgets, /v1/cost, /v1/requests, /v1/live",
    "admin": "/v1/budgets, /v1/releases, /v1/keys, /v1/tenants",
}
# What every key may ask, whatever it is limited to: what it is itself.
ANYBODYS = ("me",)
# A key that is limited to no endpoints may use all but these: they must be named.
NAMED = ("admin",)
# Endpoint -> those that come with it.
_WITH = {"admin": ("usage",)}


def can_use(endpoints: tuple[str, ...], endpoint: str) -> bool:
    """Whether a key that is limited to `endpoints` (empty: not limited) may use `endpoint`."""
    if endpoint in ANYBODYS:
        return True
    if any(endpoint in _WITH.get(name, ()) for name in endpoints):
        return True
    if endpoint in NAMED:
        return endpoint in endpoints
    return not endpoints or endpoint in endpoints
