"""Of a fleet that is one of several regions: its file, and the controller that orders the others."""

from __future__ import annotations

import http.client
import os
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from trireme.asked_process import AskedProcess, HealthTiming
from trireme.errors import SettingError
from trireme.fleet.places import ENTRY
from trireme.regions.options import RegionOptions
from trireme.scale.region_values import RegionTls, read_regions
from trireme.scale.value_readers import Address, shown, shown_key
from trireme.scale.values import Values, parse_values, read_yaml

# A fleet decides these itself.
OWN_ENVOY = ("admin", "agentPort", "controller", "listen", "metrics", "serverPort", "service")
ENTRY_KEYS = ("failoverBatchRequests", "failoverMaxRequests", "maxRequests", "perTryTimeoutSeconds")
PARTS = ("envoy", "models", "regions")
HEALTH = HealthTiming(every=2.0, answer=5.0, start=30.0)


def with_regions(raw: Mapping[str, Any], more: Any, name: str) -> dict[str, Any]:
    """A fleet's values with those of the file `name`, which hold. `parse_values` takes the result.

    The file has the keys of values.yaml: regions, envoy without what a fleet decides itself, and of models.models
    how many calls there may be. Raises SettingError for any other, by name.
    """
    _check_keys(more, PARTS, name)
    _check_listed(more, name)
    envoy = more.get("envoy", {})
    _check_keys(envoy, None, f"{name}: envoy")
    for key in OWN_ENVOY:
        if key in envoy:
            raise SettingError(f"{name}: envoy.{key}: trireme serve decides it; take it away")
    models = more.get("models", {})
    _check_keys(models, (ENTRY,), f"{name}: models")
    entry = models.get(ENTRY, {})
    _check_keys(entry, ENTRY_KEYS, f"{name}: models.{ENTRY}")
    made = {
        "models": {ENTRY: {**raw["models"][ENTRY], **entry}},
        "envoy": {**raw["envoy"], **envoy},
        "regions": more["regions"],
    }
    _check_files(parse_values(made, name), name)
    return made


def names_of_regions(file: Path) -> tuple[str, ...]:
    """Of a fleet's file of regions, this machine's own first. Raises SettingError."""
    more = read_yaml(file)
    _check_keys(more, PARTS, str(file))
    _check_listed(more, str(file))
    return tuple(one.name for one in read_regions(more["regions"], str(file)))


class RegionsProcess(AskedProcess):
    """`trireme regions` as a child of a fleet. While it is away Envoy keeps the order that it wrote last."""

    def __init__(
        self, values: Path, endpoints: Path, at: Address, log_file: Path, withheld: Collection[str] = ()
    ) -> None:
        """Starts it and returns at once. withheld: variables that it does not get."""
        options = RegionOptions(values.absolute(), endpoints.absolute(), host=at.address, port=at.port)
        super().__init__(
            "regions",
            {key: value for key, value in os.environ.items() if key not in withheld},
            log_file,
            address=f"{at.address}:{at.port}",
            path="/healthz",
            health=HEALTH,
            words=options.flags(),
            title="the controller of regions",
        )

    def is_ready(self) -> bool:
        """Whether it answers. Blocks at most a moment."""
        return self.status(HEALTH.answer) == http.client.OK


def _check_keys(raw: Any, known: Collection[str] | None, where: str) -> None:
    if not isinstance(raw, Mapping):
        raise SettingError(f"{where} must be a map, got {shown(raw)}")
    for key in raw:
        if known is not None and key not in known:
            raise SettingError(f"{where}.{shown_key(key)} is no setting here; known: {', '.join(known)}")


def _check_listed(more: Mapping[str, Any], name: str) -> None:
    if not isinstance(more.get("regions"), list) or not more["regions"]:
        raise SettingError(f"{name}: regions must be a list, this machine's own region first")


def _check_files(values: Values, name: str) -> None:
    """Envoy would start without a file of TLS, or with one that it cannot use, and no call would pass."""
    tls = values.envoy.region_tls
    if tls is None:
        return
    for key in ("certificate", "key", "authority"):
        try:
            Path(getattr(tls, key)).read_bytes()
        except OSError as error:
            raise SettingError(
                f"{name}: envoy.regionTls.{key}: {getattr(tls, key)}: {error.strerror}"
            ) from None
    _check_pair(tls, f"{name}: envoy.regionTls")


def _check_pair(tls: RegionTls, where: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(tls.authority)
    except ssl.SSLError:
        raise SettingError(f"{where}.authority: {tls.authority} has no certificate in PEM") from None
    try:
        # With an empty pass phrase nobody is asked for one.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError:
        raise SettingError(
            f"{where}.key: {tls.key} must be the key of the certificate in {tls.certificate}, both in PEM,"
            " without a pass phrase"
        ) from None
