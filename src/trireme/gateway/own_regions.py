"""`[local]` of gateway.toml: in which region this gateway and its Triton are, and to which others calls may go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from trireme.errors import SettingError
from trireme.providers.models import base_of

# As values.yaml names regions.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,39}[a-z0-9])?")


class LocalRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Regions by the names of values.yaml.

    region: this one; rules of tenants hold for it as for a provider's. other_regions: those to which Envoy may send
    calls of our own models; a tenant that forbids one of them has all of its calls answered in this one.
    """

    region: str = ""
    other_regions: list[str] = []

    def keeps(self, forbidden: Iterable[str]) -> bool:
        """Whether calls of a tenant that forbids these regions must not leave this one."""
        # As `chains` compares them: a rule in other letters must not be one that forbids nothing.
        names = {region.casefold() for region in forbidden}
        return not names.isdisjoint(region.casefold() for region in self.other_regions)


def check_local(row: LocalRow, provided: str, name: str) -> None:
    """Raises SettingError for what cannot be. provided: the region of our own Triton's provider."""
    for key, regions in (
        ("region", [row.region] if row.region else []),
        ("other_regions", row.other_regions),
    ):
        for region in regions:
            if not _NAME.fullmatch(region):
                raise SettingError(
                    f"{name}: local.{key}: {region[:40]!r} is no name: it has lower-case letters, digits and -"
                )
    if row.other_regions and not row.region:
        raise SettingError(f"{name}: local.region is missing: local.other_regions names others")
    everywhere = [row.region, *row.other_regions]
    if len(set(everywhere)) < len(everywhere):
        twice = max(everywhere, key=everywhere.count)
        raise SettingError(f"{name}: local.other_regions: {twice!r} stands twice, or is local.region")
    if row.region and provided not in ("", row.region):
        raise SettingError(
            f"{name}: providers.local.region is {provided!r}, local.region {row.region!r}: take one away"
        )


def find_far_names(
    row: LocalRow, targets: Iterable[str], provider: str, repository: Path
) -> list[str] | None:
    """Names under which another region may answer for our Triton; None where no call may leave this one.

    targets: provider:model of the file; those of `provider` are our own. repository: with a folder for each model,
    if at hand; it is read.
    """
    if not row.other_regions:
        return None
    mark = f"{provider}:"
    # An adapter is told of by its model.
    named = {base_of(one.removeprefix(mark)) for one in targets if one.startswith(mark)}
    return sorted({*named, *(file.parent.name for file in repository.glob("*/config.pbtxt"))})


def check_regions_of_file(row: LocalRow, regions: Sequence[str], name: str, *, has_rules: bool) -> None:
    """Raises SettingError where the gateway does not know a region to which Envoy sends calls.

    regions: those of the regions' file, this one first. has_rules: whether some tenant forbids regions.
    """
    is_known = row.region == regions[0] and set(regions[1:]) <= set(row.other_regions)
    if not is_known and (row.region or has_rules):
        others = ", ".join(f'"{one}"' for one in regions[1:])
        raise SettingError(
            f"{name}: [local] must name the regions of TRIREME_REGIONS_FILE, else a tenant that forbids one is not"
            f' kept from it: region = "{regions[0]}", other_regions = [{others}]'
        )
