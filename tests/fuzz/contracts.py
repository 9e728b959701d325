"""What each served model takes, from its config.pbtxt."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


@dataclass(frozen=True)
class Input:
    """An input as the protocol names its data type; dims without the batch, -1 for any."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool


@dataclass(frozen=True)
class Contract:
    """rows: the largest batch; 0 for a model without a batch dimension."""

    model: str
    rows: int
    decoupled: bool
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]


def read_contracts(repository: Path) -> list[Contract]:
    """Every model of the repository, in the order of their names."""
    return [_read(path) for path in sorted(repository.glob("*/config.pbtxt"))]


def _read(path: Path) -> Contract:
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    return Contract(
        model=config.name,
        rows=config.max_batch_size,
        decoupled=config.model_transaction_policy.decoupled,
        inputs=tuple(
            Input(one.name, _protocol_name(one.data_type), tuple(one.dims), one.optional)
            for one in config.input
        ),
        outputs=tuple(one.name for one in config.output),
    )


def _protocol_name(data_type: int) -> str:
    name = model_config_pb2.DataType.Name(data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name
