"""Certificates of regions for a measurement, as docs/regions.md makes them: by openssl."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trireme.errors import UnsupportedError

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = ("-days", "2")


def make_certificates(folder: Path, addresses: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """One authority, and a certificate of it for each region's IP address: region -> `regionTls` of values.yaml.

    Raises UnsupportedError without openssl.
    """
    if shutil.which("openssl") is None:
        raise UnsupportedError("openssl is needed for certificates; install it with: apt-get install openssl")
    folder.mkdir()
    _openssl(
        folder, "req", "-x509", *_KEY, *_DAYS, "-subj", "/CN=regions", "-keyout", "ca.key", "-out", "ca.crt"
    )
    made = {}
    for region, address in addresses.items():
        key, request, certificate, names = (f"{region}.{end}" for end in ("key", "csr", "crt", "names"))
        (folder / names).write_text(f"subjectAltName=IP:{address}", encoding="ascii")
        _openssl(folder, "req", *_KEY, "-subj", f"/CN={region}", "-keyout", key, "-out", request)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", *_DAYS, "-extfile", names)
        _openssl(folder, "x509", "-req", "-in", request, "-out", certificate, *signed)
        files = {"certificate": certificate, "key": key, "authority": "ca.crt"}
        made[region] = {name: str(folder.absolute() / file) for name, file in files.items()}
    return made


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)  # noqa: S607
