"""How a webhook is written in accounts.toml: secrets, URLs, and the spellings of addresses that hide in host names.

Owns forms only; whether an address may be reached is judged when it is (`dlr.webhook_guard`). Reasons never repeat a
secret. Pure. Stands below `schema` and `loading`, and beside the signer and the guard, which read the same forms.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from urllib.parse import urlsplit

SECRET_PREFIX = "whsec_"
SECRET_LEAST_BYTES, SECRET_MOST_BYTES = 24, 64
"""Size of a key by Standard Webhooks (Signature scheme, symmetric)."""

USUAL_PORTS = frozenset({443, 8443})
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?\.?")


def secret_key(secret: str) -> bytes:
    """Return the HMAC key that a secret holds.

    Raises:
        ValueError: it is no secret of that form; the reason repeats nothing of it.
    """
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f'"{SECRET_PREFIX}" and base64 are wanted (Standard Webhooks)')
    try:
        key = base64.b64decode(secret[len(SECRET_PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f'what follows "{SECRET_PREFIX}" is not base64') from None
    if not SECRET_LEAST_BYTES <= len(key) <= SECRET_MOST_BYTES:
        least, most = SECRET_LEAST_BYTES, SECRET_MOST_BYTES
        raise ValueError(f"base64 of {least} to {most} bytes is wanted, this is of {len(key)}")
    return key


def is_literal(host: str) -> bool:
    """Tell whether a host is an address in any form that some resolver takes: `127.1`, `0x7f000001`, `[::1]`, …

    As URL parsers of browsers do: a host whose last label is a number is an IPv4 address, or nothing.
    """
    if ":" in host or host.startswith("["):
        return True
    return _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


def url_problem(
    url: str, *, allow_insecure: bool = False, allow_private: bool = False, allow_ports: frozenset[int] = frozenset()
) -> str:
    """Return why no webhook goes to a URL as it is written; '' when nothing speaks against it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "not a URL"
    usual = USUAL_PORTS | {80} if parts.scheme == "http" else USUAL_PORTS
    findings = (
        (parts.scheme not in ("http", "https") or not host, "an https URL with a host is wanted"),
        (parts.username is not None or parts.password is not None, "no user name or password in a URL"),
        (bool(parts.fragment), "no fragment (#…) in a URL that is posted to"),
        (
            not url.isascii() or not url.isprintable() or " " in url,
            "a URL is written in ASCII: punycode in the host, percent signs in the path",
        ),
        (
            parts.scheme == "http" and not allow_insecure,
            "http sends bodies in the clear; use https or set allow_insecure = true",
        ),
        (
            port is not None and port not in usual | allow_ports,
            f"port {port} is not one of 443 and 8443; name it in allow_ports if it is meant",
        ),
    )
    return next((reason for wrong, reason in findings if wrong), "") or host_problem(host, allow_private=allow_private)


def host_problem(host: str, *, allow_private: bool) -> str:
    """Return why no webhook goes to a host as it is written; '' when nothing speaks against it."""
    if is_literal(host):
        if not allow_private:
            return "a host name is wanted, not an address; one in your own network needs allow_private = true"
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return "an address in its usual form is wanted"
        return ""
    if not _HOST.fullmatch(host):
        return "not a host name"
    if host.removesuffix(".").lower().rpartition(".")[2] == "localhost" and not allow_private:
        return "localhost is this machine; for tests set allow_private = true"
    return ""
