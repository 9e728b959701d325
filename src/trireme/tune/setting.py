"""The settings that may be tried: which keys of which models, their values, and the steps between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trireme.artifacts.kinds import ENCODER_KINDS
from trireme.artifacts.machine_config import fit_cores
from trireme.artifacts.recipe import Recipe
from trireme.errors import UnsupportedError

INSTANCES, THREADS = "instances", "threads"
BATCH, DELAY, TOKENS = "max_batch_size", "max_queue_delay_us", "max_batch_tokens"
KEYS = (INSTANCES, THREADS, TOKENS, BATCH, DELAY)
TOKEN_BUDGETS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
QUEUE_DELAYS_US = (0, 100, 250, 500, 1000, 2000, 4000, 8000)
# Requests of our own clients have up to so many rows; a smaller max_batch_size would refuse them.
CLIENT_ROWS = 32
GPU_INSTANCES = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Setting:
    """Values by "MODEL.KEY", in the order of the models and of KEYS. Hashable."""

    values: tuple[tuple[str, int], ...]

    def __getitem__(self, name: str) -> int:
        return dict(self.values)[name]

    def change(self, changes: Mapping[str, int]) -> Setting:
        """This setting with other values of known names."""
        return Setting(tuple((name, changes.get(name, value)) for name, value in self.values))

    def values_of(self, model: str) -> dict[str, int]:
        """KEY -> value of one model."""
        return {
            name.removeprefix(f"{model}."): value
            for name, value in self.values
            if name.startswith(f"{model}.")
        }

    def describe(self, base: Setting | None = None) -> str:
        """Words for a person: what differs from `base`, or all; without the model where there is but one."""
        one = len({name.partition(".")[0] for name, _ in self.values}) == 1
        differing = [(n, v) for n, v in self.values if base is None or base[n] != v]
        words = [f"{name.partition('.')[2] if one else name} {value}" for name, value in differing]
        return ", ".join(words) or "as it is"


@dataclass(frozen=True, slots=True)
class Step:
    """Moves of one or two keys at once: name -> places up (or, below zero, down) its list of values."""

    moves: tuple[tuple[str, int], ...]

    @property
    def back(self) -> Step:
        """The same the other way."""
        return Step(tuple((name, -places) for name, places in self.moves))


@dataclass(frozen=True, slots=True)
class Space:
    """`values` has the values of each "MODEL.KEY" in rising order; `steps` what the search may do to a setting."""

    start: Setting
    values: dict[str, tuple[int, ...]]
    steps: tuple[Step, ...]

    def move(self, setting: Setting, step: Step) -> Setting | None:
        """The setting one step on, or None at the end of a list."""
        changes = {}
        for name, places in step.moves:
            position = self.values[name].index(setting[name]) + places
            if not 0 <= position < len(self.values[name]):
                return None
            changes[name] = self.values[name][position]
        return setting.change(changes)


def make_space(
    recipes: Sequence[Recipe], cores: int, slo_p95_ms: float, least_batch_size: int | None = None
) -> Space:
    """What may be tried for these encoders on a machine of `cores`, around what their recipes say now.

    No max_batch_size below `least_batch_size` is tried (default: CLIENT_ROWS, or the present one where that
    is smaller), since it would refuse requests that are answered now. Raises UnsupportedError for a model
    that is no encoder.
    """
    values: dict[str, tuple[int, ...]] = {}
    start: list[tuple[str, int]] = []
    steps: list[Step] = []
    for recipe in recipes:
        if not recipe.traits.is_encoder:
            raise UnsupportedError(
                f"{recipe.model} is of kind {recipe.kind!r}; the tuner takes encoders ({', '.join(ENCODER_KINDS)})"
                " and search chains"
            )
        for key, listed in _list_values(recipe, cores, slo_p95_ms, least_batch_size):
            name, now = f"{recipe.model}.{key}", getattr(recipe, key)
            start.append((name, now))
            values[name] = _order({*listed, now}, key, recipe, cores)
        steps += _make_steps(recipe.model, values)
    return Space(Setting(tuple(start)), values, tuple(steps))


def apply_setting(recipe: Recipe, setting: Setting) -> Recipe:
    """The recipe with the setting's values of its model."""
    changes: dict[str, Any] = setting.values_of(recipe.model)
    return replace(recipe, **changes)


def _list_values(
    recipe: Recipe, cores: int, slo_p95_ms: float, least_batch_size: int | None
) -> Iterator[tuple[str, Sequence[int]]]:
    on_cpu = recipe.target == "cpu"
    # 0 stands for the number that it means here.
    open_to = fit_cores(recipe, cores).instances if recipe.instances == 0 else 0
    yield INSTANCES, [count for count in _powers(cores) if count != open_to] if on_cpu else GPU_INSTANCES
    if on_cpu:
        # 0, one per core, stands for the whole machine.
        now = () if recipe.threads == cores else (0,)
        yield THREADS, [*(count for count in _powers(cores) if count < cores), *now]
    yield TOKENS, TOKEN_BUDGETS
    if recipe.dynamic_batching:
        least = min(recipe.max_batch_size, CLIENT_ROWS) if least_batch_size is None else least_batch_size
        yield BATCH, [size for size in BATCH_SIZES if size >= least]
        # Waiting half of the limit would leave too little to compute in.
        yield DELAY, [delay for delay in QUEUE_DELAYS_US if delay <= slo_p95_ms * 1000 / 2]


def _powers(most: int) -> list[int]:
    """1, 2, 4 ... and `most` itself."""
    return sorted({most, *(2**exponent for exponent in range(most.bit_length()) if 2**exponent <= most)})


def _order(listed: set[int], key: str, recipe: Recipe, cores: int) -> tuple[int, ...]:
    # 0 threads are an instance's share of the cores; 0 instances are as many as pay.
    meant = {THREADS: cores, INSTANCES: fit_cores(recipe, cores).instances}
    return tuple(sorted(listed, key=lambda value: (value or meant.get(key, 0), value == 0)))


def _make_steps(model: str, values: Mapping[str, tuple[int, ...]]) -> Iterator[Step]:
    """Each key by itself, and instances against threads, which share the same cores."""
    instances, threads = f"{model}.{INSTANCES}", f"{model}.{THREADS}"
    if threads in values:
        yield Step(((instances, 1), (threads, -1)))
    for key in KEYS:
        if f"{model}.{key}" in values:
            yield Step(((f"{model}.{key}", 1),))
