"""Readers of single values of values.yaml: what YAML gave -> the value, or ValueError with what is wrong."""

from __future__ import annotations

import ipaddress
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Raises ValueError with what follows the key's name.
Reader = Callable[[Any], Any]
# The metadata of a dataclass's field that it reads.
Reads = dict[str, Reader]

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
# Of an entry or a region: a DNS label, for it names Services and files.
ENTRY_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,39}[a-z0-9])?")
# A day: nothing that Envoy waits for is longer.
LONGEST = 86_400.0
# A value may be of any size, and refer to itself.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_LONGEST_QUOTE = 300


def shown(raw: Any) -> str:
    """A value as an error quotes it: as in Python, and short."""
    try:
        text = _SHORT.repr(raw)
    except ValueError:
        # Python writes no number of more than 4,300 digits; as 0x... YAML reads one.
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def shown_key(raw: Any) -> str:
    """A key as an error names it: bare, unless it is long or could be taken for something else on a terminal."""
    is_plain = isinstance(raw, str) and len(raw) <= _SHORT.maxstring and raw.isprintable()
    return raw if is_plain else shown(raw)


def seconds(least: float, *, is_off_at_zero: bool = False) -> Reads:
    def read(raw: Any) -> float:
        # A bool is an int to Python, and NaN is neither above nor below anything.
        is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
        if is_number and (least <= raw <= LONGEST or (is_off_at_zero and raw == 0)):
            return float(raw)
        zero = "0 (off) or " if is_off_at_zero else ""
        raise ValueError(f"must be {zero}{least:g} to {LONGEST:g} seconds, got {shown(raw)}")

    return {"read": read}


def whole(least: int, most: int) -> Reads:
    def read(raw: Any) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool) or not least <= raw <= most:
            raise ValueError(f"must be a whole number from {least} to {most}, got {shown(raw)}")
        return raw

    return {"read": read}


def word(*words: str) -> Reads:
    def read(raw: Any) -> str:
        if raw not in words:
            raise ValueError(f"must be {' or '.join(words)}, got {shown(raw)}")
        return str(raw)

    return {"read": read}


def names_of(pattern: re.Pattern[str], what: str, *, can_be_empty: bool) -> Reads:
    def read(raw: Any) -> tuple[str, ...]:
        if not isinstance(raw, list) or not (raw or can_be_empty):
            raise ValueError(f"must be a list of {what}, got {shown(raw)}")
        for name in raw:
            if not isinstance(name, str) or not pattern.fullmatch(name):
                raise ValueError(f"must be a list of {what}; {shown(name)} is none")
        if len(set(raw)) < len(raw):
            raise ValueError(f"names {shown(max(raw, key=raw.count))} twice")
        return tuple(raw)

    return {"read": read}


def switch(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"must be true or false, got {shown(raw)}")
    return raw


def access_log(raw: Any) -> str:
    if not isinstance(raw, str) or not (raw in ("", "stdout") or (raw.startswith("/") and raw.isprintable())):
        raise ValueError(f'must be "" (off), stdout or the absolute path of a file, got {shown(raw)}')
    return raw


def service(raw: Any) -> str:
    if not isinstance(raw, str) or not HOST.fullmatch(raw.replace("{model}", "x")):
        raise ValueError(f"must be a DNS name, with {{model}} for the entry's name, got {shown(raw)}")
    return raw


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: an IP address and a TCP port."""

    address: str
    port: int


def address(default: Address, *, is_own: bool = False) -> Reads:
    def read(raw: Any) -> Address:
        if not isinstance(raw, dict) or set(raw) - {"address", "port"}:
            raise ValueError(f"must have the keys address and port alone, got {shown(raw)}")
        host, port = raw.get("address", default.address), raw.get("port", default.port)
        try:
            ipaddress.ip_address(host if isinstance(host, str) else "")
        except ValueError:
            raise ValueError(f".address must be an IP address, got {shown(host)}") from None
        if is_own and not is_loopback(host):
            raise ValueError(
                f".address must be of this machine alone, such as 127.0.0.1, got {shown(host)}: "
                "whoever reaches it can stop Envoy"
            )
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise ValueError(f".port must be a TCP port from 1 to 65535, got {shown(port)}")
        return Address(host, port)

    return {"read": read}
