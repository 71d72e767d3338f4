"""The door of a channel whose SMSC calls us: it listens, checks the outbind, and hands the connection to a bind slot.

SMPP 3.4 §2.2.1 and §4.1.7: the SMSC connects and sends `outbind` with its system_id and password, and the ESME answers
with a bind on the same connection. Listens exactly while somebody here waits for a session, so of several workers (they
share the port, SO_REUSEPORT) those that hold a free slot are called, and nobody is when all are taken. Knows no slots
and nothing of what follows the bind; stands between `channel` and `connection`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from gateway.model import Secret
from gateway.smpp.connection import Connection, OnEvents
from gateway.smpp.events import Closed, CloseReason, Event, OutbindReceived
from gateway.smpp.session import Role, SessionConfig

logger = logging.getLogger(__name__)

_STRANGERS: Final = 32
"""Connections at a time that have not said yet who they are; a carrier needs one or two."""
_AGAIN_S: Final = 2.0


@dataclass(slots=True)
class _Place:
    """Somebody who waits for a session, and what its connection will need."""

    on_events: OnEvents
    name: str
    guard: Callable[[], bool]
    arrived: asyncio.Future[Connection]


class _Refused(asyncio.Protocol):
    """A connection too many: gone before it says anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()  # uvloop's is no subclass of it


class Door:
    """Waits for one channel's SMSC. `count` takes what became of a call, as a result of binds_total."""

    def __init__(
        self,
        channel: str,
        address: tuple[str, int],
        config: SessionConfig,
        *,
        system_id: str = "",
        password: Secret | None = None,
        count: Callable[[str], None],
        debug: bool = False,
    ) -> None:
        """`system_id` and `password` are those the SMSC must name; '' and None: any."""
        self._channel = channel
        self._address = address
        self._config = config
        self._system_id = system_id.encode("latin-1")
        self._password = password
        self._count = count
        self._debug = debug
        self._waiting: deque[_Place] = deque()
        self._strangers: set[Connection] = set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.listening = False

    async def session(self, on_events: OnEvents, name: str, guard: Callable[[], bool]) -> Connection:
        """Wait until the SMSC has called; returns its connection, our bind on its way and its events to `on_events`."""
        place = _Place(on_events, name, guard, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name=f"outbind-{self._channel}")
        try:
            return await place.arrived
        except asyncio.CancelledError:
            if place.arrived.done() and not place.arrived.cancelled():
                place.arrived.result().abort()  # it came in the very moment in which nobody wanted it any more
            raise
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
            self._changed.set()

    def close(self) -> None:
        """Cut whoever has not said yet who it is; those who waited have gone before."""
        for stranger in list(self._strangers):
            stranger.abort()

    async def _listen(self) -> None:
        """Hold the port while somebody waits."""
        server: asyncio.Server | None = None
        host, port = self._address
        try:
            while self._waiting:
                self._changed.clear()
                if server is None:
                    try:
                        loop = asyncio.get_running_loop()
                        server = await loop.create_server(self._called, host, port, reuse_port=True, backlog=_STRANGERS)
                    except OSError as exc:
                        self._count("outbind_not_listening")
                        reason = exc.strerror or type(exc).__name__
                        logger.error("channel %s: cannot listen for an outbind: %s", self._channel, reason)
                        await asyncio.sleep(_AGAIN_S)
                        continue
                    self.listening = True
                await self._changed.wait()
        finally:
            self.listening = False
            if server is not None:
                server.close()

    def _called(self) -> asyncio.Protocol:
        if len(self._strangers) >= _STRANGERS:
            self._count("outbind_refused")
            return _Refused()
        name = f"{self._channel}/outbind"
        stranger = Connection(
            Role.ESME, self._config, self._on_events, name=name, debug=self._debug, bind_at_once=False
        )
        self._strangers.add(stranger)
        return stranger

    def _on_events(self, connection: Connection, events: list[Event]) -> None:
        for place, event in enumerate(events):
            if type(event) is OutbindReceived:
                owner = self._asked(connection, event)
                if owner is not None:
                    if rest := events[place + 1 :]:
                        owner(connection, rest)
                    return
            elif type(event) is Closed:
                self._strangers.discard(connection)
                if event.reason is CloseReason.BIND_TIMEOUT:
                    self._count("outbind_silent")
                    logger.warning("channel %s: somebody connected and sent no outbind", self._channel)

    def _asked(self, connection: Connection, event: OutbindReceived) -> OnEvents | None:
        """Take an SMSC that asks for a bind, or close the connection; returns whose it is from now on."""
        while self._waiting and self._waiting[0].arrived.done():
            self._waiting.popleft()
        if not self._is_ours(event):
            self._count("outbind_refused")
            logger.warning("channel %s: an outbind with wrong credentials from %s", self._channel, connection.peername)
        elif not self._waiting:
            self._count("outbind_full")
            logger.warning("channel %s: an outbind from %s above its binds", self._channel, connection.peername)
        else:
            place = self._waiting.popleft()
            self._strangers.discard(connection)
            self._changed.set()
            connection.name = place.name
            connection.guard = place.guard
            place.arrived.set_result(connection)
            connection.bind(place.on_events)
            return place.on_events
        connection.close()
        return None

    def _is_ours(self, event: OutbindReceived) -> bool:
        """Compare in constant time: neither tells how far a guess was right."""
        named = not self._system_id or hmac.compare_digest(event.system_id, self._system_id)
        if self._password is None:
            return named
        return hmac.compare_digest(event.password, self._password.reveal().encode("latin-1")) and named
