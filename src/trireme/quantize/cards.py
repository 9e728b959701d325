"""Which card holds which model at which precision: its memory against weights, KV cache and a stated overhead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trireme.errors import SettingError
from trireme.quantize.recipe import GROUP_SIZES
from trireme.quantize.sizes import ModelShape, stored_bytes

# Memory of common cards in GB of 10^9 bytes, which none of them falls short of.
CARDS_GB = (24, 40, 48, 80, 96, 141)
# Method and bits of each row; fp8 is made by vLLM at load.
PRECISIONS = (("none", 16), ("fp8", 8), ("gptq", 8), ("awq", 4), ("gptq", 4), ("bnb-nf4", 4))
_GROUPED = ("awq", "gptq")
_NAMES = {"none": "bf16", "fp8": "fp8", "gptq": "GPTQ", "awq": "AWQ", "bnb-nf4": "NF4"}


@dataclass(frozen=True, slots=True)
class Load:
    """What runs beside the weights: tokens of `sequences` of `context` tokens in the KV cache, and the overhead
    (CUDA context, activations, CUDA graphs) in GB. Raises SettingError naming what is out of range.
    """

    context: int = 4096
    sequences: int = 8
    overhead_gb: float = 2.0

    def __post_init__(self) -> None:
        for name, value in (("context", self.context), ("sequences", self.sequences)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.overhead_gb < float("inf"):
            raise SettingError(f"overhead_gb must be at least 0, got {self.overhead_gb}")


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one model at one precision, and which cards hold their sum."""

    model: str
    precision: str
    weights: int
    cache: int
    overhead: int

    @property
    def total(self) -> int:
        """Bytes that a card must have."""
        return self.weights + self.cache + self.overhead

    def fits(self, card_gb: int) -> bool:
        """Whether a card of so many GB holds it."""
        return self.total <= card_gb * 10**9


def choose_group(linears: Iterable[tuple[int, int]], asked: int) -> int:
    """`asked` where it divides every projection's inputs, else the largest group size that does; 0 for none."""
    sizes = {inputs for inputs, _ in linears}
    fitting = [group for group in (asked, *sorted(GROUP_SIZES, reverse=True)) if group]
    return next((group for group in fitting if not any(size % group for size in sizes)), 0)


def list_needs(shape: ModelShape, load: Load, group_size: int = 0) -> list[Need]:
    """What `shape` needs at each precision. A precision whose groups divide no projection is left out."""
    group = choose_group(shape.linears, group_size)
    needs = []
    for method, bits in PRECISIONS:
        if method in _GROUPED and not group:
            continue
        width = group if method in _GROUPED else 0
        weights = stored_bytes(shape.all_linears, shape.kept, method, bits, width)
        label = f"{_NAMES[method]} int{bits}, g{group}" if width else _NAMES[method]
        cache = shape.cache_bytes(load.context * load.sequences)
        needs.append(Need(shape.name, label, weights, cache, round(load.overhead_gb * 10**9)))
    return needs


def format_cards(needs: Sequence[Need], load: Load) -> str:
    """The table as plain text, GB of 10^9 bytes."""
    width = max((len(need.model) for need in needs), default=5)
    cards = "".join(f"{card:>5}" for card in CARDS_GB)
    lines = [
        f"Cards that hold a model, by their GB: weights, KV cache in 16 bits of {load.sequences} x {load.context:,}"
        f" tokens, {load.overhead_gb:g} GB overhead. Embeddings and output layer stay in 16 bits.",
        f"{'model':<{width}}  {'precision':<15}{'weights':>9}{'KV':>8}{'needed':>9}{cards}",
    ]
    for need in needs:
        figures = f"{need.weights / 1e9:>9.2f}{need.cache / 1e9:>8.2f}{need.total / 1e9:>9.2f}"
        marks = "".join(f"{'yes' if need.fits(card) else '-':>5}" for card in CARDS_GB)
        lines.append(f"{need.model:<{width}}  {need.precision:<15}{figures}{marks}")
    return "\n".join(lines)
