"""A certificate authority of a test's own, made with openssl when the test runs: nothing expires in the repository."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates in `folder`. The test fails where openssl is missing: unverified TLS must not pass unseen."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        assert shutil.which("openssl"), "openssl is needed to make the certificates of this test"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.pair = Pair(folder / "ca.pem", folder / "ca.key")
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(self.pair.key), "-out", str(self.pair.cert)),
        )

    @property
    def cert(self) -> Path:
        return self.pair.cert

    def issue(self, file: str, names: str, *, days: int = 2) -> Pair:
        """Sign a certificate for `names` as openssl writes them: `DNS:smsc.example,IP:127.0.0.1`."""
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        request, extensions = self._folder / f"{file}.csr", self._folder / f"{file}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={file}"),
            *("-keyout", str(pair.key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.cert), "-CAkey", str(self.pair.key)),
            *("-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", str(pair.cert)),
        )
        pair.key.chmod(0o600)
        return pair


def _openssl(*args: str) -> None:
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-1000:]
