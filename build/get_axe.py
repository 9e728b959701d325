"""Fetches axe-core from npm, with which the browser's tests check that pages are accessible. Needs npm."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "axe-core@4.14.1"
SCRIPT = "package/axe.min.js"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"


def main() -> int:
    """Returns the exit code. Does nothing where the script is there already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="where axe.min.js is written")
    target: Path = parser.parse_args().target
    if target.is_file() and _digest(target.read_bytes()) == SHA256:
        return 0
    npm = shutil.which("npm")
    if npm is None:
        print("npm is missing; install it with: apt-get install npm", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory() as folder:
            script = _download(npm, Path(folder))
    except subprocess.CalledProcessError:
        # npm has said why.
        print(f"{PACKAGE} cannot be fetched: {target.name} is not written", file=sys.stderr)
        return 1
    if _digest(script) != SHA256:
        print(f"{target.name} has sha256 {_digest(script)}, not {SHA256}: not written", file=sys.stderr)
        return 1
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.write_bytes(script)
    fresh.replace(target)
    return 0


def _download(npm: str, folder: Path) -> bytes:
    command = [npm, "pack", "--silent", "--ignore-scripts", PACKAGE]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(folder.glob("*.tgz"))) as package:
        script = package.extractfile(SCRIPT)
        assert script is not None, f"{SCRIPT} is no file"
        return script.read()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
