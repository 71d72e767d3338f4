"""Who the client is where proxies stand between, and which page a browser's request comes from. Pure.

Owns what is believed of `X-Forwarded-For`, `X-Forwarded-Proto`, `Origin` and `Sec-Fetch-Site`: the first two only
from configured proxies, the rightmost hop that is none of them (what stands left of it the client may have written).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_V6_NETWORK: Final = 64
"""What one customer of a provider has, at least: delays go by that."""
_HOPS_MOST: Final = 32


class Proxies:
    """The proxies whose headers are believed."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in networks]

    def client(self, peer: str, forwarded_for: str) -> str:
        """Return the client's address: the peer's, or the rightmost hop of `X-Forwarded-For` that is no proxy."""
        found = parse(peer)
        if found is None or not self._knows(found):
            return str(found) if found is not None else peer or "unknown"
        for hop in reversed(forwarded_for.split(",")[-_HOPS_MOST:]):
            address = parse(hop.strip())
            if address is None:
                break  # nonsense: nobody we trust wrote it, so the proxy that passed it on is all that is known
            found = address
            if not self._knows(address):
                break
        return str(found)

    def is_tls(self, peer: str, forwarded_proto: str) -> bool:
        """Tell whether a trusted proxy says that it was asked over TLS."""
        found = parse(peer)
        return (
            found is not None and self._knows(found) and forwarded_proto.rpartition(",")[2].strip().lower() == "https"
        )

    def _knows(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def parse(text: str) -> Address | None:
    """Return an address, one of IPv4 in an IPv6 spelling as the former; None for anything else."""
    if text.startswith("[") and "]" in text:  # a hop with a port
        text = text[1 : text.index("]")]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def delayed_as(address: str) -> str:
    """Return what shares its delays after failed sign-ins: an IPv4 address, or the network of an IPv6 one."""
    found = parse(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, _V6_NETWORK), strict=False))
    return address


def is_ours(headers: Mapping[str, str], origins: tuple[str, ...], *, must_say: bool) -> bool:
    """Tell whether a request comes from the console's own page.

    Browsers send `Origin` with every request that is not a GET. `must_say`: a request without it, and without
    `Sec-Fetch-Site`, is refused; it comes from no browser, and so not with a browser's cookie.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None and site.lower() != "same-origin":
        return False
    if origin is None:
        return site is not None or not must_say
    return origin in origins or _netloc(origin) == headers.get("Host", "").lower()


def stays_signed_in(origin: str | None) -> bool:
    """Tell whether a browser keeps a `Secure` cookie of a page of this origin: TLS, or this very machine."""
    parts = _split(origin or "")
    if parts is None:
        return False
    host = parts.hostname or ""
    found = parse(host) if host else None
    return (
        parts.scheme != "http"
        or host == "localhost"
        or host.endswith(".localhost")
        or bool(found and found.is_loopback)
    )


def _netloc(origin: str) -> str | None:
    parts = _split(origin)
    return parts.netloc.lower() if parts is not None and parts.scheme in ("http", "https") and parts.netloc else None


def _split(origin: str) -> SplitResult | None:
    """Return the parts of an origin, None where it is none: brackets that enclose no address, and the like."""
    try:
        return urlsplit(origin)
    except ValueError:
        return None
