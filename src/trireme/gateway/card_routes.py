"""The handler of the models' cards: what each model is that the key may use, and how near to its original."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trireme.errors import UnavailableError
from trireme.gateway.bodies import Receive
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import LOCAL, split_target
from trireme.gateway.gate import Handler
from trireme.gateway.parameters import read_parameters, require_known
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.wire.cards import card_body, chain_body
from trireme.providers.model_cards import ModelCard


async def get_model_cards(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/model_cards: of the models that the key may use, in the order of GET /v1/models."""
    require_known(read_parameters(exchange), ())
    try:
        served, is_away = await ports.served.read(), False
    except UnavailableError:
        served, is_away = ports.served.known or {}, True
    ready = {name: None if is_away else model.is_ready for name, model in served.items()}
    names = ports.chains.names(exchange.caller, served)
    own = [name for name in names if name not in ports.file.models]
    cards = await ports.looks.read(exchange.caller, _read_cards, ports.read_card, own)
    data = []
    for name in names:
        row = ports.file.models.get(name)
        if row is None:
            data.append(card_body(served[name], cards[name], is_ready=ready[name]))
            continue
        local = [model for provider, model in map(split_target, row.entries) if provider == LOCAL]
        found = [None if is_away else ready.get(model, False) for model in local]
        data.append(chain_body(name, row, is_ready=None if None in found or not found else any(found)))
    return JsonReply({"object": "list", "data": data})


# As BUDGET_ROUTES.
CARD_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/v1/model_cards", "models", get_model_cards),
)


def _read_cards(read: Callable[[str], ModelCard | None], names: Sequence[str]) -> dict[str, ModelCard | None]:
    return {name: read(name) for name in names}
