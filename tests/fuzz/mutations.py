"""A request that a model would answer, and what is then done to it."""

import struct
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.calls import Asked, Tensor
from fuzz.contracts import Contract, Input
from fuzz.values import BY_NAME, INTEGERS, STRANGE, some_floats, text, words

DIMENSIONS = 384
# Of one input, so that the machine that runs the fuzzer has room for those in flight.
MOST_BYTES = 4_000_000
DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
    "",
    "STRING",
    "FOO",
    "bytes",
    "BYTES\x00",
)
FORMATS = {"INT32": "i", "FP32": "f", "BOOL": "?"}


def ordinary(random: Random, contract: Contract) -> Asked:
    """A request in the form that the model takes; its values may be out of range."""
    rows = random.choice((1, 1, 1, 1, 2, 3, contract.rows)) if contract.rows > 1 else 1
    width = random.choice((0, 1, 2, 2, 3, 5, 20, 20))
    tensors = []
    for one in contract.inputs:
        if one.optional and random.random() < 0.6:
            continue
        dims = [_width(random, one, width) if size < 0 else size for size in one.dims]
        count = rows
        for size in dims:
            count *= size
        values = _values(random, one, count)
        tensors.append(Tensor(one.name, one.datatype, [rows, *dims] if contract.rows else dims, values))
    return Asked(contract.model, tensors)


def _width(random: Random, one: Input, width: int) -> int:
    if one.name == "embedding":
        return random.choice((DIMENSIONS,) * 12 + (0, 1, 383, 385, 100_000))
    if random.random() < 0.03:
        return random.choice((1000, 1001, 10_000))
    # Columns of one request have the same length, mostly.
    return width if random.random() < 0.95 else random.randint(0, 4)


def _values(random: Random, one: Input, count: int) -> list[Any]:
    if one.datatype == "FP32":
        return some_floats(random, count)
    if one.datatype == "BOOL":
        return [random.random() < 0.5 for _ in range(count)]
    if one.datatype != "BYTES":
        same = random.choice(INTEGERS) if random.random() < 0.5 else random.randint(1, 20)
        return [same] * count
    make = BY_NAME.get(one.name, text)
    if count > 64:
        # Many short ones.
        return [words(random, 3).encode() for _ in range(count)]
    if random.random() < 0.4:
        # So that not one bad row of many refuses all.
        return [words(random).encode() if make is text else make(random)] * count
    values = [make(random) for _ in range(count)]
    return values if sum(map(len, values)) < MOST_BYTES else [words(random).encode()] * count


def encode(tensor: Tensor) -> bytes:
    """The tensor's values as they go over the wire, or what stands in their place."""
    if tensor.raw is not None:
        return tensor.raw
    if tensor.datatype in FORMATS:
        return struct.pack(f"<{len(tensor.values)}{FORMATS[tensor.datatype]}", *tensor.values)
    return b"".join(struct.pack("<I", len(value)) + value for value in tensor.values)


def mutate(random: Random, asked: Asked, count: int) -> None:
    """Does `count` things to the request."""
    for _ in range(count):
        mutation = random.choice(MUTATIONS)
        mutation(random, asked)
        asked.notes.append(mutation.__name__)


def change_datatype(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        raw = encode(one)
        one.datatype = random.choice(DATATYPES)
        size = {"64": 8, "32": 4, "16": 2}.get(one.datatype[-2:], 1)
        # As many bytes as the type wants, or as there were.
        one.raw = raw if random.random() < 0.3 else (b"\x01" + bytes(size - 1)) * _count(one.shape)


def change_shape(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        one.raw = encode(one)
        one.shape = random.choice(
            (
                [],
                [0],
                [1],
                [-1],
                [1, 1],
                [1, 0],
                [0, 1],
                [1, -1],
                [2, 1],
                [-1, -1],
                [1, 1, 1],
                [1] * 40,
                [2**31, 1],
                [1, 2**31],
                [2**62, 4],
                [2**63 - 1],
                [-(2**63)],
                [1, 2**40],
                [65, 1],
                [1000, 1],
                [*one.shape, 1],
                one.shape[1:],
                list(reversed(one.shape)),
            )
        )


def claim_shape(random: Random, asked: Asked) -> None:
    """A shape for far more values than there are."""
    for one in _some(random, asked):
        size = random.choice((2**24 - 1, 2**24, 2**33, 2**40, 2**61, 2**62, 2**63 - 1))
        one.shape = random.choice(([1, size], [size], [size, 4], [size, size], [1, 1, size]))


def fill_shape(random: Random, asked: Asked) -> None:
    """Another shape, with as many values."""
    rows = random.choice((0, 1, 2, 3, 16, 17, 64, 65, 300))
    for one in asked.tensors if random.random() < 0.6 else _some(random, asked):
        if one.raw is None and one.shape:
            one.shape = [rows, *one.shape[1:]] if random.random() < 0.7 else [rows]
            need = min(_count(one.shape), 200_000, MOST_BYTES // _longest(one))
            one.values = ([*one.values] or [_blank(one.datatype)]) * (need // max(len(one.values), 1) + 1)
            one.values = one.values[:need]


def cut_bytes(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        raw = encode(one)
        one.raw = raw[: random.randint(0, len(raw))]


def add_bytes(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        one.raw = encode(one) + bytes(random.getrandbits(8) for _ in range(random.choice((1, 3, 4, 100))))


def lie_about_length(random: Random, asked: Asked) -> None:
    """The length in front of a string is not its own."""
    for one in _some(random, asked):
        raw = encode(one)
        length = random.choice((0, 1, len(raw), len(raw) - 3, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4))
        one.raw = struct.pack("<I", length % 2**32) + raw[4:]


def leave_out(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        asked.tensors.remove(one)


def leave_out_all(_random: Random, asked: Asked) -> None:
    asked.tensors.clear()


def double(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        asked.tensors.append(Tensor(one.name, one.datatype, list(one.shape), list(one.values), one.raw))


def add_unknown(random: Random, asked: Asked) -> None:
    name = random.choice(("extra", "", "a" * 10_000, "\x00", "top_k", "text", "embedding", "stream"))
    asked.tensors.append(Tensor(name, "BYTES", [1, 1], [b"a"]))


def rename(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        one.name = random.choice(("", "x", one.name.upper(), one.name + "\x00", "ü" * 100))


def change_model(random: Random, asked: Asked) -> None:
    asked.model = random.choice(
        ("", "nothing", "../embedding", "EMBEDDING", "a" * 5000, "embedding\x00", "%2e%2e")
    )


def change_version(random: Random, asked: Asked) -> None:
    asked.version = random.choice(("1", "2", "0", "-1", "99999999999999999999", "abc", " 1", "1.0", "\x00"))


def change_id(random: Random, asked: Asked) -> None:
    asked.id = random.choice(
        ("bulk", "a" * 100_000, "\x00", "<id_unknown>", "ü", "[INVALID_ARG] ", "1" * 32, "{}")
    )


def add_parameter(random: Random, asked: Asked) -> None:
    name = random.choice(PARAMETERS)
    asked.parameters[name] = random.choice(
        (True, False, 0, 1, -1, 2**63 - 1, 2**63, "", "x", "1", 0.5, "a" * 10_000)
    )


PARAMETERS = (
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "binary_data_output",
    "triton_enable_empty_final_response",
    "triton_final_response",
    "cancel",
    "max_tokens",
    "headers",
    "",
    "ü",
    "classification",
)


def ask_for_outputs(random: Random, asked: Asked) -> None:
    for _ in range(random.randint(1, 3)):
        name = random.choice(
            ("score", "text", "embedding", "text_output", "nothing", "", "id", "usage", "job_id")
        )
        asked.outputs.append((name, _output_parameters(random)))


def _output_parameters(random: Random) -> dict[str, Any]:
    kind = random.randrange(6)
    if kind == 0:
        return {"classification": random.choice((0, 1, 3, -1, 2**31, 2**63 - 1))}
    if kind == 1:
        return {"shared_memory_region": "nothing", "shared_memory_byte_size": 64}
    if kind == 2:
        return {"binary_data": random.choice((True, False, 1, "x"))}
    return {}


def claim_shared_memory(random: Random, asked: Asked) -> None:
    """The values are said to be in a region that nobody registered."""
    for one in _some(random, asked):
        one.parameters["shared_memory_region"] = random.choice(("nothing", "", "../x", "ü"))
        one.parameters["shared_memory_byte_size"] = random.choice((0, 1, 64, 2**40, -1))
        one.parameters["shared_memory_offset"] = random.choice((0, 1, 2**40, -1))
        if random.random() < 0.5:
            one.raw = b""


def claim_binary_size(random: Random, asked: Asked) -> None:
    for one in _some(random, asked):
        one.parameters["binary_data_size"] = random.choice((0, 1, 5, 100, 2**31, 2**63 - 1, -1, "x", 1.5))


MUTATIONS: tuple[Callable[[Random, Asked], None], ...] = (
    change_datatype,
    change_shape,
    claim_shape,
    fill_shape,
    fill_shape,
    cut_bytes,
    add_bytes,
    lie_about_length,
    leave_out,
    leave_out_all,
    double,
    add_unknown,
    rename,
    change_model,
    change_version,
    change_id,
    add_parameter,
    add_parameter,
    ask_for_outputs,
    claim_shared_memory,
    claim_binary_size,
)


def _some(random: Random, asked: Asked) -> list[Tensor]:
    if not asked.tensors:
        return []
    return random.sample(asked.tensors, 1 if random.random() < 0.7 else random.randint(1, len(asked.tensors)))


def _longest(one: Tensor) -> int:
    return max([1, *(len(value) for value in one.values if isinstance(value, bytes))])


def _blank(datatype: str) -> Any:
    return {"BYTES": STRANGE[1], "BOOL": False, "FP32": 0.0}.get(datatype, 1)


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= max(size, 0)
    return min(count, 100_000)
