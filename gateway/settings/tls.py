"""TLS towards an SMSC: what a channel's certificate files must be, and the context that its connections use.

Owns the rules: at least TLS 1.2, the certificate always verified against a named authority or the system's, the name
always checked; there is no way to switch that off. Refuses to know sockets and channels: `loading` asks for the
problems, so that `smsgw check` tells them, and the SMPP channel asks for the context.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return a context that verifies the peer against `ca` (None: the system's authorities) and shows it `cert`.

    Reads files: some ms, more for the system's authorities.

    Raises:
        OSError: a file cannot be read; ssl.SSLError, which is one, when its content is not usable.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca) if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        # Without the callback OpenSSL asks on the terminal for the passphrase of an encrypted key, and waits.
        try:
            context.load_cert_chain(cert, key, password=_no_passphrase)
        except ValueError as exc:
            if isinstance(exc, OSError):
                raise
            raise ssl.SSLError(str(exc)) from exc
    return context


def tls_problems(ca: Path | None, cert: Path | None, key: Path | None) -> list[tuple[str, str]]:
    """Return (key of the channel, reason) for every file that `client_context` could not use."""
    problems = []
    for name, path in (("tls_ca", ca), ("tls_cert", cert), ("tls_key", key)):
        if path is not None:
            try:
                with path.open("rb") as stream:
                    stream.read(1)
            except OSError as exc:
                problems.append((name, f"cannot be read: {exc.strerror or type(exc).__name__}"))
    if (cert is None) != (key is None):
        missing = "tls_key" if key is None else "tls_cert"
        problems.append((missing, "missing: a client certificate and its key come together"))
    if problems:
        return problems
    if ca is not None:  # the system's authorities are not ours to judge, and take some 50 ms to parse: for each channel
        try:
            client_context(ca, None, None)
        except OSError:
            problems.append(("tls_ca", "holds no certificate in PEM form"))
    if cert is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=_no_passphrase)
        except (OSError, ValueError):
            reason = "not a certificate in PEM form with its key in tls_key (a key without passphrase)"
            problems.append(("tls_cert", reason))
    return problems


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted")
