"""A small ESME for the simulator's tests: binds, submits, acknowledges, and keeps every event."""

from __future__ import annotations

from typing import Any

from gateway.model import Secret
from gateway.smpp.connection import Connection, connect
from gateway.smpp.events import (
    BindRefusedEvent,
    Bound,
    Closed,
    DeliverReceived,
    Event,
    SubmitAnswered,
    SubmitTimedOut,
)
from gateway.smpp.pdu import DeliverSm, SubmitSm
from gateway.smpp.session import BindType, SessionConfig


class Esme:
    """One session. `ack` is the status every deliver_sm is answered with; None: none is answered."""

    def __init__(self, connection: Connection | None = None) -> None:
        self.bound = False
        self.refused: int | None = None
        self.closed: Closed | None = None
        self.answers: dict[Any, SubmitAnswered] = {}
        self.answered: list[Any] = []
        self.timed_out: list[Any] = []
        self.delivered: list[DeliverSm] = []
        self.events: list[Event] = []
        self.ack: int | None = 0
        self.connection: Connection

    @classmethod
    async def bind(
        cls,
        port: int,
        *,
        system_id: str = "acme",
        password: str = "secret",
        bind_type: BindType = BindType.TRANSCEIVER,
        window: int = 100,
        **config: Any,
    ) -> Esme:
        esme = cls()
        esme.connection = await connect(
            "127.0.0.1",
            port,
            SessionConfig(
                system_id=system_id,
                password=Secret(password),
                bind_type=bind_type,
                window=window,
                **config,
            ),
            esme._on_events,
        )
        return esme

    def submit(self, destination: str, context: Any = None, **fields: Any) -> None:
        """Submit one short message; `context` (default: the destination) is the key of its answer."""
        pdu = SubmitSm(
            source_addr_ton=3,
            source_addr=b"106900001",
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr=destination.encode(),
            **{"registered_delivery": 1, "short_message": b"hello"} | fields,
        )
        self.connection.submit(pdu, context if context is not None else destination)

    def texts(self) -> list[str]:
        return [pdu.short_message.decode() for pdu in self.delivered]

    def _on_events(self, connection: Connection, events: list[Event]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, Bound):
                self.bound = True
            elif isinstance(event, BindRefusedEvent):
                self.refused = event.status
            elif isinstance(event, SubmitAnswered):
                self.answers[event.context] = event
                self.answered.append(event.context)
            elif isinstance(event, SubmitTimedOut):
                self.timed_out.append(event.context)
            elif isinstance(event, DeliverReceived):
                self.delivered.append(event.pdu)
                if self.ack is not None:
                    connection.respond_delivers([event.pdu.sequence_number], self.ack)
            elif isinstance(event, Closed):
                self.closed = event
