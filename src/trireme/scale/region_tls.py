"""Mutual TLS among the balancers of regions, from files that Envoy reads again when they are replaced (SDS).

Each region has one certificate, as server and as client. Both sides take certificates of the authority alone, and
of those only the ones that have the name or address of a balancer in `regions`.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from trireme.scale.endpoints import replace_file
from trireme.scale.region_values import Region, RegionTls

Json = dict[str, Any]

CERTIFICATE, PEERS = "region_certificate", "region_peers"
# gRPC, and the round trips that `trireme regions` measures.
PROTOCOLS = ("h2", "http/1.1")
_TRANSPORT = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


def listener_tls(folder: Path) -> Json:
    """The transport socket of a region listener; `folder` has the files of `write_secrets`."""
    return _socket("Downstream", folder, {"require_client_certificate": True})


def cluster_tls(folder: Path) -> Json:
    """The transport socket of calls to other regions, as `listener_tls`."""
    return _socket("Upstream", folder, {})


def secrets(tls: RegionTls, others: Sequence[Region]) -> dict[str, Json]:
    """The files that tell Envoy where certificate, key and authority are, by their names without .json."""
    names = [_named(one.host) for one in others if one.host]
    peers: Json = {
        "trusted_ca": {"filename": tls.authority},
        "watched_directory": {"path": str(PurePosixPath(tls.authority).parent)},
        **({"match_typed_subject_alt_names": names} if names else {}),
    }
    own = {
        "certificate_chain": {"filename": tls.certificate},
        "private_key": {"filename": tls.key},
        # Both are read together once a file there is replaced by a rename.
        "watched_directory": {"path": str(PurePosixPath(tls.certificate).parent)},
    }
    return {
        CERTIFICATE: _secret(CERTIFICATE, {"tls_certificate": own}),
        PEERS: _secret(PEERS, {"validation_context": peers}),
    }


def write_secrets(folder: Path, tls: RegionTls, others: Sequence[Region]) -> None:
    """Writes them into `folder`, each by a rename. Raises SettingError for a folder that cannot be written."""
    for name, made in secrets(tls, others).items():
        replace_file(_path(folder, name), json.dumps(made, indent=1))


def _socket(side: str, folder: Path, fields: Mapping[str, Any]) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TRANSPORT}.{side}TlsContext",
            **fields,
            "common_tls_context": {
                # As a client Envoy's own highest is 1.2.
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "alpn_protocols": list(PROTOCOLS if side == "Downstream" else PROTOCOLS[:1]),
                "tls_certificate_sds_secret_configs": [_source(folder, CERTIFICATE)],
                "validation_context_sds_secret_config": _source(folder, PEERS),
            },
        },
    }


def _source(folder: Path, name: str) -> Json:
    path = str(_path(folder, name).absolute())
    return {
        "name": name,
        "sds_config": {"resource_api_version": "V3", "path_config_source": {"path": path}},
    }


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _secret(name: str, fields: Mapping[str, Any]) -> Json:
    return {"resources": [{"@type": f"{_TRANSPORT}.Secret", "name": name, **fields}]}


def _named(host: str) -> Json:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return {"san_type": "DNS", "matcher": {"exact": host}}
    return {"san_type": "IP_ADDRESS", "matcher": {"exact": host}}
