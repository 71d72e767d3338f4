"""Where a webhook may lead: every host name and address is judged before a byte is sent to it.

Owns the deny list, the resolver that judges *every* answer, and a connector that looks at the address once more before
and after it connects: an answer may change between a check and a call, and aiohttp asks no resolver for literals. How
hosts may be written stands in `settings.webhook_form`. Refuses to know events; all that an application hears is the
word `denied`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

NAME_KEPT_S: Final = 30.0
LOOKUPS: Final = 32
"""Look-ups at a time. They run in threads, and one that hangs must not keep others' from theirs."""

_DENIED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3", "168.63.129.16/32",  # the last: Azure's host agent
        "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
        # All but 2000::/3, the only unicast space that IANA gives out: IPv4 mapped, translated and compatible (::/96,
        # ::ffff:0:0/96, ::ffff:0:0:0/96), NAT64 (64:ff9b::/16), site-local (fec0::/10) and whatever is named next.
        "::/3", "4000::/2", "8000::/1",
        "2001::/32", "2002::/16", "3fff::/20",  # Teredo, 6to4, documentation
    )
)  # fmt: skip
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "::1/128", "fc00::/7")
)
"""What `allow_private` opens: one's own networks. Link-local addresses (cloud metadata) stay closed."""


class Denied(OSError):
    """A host or address that webhooks must not reach."""


def denied(address: str, *, allow_private: bool = False) -> bool:
    """Tell whether a call must not go to an address; what is no plain IP address is denied."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return True  # also with a zone index: fe80::1%eth0
    if getattr(ip, "scope_id", None):
        return True
    if allow_private and any(ip in network for network in _PRIVATE if network.version == ip.version):
        return False
    if not ip.is_global or ip.is_multicast:
        return True
    return any(ip in network for network in _DENIED if network.version == ip.version)


Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Return all addresses of a host name. Raises OSError."""


class SystemLookup:
    """The machine's own resolver, in threads of its own; concurrent questions for one name are one."""

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook-names")
        self._running: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        asked = self._running.get((host, port))
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, host, port)
            self._running[host, port] = asked
            asked.add_done_callback(lambda done: self._ended((host, port), done))
        return await asyncio.shield(asked)

    def _ended(self, name: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        self._running.pop(name, None)
        if not done.cancelled():
            done.exception()  # read, so that a look-up nobody waits for any more does not complain

    def close(self) -> None:
        """Begin no further look-up; one that hangs ends with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _getaddrinfo(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Resolver(AbstractResolver):
    """Gives a name's addresses if none of them is denied: one bad answer among good ones is an attack or a mistake."""

    def __init__(self, lookup: Lookup, *, allow_private: bool) -> None:
        self._lookup = lookup
        self._allow_private = allow_private
        self._known: dict[str, tuple[float, list[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family
        now = time.monotonic()
        kept = self._known.get(host)
        if kept is None or now - kept[0] > NAME_KEPT_S:
            addresses = await self._lookup(host, port)
            if not addresses:
                raise OSError("no address")
            if any(denied(address, allow_private=self._allow_private) for address in addresses):
                raise Denied("a name leads to an address that is denied")
            kept = self._known[host] = (now, addresses)
        return [_resolved(host, address, port) for address in kept[1]]

    async def close(self) -> None:
        self._known.clear()


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {
        "hostname": host,
        "host": address,
        "port": port,
        "family": family,
        "proto": socket.IPPROTO_TCP,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to addresses that were judged, and to nothing else: at the resolver, at the socket, at its peer."""

    def __init__(self, lookup: Lookup, *, allow_private: bool, **options: Any) -> None:
        self._allow_private = allow_private
        super().__init__(
            resolver=_Resolver(lookup, allow_private=allow_private),
            use_dns_cache=False,
            socket_factory=self._socket,
            **options,
        )

    def _socket(self, info: Any) -> socket.socket:
        """Make the socket for one address; literals that no resolver saw are judged here."""
        family, kind, proto, _, address = info
        if denied(str(address[0]), allow_private=self._allow_private):
            raise Denied("an address is denied")
        made = socket.socket(family=family, type=kind, proto=proto)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    async def _create_connection(self, *args: Any, **options: Any) -> Any:
        protocol = await super()._create_connection(*args, **options)
        peer = protocol.transport.get_extra_info("peername") if protocol.transport is not None else None
        if not peer or denied(str(peer[0]), allow_private=self._allow_private):
            protocol.close()
            raise Denied("the connection leads to an address that is denied")
        return protocol
