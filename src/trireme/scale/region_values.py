"""The part of values.yaml that is of several regions: their names, their balancers, TLS among them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from trireme.errors import SettingError
from trireme.scale.value_readers import (
    ENTRY_NAME,
    HOST,
    Address,
    Reads,
    address,
    is_loopback,
    shown,
    shown_key,
)

_AT = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")
_KNOWN = ("name", "balancer")


@dataclass(frozen=True, slots=True)
class Region:
    """A region. host, port: its balancer's region listener, by DNS name or IP address; "" and 0 where unsaid."""

    name: str
    host: str = ""
    port: int = 0

    @property
    def balancer(self) -> str:
        """host:port as people write it; "" where unsaid."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if host else ""


@dataclass(frozen=True, slots=True)
class RegionTls:
    """Absolute paths of PEM files: a region's own certificate and its key, and the authority of all regions'."""

    certificate: str
    key: str
    authority: str


def region_address(default: Address) -> Reads:
    """As `address`, or None: no such listener."""
    read = address(default)["read"]
    return {"read": lambda raw: None if raw is None else read(raw)}


def region_tls(raw: Any) -> RegionTls | None:
    """Reads `regionTls`; None: no TLS."""
    if raw is None:
        return None
    keys = tuple(one.name for one in fields(RegionTls))
    if not isinstance(raw, dict) or set(raw) != set(keys):
        raise ValueError(f"must have the keys {', '.join(keys)}, got {shown(raw)}")
    for key in keys:
        path = raw[key]
        if not isinstance(path, str) or not path.startswith("/") or not path.isprintable():
            raise ValueError(f".{key} must be the absolute path of a file, got {shown(path)}")
    if PurePosixPath(raw["certificate"]).parent != PurePosixPath(raw["key"]).parent:
        raise ValueError(".key must be in the folder of .certificate: the two are replaced together")
    return RegionTls(**raw)


def read_regions(raw: Any, name: str) -> tuple[Region, ...]:
    """Reads `regions`, this Envoy's own first. Raises SettingError naming what to change."""
    if not isinstance(raw, list):
        raise SettingError(f"{name}: regions must be a list, got {shown(raw)}")
    regions: list[Region] = []
    for at, one in enumerate(raw):
        where = f"{name}: regions[{at}]"
        found = _region(one, where)
        if at == 0 and found.host:
            raise SettingError(
                f"{where}.balancer: the first region is this Envoy's own, which needs none: take it away, or put "
                "this Envoy's own region first"
            )
        for region in regions:
            if region.name == found.name:
                raise SettingError(f"{where}.name: {found.name!r} stands twice")
            if found.host and (region.host, region.port) == (found.host, found.port):
                raise SettingError(f"{where}.balancer: {found.balancer} is that of {region.name} too")
        regions.append(found)
    return tuple(regions)


def check_regions(
    regions: Sequence[Region],
    listen: Address | None,
    tls: RegionTls | None,
    *,
    is_insecure: bool,
    name: str,
) -> None:
    """Refuses what would let others in or be read on the way, and a region that is its own balancer."""
    if listen is not None:
        own = Region("", listen.address, listen.port)
        for at, region in enumerate(regions):
            if (region.host, region.port) == (own.host, own.port):
                raise SettingError(
                    f"{name}: regions[{at}].balancer is this Envoy's own envoy.regionListen, {own.balancer}: give "
                    f"that of {region.name}"
                )
    if tls is not None and is_insecure:
        raise SettingError(f"{name}: envoy.regionInsecure: take it away: envoy.regionTls is set")
    if tls is not None or is_insecure:
        return
    remedy = "set envoy.regionTls, or envoy.regionInsecure: true where the network keeps strangers out"
    if listen is not None and not is_loopback(listen.address):
        raise SettingError(
            f"{name}: envoy.regionListen.address {listen.address} lets whoever reaches it call the models: {remedy}"
        )
    for at, region in enumerate(regions):
        if region.host and not (is_loopback(region.host) or region.host == "localhost"):
            raise SettingError(
                f"{name}: regions[{at}].balancer {region.balancer}: calls would go there unencrypted: {remedy}"
            )


def _region(raw: Any, where: str) -> Region:
    if not isinstance(raw, Mapping):
        raise SettingError(f"{where} must be a map, got {shown(raw)}")
    for key in raw:
        if key not in _KNOWN:
            raise SettingError(f"{where}.{shown_key(key)} is no setting; known: {', '.join(sorted(_KNOWN))}")
    name = raw.get("name")
    if not isinstance(name, str) or not ENTRY_NAME.fullmatch(name):
        raise SettingError(f"{where}.name must have lower-case letters, digits and -, got {shown(name)}")
    return (
        Region(name, *_balancer(raw["balancer"], f"{where}.balancer")) if "balancer" in raw else Region(name)
    )


def _balancer(raw: Any, where: str) -> tuple[str, int]:
    found = _AT.fullmatch(raw) if isinstance(raw, str) else None
    if found:
        literal, host, port = found[1], found[2] or found[1], int(found[3])
        if 0 < port < 65536 and (_is_ip(host) or (not literal and HOST.fullmatch(host))):
            return str(ipaddress.ip_address(host)) if _is_ip(host) else host.lower(), port
    raise SettingError(
        f"{where} must be host:port of that region's envoy.regionListen, such as us-east.example.org:8010, "
        f"10.3.0.1:8010 or [fd00::1]:8010, got {shown(raw)}"
    )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
