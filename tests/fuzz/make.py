"""Request number N of a seed: always the same one."""

from collections.abc import Sequence
from random import Random

from fuzz.calls import Call
from fuzz.contracts import Contract
from fuzz.malformed import broken_grpc, broken_http, other_body, other_endpoint
from fuzz.mutations import mutate, ordinary
from fuzz.wire import to_generate, to_http, to_message

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
UNARY = "/inference.GRPCInferenceService/ModelInfer"

# Asks for errors as gRPC statuses.
STRICT = (("triton_grpc_error", "true"),)


def make_call(seed: int, number: int, contracts: Sequence[Contract]) -> Call:
    """The request; it depends on nothing but the seed, the number and the models' configurations."""
    random = Random(f"{seed}:{number}")
    contract = random.choice(contracts)
    kind = random.random()
    if kind < 0.04:
        return other_body(random, contract.model)
    if kind < 0.06:
        return other_endpoint(random)
    if kind < 0.09:
        return broken_http(random, contract.model)
    if kind < 0.1:
        return broken_grpc(random)
    return _to_model(random, contract)


def _to_model(random: Random, contract: Contract) -> Call:
    messages = 1
    way = random.choice(("grpc", "grpc", "stream", "stream", "http", "generate"))
    if way == "stream" and not contract.decoupled:
        # Of a decoupled model's answer and an error on one stream tritonserver may write both at once, and abort.
        messages = random.choice((1, 1, 1, 2, 4))
    parts, notes = [], []
    for _ in range(messages):
        asked = ordinary(random, contract)
        mutate(random, asked, random.choice((0, 0, 1, 1, 1, 2, 3)))
        notes.append("+".join(asked.notes) or "ordinary")
        if way in ("http", "generate"):
            call = (to_http if way == "http" else to_generate)(random, asked)
            return Call(**{**_fields(call), "model": contract.model, "note": notes[0]})
        parts.append(to_message(random, asked))
    return Call(
        way, contract.model, tuple(parts), path=STREAM if way == "stream" else UNARY, note=" | ".join(notes)
    )


def _fields(call: Call) -> dict:
    return {name: getattr(call, name) for name in call.__dataclass_fields__}
