"""A `trireme gateway` as a child process, which is also started again when it does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from trireme.asked_process import DEFAULT_HEALTH, AskedProcess, HealthTiming
from trireme.child_process import DEFAULT_TIMING, RestartTiming
from trireme.errors import SettingError
from trireme.kept_server import claim_port
from trireme.settings import Settings
from trireme.triton.server import check_port_is_free
from trireme.triton.wire import own_address

# The setting that tenants' salts are derived from.
SALT_VARIABLE = "TRIREME_GATEWAY_SECRET"
# Settings that may hold passwords of stores which the gateway alone uses.
STORE_VARIABLES = (
    "TRIREME_REDIS_URL",
    "TRIREME_CACHE_URL",
    "TRIREME_REGION_REDIS_URLS",
    "TRIREME_REGION_DATABASE_URLS",
)


def gateway_secrets(settings: Settings) -> frozenset[str]:
    """The environment variables that no process but the gateway needs: its secret, its stores, providers' keys.

    Raises SettingError for a gateway.toml, or a calibration that it names, that cannot be read.
    """
    from trireme.gateway.cascades.plan import read_cascades
    from trireme.gateway.file import read_gateway_file

    file = read_gateway_file(settings.gateway_file)
    read_cascades(file, settings.gateway_file)
    rows = file.providers.values()
    return frozenset({SALT_VARIABLE, *STORE_VARIABLES, *(variable for row in rows for variable in row.keys)})


@contextmanager
def claim_gateway_port(settings: Settings, timing: HealthTiming = DEFAULT_HEALTH) -> Iterator[None]:
    """Keeps the gateway's port from other supervisors. Raises SettingError while anything has it."""
    with claim_port(settings.gateway_port, "gateway_port"):
        deadline = monotonic() + timing.leftover
        while True:
            try:
                check_port_is_free(settings.gateway_host, settings.gateway_port, "gateway_port")
                break
            except SettingError:
                if monotonic() > deadline:
                    raise
            time.sleep(0.1)
        yield


class GatewayProcess(AskedProcess):
    """One gateway at the port of `settings`."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        log_file: Path,
        *,
        timing: RestartTiming = DEFAULT_TIMING,
        health: HealthTiming = DEFAULT_HEALTH,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Starts it and returns at once."""
        address = own_address(settings.gateway_host, settings.gateway_port)
        super().__init__(
            "gateway",
            environ,
            log_file,
            address=address,
            path="/healthz",
            timing=timing,
            health=health,
            clock=clock,
        )
