"""Authorities of a test's own, and certificates of theirs, made by openssl."""

import shutil
import subprocess

import pytest

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """One authority, with its files in `folder`."""

    def __init__(self, folder):
        if shutil.which("openssl") is None:
            pytest.skip("openssl is missing")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        words = ("-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=regions")
        self._run("req", "-x509", *KEY, *words)
        self.file = folder / "ca.crt"

    def issue(self, folder, *names):
        """Replaces, by renames, tls.crt, tls.key and ca.crt in `folder`; names as in "DNS:a" and "IP:127.0.0.1".

        Returns what values.yaml says of them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "names").write_text(f"subjectAltName={','.join(names)}")
        self._run("req", *KEY, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=region")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "names")
        self._run("x509", "-req", "-in", "tls.csr", "-out", "tls.crt", *signed)
        for name in ("ca.crt", "tls.key", "tls.crt"):
            fresh = folder / f".{name}"
            shutil.copy(self.folder / name, fresh)
            fresh.replace(folder / name)
        paths = {"certificate": "tls.crt", "key": "tls.key", "authority": "ca.crt"}
        return {key: str(folder / name) for key, name in paths.items()}

    def _run(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)
