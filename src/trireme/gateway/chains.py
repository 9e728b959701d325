"""Names of models to the targets that may answer for them, within what a key and its tenant allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trireme.access.keys import Key
from trireme.errors import NotFoundError, PermissionDeniedError, SettingError
from trireme.gateway.cascades.plan import CascadePlan, StepPlan
from trireme.gateway.file import LOCAL, GatewayFile, TenantRow, split_target
from trireme.providers.models import ServedModel, base_of
from trireme.providers.targets import Entry, Target

# Of a name that a client sends; it stands in the log, in metrics and in a header.
NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a cascade with the targets that the tenant's rules leave."""

    plan: StepPlan
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """Who may answer, in order. `forbidden`: targets that the tenant's rules leave out.

    plan: of a cascade, whose steps hold the targets. left: steps that are not asked, each with the reason. ends_at:
    name of the step whose answer is shown under load though it is not sure enough; "" for none.
    """

    targets: tuple[Target, ...]
    forbidden: tuple[str, ...] = ()
    plan: CascadePlan | None = None
    steps: tuple[Step, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    ends_at: str = ""


class Chains:
    """The chains of gateway.toml over the providers that are open."""

    def __init__(
        self,
        file: GatewayFile,
        entries: Mapping[str, Entry],
        cascades: Mapping[str, CascadePlan] = MappingProxyType({}),
    ) -> None:
        """cascades: of all models of the file that have steps. Raises SettingError where one is missing."""
        for model, row in file.models.items():
            # Asked as a chain, its first step's answers would be shown whatever they are.
            if row.steps and model not in cascades:
                raise SettingError(f"models.{model}.steps: their calibrations were not read")
        self._file = file
        self._cascades = cascades
        self._entries = dict(entries)

    def find(self, model: str, key: Key, served: Mapping[str, ServedModel] | None) -> Chain:
        """The chain of `model`. served: what our Triton has, None while nobody knows.

        Raises NotFoundError for a model that nobody has, PermissionDeniedError for one that the key may not use or
        that the tenant's rules leave without a provider.
        """
        may_use(key, model)
        row = self._file.models.get(model)
        if row is not None:
            named = [split_target(entry) for entry in row.entries]
        else:
            named = [self._find_target(model, served)]
        rule = self._file.tenants.get(key.tenant, TenantRow())
        targets = tuple(Target(self._entries[provider], name) for provider, name in named)
        allowed = tuple(one for one in targets if not _is_forbidden(one, rule))
        forbidden = tuple(one.label for one in targets if one not in allowed)
        if not allowed:
            raise PermissionDeniedError(
                f"tenant {key.tenant!r} forbids every provider of {model!r}: {', '.join(forbidden)}"
            )
        plan = self._cascades.get(model)
        if plan is None:
            return Chain(allowed, forbidden)
        return Chain(allowed, forbidden, plan, tuple(self._step(step, rule) for step in plan.steps))

    def _step(self, plan: StepPlan, rule: TenantRow) -> Step:
        targets = (Target(self._entries[provider], name) for provider, name in plan.targets)
        return Step(plan, tuple(one for one in targets if not _is_forbidden(one, rule)))

    def _find_target(self, model: str, served: Mapping[str, ServedModel] | None) -> tuple[str, str]:
        """Provider and model of a name that is not in the file. Raises NotFoundError."""
        provider, colon, name = model.partition(":")
        if len(model) <= NAME_LENGTH:
            if served is not None and model in served:
                return LOCAL, model
            # An adapter of our own that is gone is no reason to send a prompt elsewhere.
            is_own = any(one != provider == base_of(one) for one in served or ())
            if colon and name and provider in self._entries and not is_own:
                return provider, name
            if served is None:
                return LOCAL, model
        raise NotFoundError(f"no model {model[:80]!r}; GET /v1/models lists those there are")

    def check_own(self, model: str, key: Key) -> None:
        """Raises PermissionDeniedError unless key and tenant allow `model` of our own Triton."""
        may_use(key, model)
        if len(model) > NAME_LENGTH:
            raise NotFoundError(f"no model {model[:80]!r}; GET /v1/models lists those there are")
        if _is_forbidden(
            Target(self._entries[LOCAL], model), self._file.tenants.get(key.tenant, TenantRow())
        ):
            raise PermissionDeniedError(f"tenant {key.tenant!r} forbids the models of provider {LOCAL!r}")

    def owner(self, model: str) -> str:
        """The provider that is asked first for a model of the file."""
        return split_target(self._file.models[model].entries[0])[0]

    def names(self, key: Key, served: Mapping[str, ServedModel]) -> list[str]:
        """Models that the key may use: those of the file, then our own, each once."""
        rule = self._file.tenants.get(key.tenant, TenantRow())
        return [
            name
            for name in dict.fromkeys((*self._file.models, *served))
            if (not key.models or name in key.models) and self._has_target(name, rule)
        ]

    def _has_target(self, model: str, rule: TenantRow) -> bool:
        """Whether the tenant's rules leave anybody who answers."""
        row = self._file.models.get(model)
        named = [split_target(entry) for entry in row.entries] if row else [(LOCAL, model)]
        return any(not _is_forbidden(Target(self._entries[provider], name), rule) for provider, name in named)


def may_use(key: Key, model: str) -> None:
    """Raises PermissionDeniedError unless the key may use `model`."""
    if key.models and model not in key.models:
        raise PermissionDeniedError(
            f"this key may not use model {model[:80]!r}; it may use: {', '.join(key.models)}"
        )


def choose_collection(key: Key, asked: str | None, default: str) -> str:
    """The collection of a request. Without one asked for: the default, or the first that the key may use.

    Raises PermissionDeniedError for one that the key may not use.
    """
    if asked is None:
        return key.collections[0] if key.collections and default not in key.collections else default
    if key.collections and asked not in key.collections:
        raise PermissionDeniedError(
            f"this key may not use collection {asked[:80]!r}; it may use: {', '.join(key.collections)}"
        )
    return asked


def _is_forbidden(target: Target, rule: TenantRow) -> bool:
    return target.entry.name in rule.forbid_providers or (
        bool(target.entry.region)
        # A rule that is written in other letters must not be one that forbids nothing.
        and target.entry.region.casefold() in (region.casefold() for region in rule.forbid_regions)
    )
