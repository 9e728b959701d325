"""gateway.toml: providers, models with their chains, tenants, limits. Read and checked once, at start."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from trireme.access.priorities import Priority
from trireme.errors import SettingError
from trireme.gateway.budget_rows import BudgetRow, check_budgets, check_home
from trireme.gateway.cascades.rows import DecideAfter, OnRefusal, StepRow, check_steps
from trireme.gateway.degrade.rows import EXTRACTIVE, RouteRow, check_route
from trireme.gateway.own_regions import LocalRow, check_local
from trireme.gateway.spending.machine_rows import MachineRow, check_machines
from trireme.settings import Settings

# A name before the colon of "provider:model", and in headers and metrics.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
LOCAL = "local"


class ProviderRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider. `keys` names environment variables, never the secrets themselves; several are tried in turn.

    kind: a row of `trireme.providers.registry`. url: of its API, for triton host:port of gRPC ("": the
    settings'). region: a word for residency rules. cache_salt: how the tenant's salt is sent, if at all. Seconds
    are those of one attempt: until its first byte, between two parts, and in all.
    """

    kind: str
    url: str = ""
    keys: list[str] = []
    region: str = ""
    cache_salt: Literal["off", "vllm", "openai"] = "off"
    first_seconds: float = 60.0
    between_seconds: float = 60.0
    total_seconds: float = 600.0


class PriceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What "provider:model" costs, in place of the price table's: US dollars for a million tokens.

    cached, cache_write: as input where they are not given. Of own machines instead: dollars_per_hour of what serves
    the model, or machine, a kind in [machines] with prices by date; and tokens_per_second that it makes: the
    measured rate takes its place once there is one.
    """

    input: float | None = None
    cached: float | None = None
    cache_write: float | None = None
    output: float | None = None
    dollars_per_hour: float | None = None
    machine: str = ""
    tokens_per_second: float | None = None

    @property
    def is_by_hour(self) -> bool:
        """Whether it is the price of a machine's time."""
        return self.dollars_per_hour is not None or bool(self.machine)


# Ten years: a store takes no more for ever.
MOST_CACHE_SECONDS = 315_360_000


class CacheRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The caches of answers. exact: deterministic (temperature 0), all, or off, where a model does not say.

    seconds: that an answer is kept. entry_bytes: of one at most. hit_share: what a hit is charged, as a
    share of its price from 0 to 1. http_seconds: that HTTP's own caches may keep what encoders and searches answer.
    """

    exact: Literal["deterministic", "all", "off"] = "deterministic"
    seconds: float = 3600.0
    entry_bytes: int = 1 << 20
    hit_share: float = 0.0
    http_seconds: int = 60


class PublicRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests without a key: as which tenant they are answered ("": none are), at which endpoints, and of what.

    Their answers may be kept by caches that many share. models, collections: empty for all of the tenant's.
    requests_per_minute: of all of them together; 0: no limit.
    """

    tenant: str = ""
    endpoints: list[Literal["embeddings", "rerank", "classify", "search"]] = []
    models: list[str] = []
    collections: list[str] = []
    requests_per_minute: int = 600


class StopWhen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an answer is sufficient and is stopped; what is met first counts.

    json: its first JSON value is closed. citation: a sentence that ends with a citation [n] is over. repetition:
    it says the same again and again. sentences: so many are over.
    """

    json: bool = False
    citation: bool = False
    repetition: bool = False
    sentences: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None


class SemanticRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turns the semantic cache on for a model or a tenant; a tenant's row holds in place of its models'.

    max_false_hits: the promise, as a share of the hits; 0 turns it off again. shadow_share: of hits that are asked
    upstream as well and compared. threshold: of the equivalence score, where it is not the model's own.
    """

    max_false_hits: float = 0.01
    shadow_share: float = 0.02
    threshold: float | None = None


class ModelRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name that clients use, and its chain: "provider:model", or the name of a model of our own Triton.

    steps: of a cascade, in place of a chain, from cheap to dear. decide_after: what of a step's answer is judged.
    on_refusal: what is shown where a budget does not pay for the last step: the budget's error, or the likeliest of
    the answers that were not sure enough. exact: as in [cache], for this model. stop_when: of answers whose request
    does not say. semantic: off without it.
    """

    chain: list[str] = []
    steps: list[StepRow] = []
    decide_after: DecideAfter = "answer"
    on_refusal: OnRefusal = "error"
    exact: Literal["deterministic", "all", "off"] | None = None
    stop_when: StopWhen | None = None
    semantic: SemanticRow | None = None

    @property
    def entries(self) -> list[str]:
        """Those of the chain, or of all steps in their order."""
        return self.chain or [entry for step in self.steps for entry in step.entries]


class TenantRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tenant forbids: a chain skips such providers and regions, and says so. semantic: as a model's.

    priority: of its requests at most, whatever its keys allow. home: the region that keeps its budgets; "": this
    gateway's own.
    """

    home: str = ""
    forbid_providers: list[str] = []
    forbid_regions: list[str] = []
    semantic: SemanticRow | None = None
    priority: Priority | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one request: bytes, depth and items of its body, bytes of an uploaded file, seconds to send it.

    idle_seconds: a connection that sends no request for so long is closed. reading_seconds: for the client to take
    what was sent, else it is cut off. requests: that run at once.
    """

    body_bytes: int = 8 << 20
    upload_bytes: int = 256 << 20
    depth: int = 64
    items: int = 400_000
    body_seconds: float = 30.0
    idle_seconds: float = 30.0
    reading_seconds: float = 60.0
    requests: int = 2_000


class AttemptRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of all attempts of one request: how many, and the deadline of them all. retry_share: of traffic, at most."""

    most: int = 3
    seconds: float = 600.0
    retry_share: float = 0.1


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models of requests that name none, as text-embeddings-inference's clients send them. "": refuse."""

    embed: str = "embedding"
    rerank: str = "reranker"
    classify: str = ""


class ConsoleRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The web console at /console. on: whether it is served."""

    on: bool = True


class GatewayFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    providers: dict[str, ProviderRow] = {}
    models: dict[str, ModelRow] = {}
    tenants: dict[str, TenantRow] = {}
    limits: Limits = Limits()
    attempts: AttemptRow = AttemptRow()
    prices: dict[str, PriceRow] = {}
    machines: dict[str, list[MachineRow]] = {}
    budgets: BudgetRow = BudgetRow()
    cache: CacheRow = CacheRow()
    public: PublicRow = PublicRow()
    defaults: Defaults = Defaults()
    console: ConsoleRow = ConsoleRow()
    degrade: dict[str, RouteRow] = {}
    local: LocalRow = LocalRow()

    def home_of(self, tenant: str) -> str:
        """The other region that keeps the tenant's budgets; "" where this one does."""
        row = self.tenants.get(tenant)
        return "" if row is None or row.home == self.local.region else row.home

    def homes(self) -> list[str]:
        """The other regions that are some tenant's home, each once."""
        return sorted({self.home_of(tenant) for tenant in self.tenants} - {""})

    def targets(self) -> list[str]:
        """provider:model of every chain, each once."""
        named = (split_target(entry) for row in self.models.values() for entry in row.entries)
        return list(dict.fromkeys(f"{provider}:{model}" for provider, model in named))


def read_gateway_file(path: Path) -> GatewayFile:
    """The file at `path`; without one at the default path, this machine's Triton alone.

    Raises SettingError naming key and file, also where a file that somebody named is missing.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        if path != Path(Settings().gateway_file):
            raise SettingError(f"{path} is missing; TRIREME_GATEWAY_FILE names it") from None
        raw = b""
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from None
    return parse_gateway_file(raw, str(path))


def parse_gateway_file(raw: bytes, name: str) -> GatewayFile:
    """As `read_gateway_file`, of the file's bytes."""
    try:
        file = msgspec.toml.decode(raw, type=GatewayFile)
    except msgspec.DecodeError as error:
        raise SettingError(f"{name}: {error}") from None
    rows = {LOCAL: ProviderRow(kind="triton"), **file.providers}
    file = msgspec.structs.replace(file, providers=rows)
    _check_numbers(file, name)
    check_machines(file.machines, name)
    check_budgets(file.budgets, name)
    _check_public(file.public, name)
    _check_providers(file.providers, name)
    check_local(file.local, "" if file.providers[LOCAL].url else file.providers[LOCAL].region, name)
    for model, row in file.models.items():
        _check_model(f"{name}: models.{model}", row, file.providers)
    cascades = {
        model: any(step.answer_mode == EXTRACTIVE for step in row.steps[:-1])
        for model, row in file.models.items()
        if row.steps
    }
    for route, policy in file.degrade.items():
        check_route(f"{name}: degrade.{route}", route, policy, cascades)
    for tenant, rule in file.tenants.items():
        for provider in rule.forbid_providers:
            if provider not in file.providers:
                raise SettingError(
                    f"{name}: tenants.{tenant} forbids {provider!r}, which is no provider here"
                )
        _check_regions(tenant, rule, file.providers, name)
        check_home(f"{name}: tenants.{tenant}.home", rule.home, rule.forbid_regions, file.local)
    return file


def split_target(entry: str) -> tuple[str, str]:
    """Provider and model of an entry of a chain. Without a provider in front it is a model of our own Triton."""
    provider, colon, model = entry.partition(":")
    return (provider, model) if colon else (LOCAL, entry)


def _check_numbers(file: GatewayFile, name: str) -> None:
    for field in Limits.__struct_fields__:
        if getattr(file.limits, field) < 1:
            raise SettingError(f"{name}: limits.{field} must be at least 1")
    if file.attempts.most < 1 or file.attempts.seconds <= 0:
        raise SettingError(f"{name}: attempts.most must be at least 1, attempts.seconds above 0")
    if not 0 <= file.attempts.retry_share <= 1:
        raise SettingError(f"{name}: attempts.retry_share must be from 0 to 1")
    _check_cache(file.cache, name)
    tables: dict[str, Mapping[str, ModelRow | TenantRow]] = {"models": file.models, "tenants": file.tenants}
    for kind, rows in tables.items():
        for key, row in rows.items():
            if row.semantic is not None:
                _check_semantic(f"{name}: {kind}.{key}.semantic", row.semantic)
    for key, model in file.models.items():
        # It looks among the answers that the exact tier keeps.
        if (
            (model.exact or file.cache.exact) == "off"
            and model.semantic
            and model.semantic.max_false_hits > 0
        ):
            raise SettingError(f"{name}: models.{key}.semantic needs models.{key}.exact, which is off")


def _check_cache(row: CacheRow, name: str) -> None:
    # So written that what is not a number is refused as well.
    if not 0 <= row.seconds <= MOST_CACHE_SECONDS or not 0 <= row.http_seconds <= MOST_CACHE_SECONDS:
        raise SettingError(
            f"{name}: cache.seconds and cache.http_seconds must be from 0 to {MOST_CACHE_SECONDS}"
        )
    if not 0 <= row.hit_share <= 1:
        raise SettingError(f"{name}: cache.hit_share must be from 0 to 1")
    if row.entry_bytes < 1:
        raise SettingError(f"{name}: cache.entry_bytes must be at least 1")


def _check_semantic(where: str, row: SemanticRow) -> None:
    if not 0 <= row.max_false_hits < 1:
        raise SettingError(f"{where}.max_false_hits must be from 0 to below 1")
    if row.max_false_hits > 0 and not 0 < row.shadow_share <= 1:
        raise SettingError(f"{where}.shadow_share must be above 0 and at most 1: a promise is checked")
    if row.threshold is not None and not math.isfinite(row.threshold):
        raise SettingError(f"{where}.threshold must be a number")


def _check_public(row: PublicRow, name: str) -> None:
    if row.endpoints and not row.tenant:
        raise SettingError(f"{name}: public.tenant is missing: it says whose data requests without a key see")
    if row.requests_per_minute < 0:
        raise SettingError(f"{name}: public.requests_per_minute must be at least 0")


def _check_providers(rows: Mapping[str, ProviderRow], name: str) -> None:
    for key, row in rows.items():
        if key == LOCAL and row.kind != "triton":
            raise SettingError(
                f"{name}: providers.{LOCAL} is this machine's Triton; name {row.kind!r} otherwise"
            )
        if not _NAME.fullmatch(key):
            raise SettingError(f"{name}: providers.{key}: a name has lower-case letters, digits, - and _")
        for field in ("first_seconds", "between_seconds", "total_seconds"):
            if getattr(row, field) <= 0:
                raise SettingError(f"{name}: providers.{key}.{field} must be above 0")


def _check_regions(tenant: str, rule: TenantRow, providers: Mapping[str, ProviderRow], name: str) -> None:
    """Where a region is forbidden, every provider elsewhere must say where it is."""
    for region in rule.forbid_regions:
        if not region or region != region.strip():
            # Of a name that no region has, nothing would be kept.
            raise SettingError(f"{name}: tenants.{tenant}.forbid_regions: {region!r} is no name of a region")
    for provider, row in providers.items():
        is_own = provider == LOCAL and not row.url
        if rule.forbid_regions and not row.region and not is_own:
            raise SettingError(
                f"{name}: providers.{provider}.region is missing: tenants.{tenant} forbids regions"
            )


def _check_model(where: str, row: ModelRow, providers: Mapping[str, ProviderRow]) -> None:
    def check_entry(key: str, entry: str) -> None:
        provider, target = split_target(entry)
        if provider not in providers:
            raise SettingError(f"{key}: no provider {provider!r}; add [providers.{provider}]")
        if not target:
            raise SettingError(f"{key}: {entry!r} names no model")

    if row.steps and row.chain:
        raise SettingError(f"{where} has a chain and steps; a model has one of them")
    if row.steps:
        check_steps(where, row.steps, row.decide_after, row.on_refusal, check_entry)
        return
    if not row.chain:
        raise SettingError(f"{where}.chain is empty; name at least one provider:model")
    for key in ("decide_after", "on_refusal"):
        if getattr(row, key) != getattr(ModelRow(), key):
            raise SettingError(f"{where}.{key} is of steps, and this model has a chain")
    for entry in row.chain:
        check_entry(f"{where}.chain", entry)
