"""A carrier's SMSC in one process: listens, binds, answers, sends receipts, and misbehaves as it is told to.

Owns the sockets and the time of the simulator; what to do with each short message is decided in `behaviour`,
what was seen is kept in `ledger`. Speaks through the gateway's own sans-IO session in the SMSC role, so the
wire has one owner. Stands at the carrier's end of the path and knows nothing of the gateway's store, queues
or HTTP.

What a test can do with a running `Smsc`: change any field of `.options`, read `.ledger` and `.counters`, call
`drop_sessions()`, `unbind_sessions()`, `pause_reading()`, `send_mo()`, `send_raw()`, or set `.on_submit`.

Cost: with no fault set a message takes one pass through short loops: answers and receipts wait in a time
wheel by the batch in which they came, one timer serves all, and the connection writes once a turn of the
event loop.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from gateway.errors import SessionClosed
from gateway.model import Secret
from gateway.simulator.behaviour import Behaviour, IdMaker, Plan, ReceiptPlan, SimulatorOptions
from gateway.simulator.ledger import Ledger, Receipt, Submit, Tally
from gateway.simulator.receipts import Outgoing, OutgoingEncoder
from gateway.simulator.wheel import TimeWheel
from gateway.smpp import constants as c
from gateway.smpp.codec import encode, encode_header
from gateway.smpp.connection import Connection
from gateway.smpp.events import (
    BindRequested,
    Closed,
    CloseReason,
    DeliverAnswered,
    DeliverTimedOut,
    Event,
    ProtocolProblem,
    SubmitReceived,
)
from gateway.smpp.pdu import SubmitSm, Unknown
from gateway.smpp.session import Role, SessionConfig
from gateway.smpp.text import ESM_CLASS_UDHI, data_coding, encode_parts, encode_whole, pack_septets

STRAY_SEQUENCE_NUMBER = 0x7FFF0000


@dataclass(slots=True)
class Counters:
    """What happened since the start; plain numbers."""

    sessions: int = 0  # bound now
    binds: int = 0
    binds_refused: int = 0
    submits: int = 0
    answered_ok: int = 0
    answered_error: int = 0
    unanswered: int = 0  # decided never to be answered
    receipts_sent: int = 0
    receipts_acked: int = 0
    settled: int = 0  # acknowledged with status 0
    receipts_refused: int = 0  # acknowledged with another status: sent again
    receipts_repeated: int = 0
    mo_sent: int = 0
    mo_acked: int = 0
    cuts: int = 0
    unbinds: int = 0  # sessions that ended by an unbind of ours and its unbind_resp
    problems: int = 0


class Smsc:
    """One listener. `await start()` gives its port; `await stop()` ends every session with unbind."""

    def __init__(self, options: SimulatorOptions | None = None, *, tally: Tally | None = None) -> None:
        self.options = options or SimulatorOptions()
        self.counters = Counters()
        self.ledger = Ledger()
        self.links: list[Link] = []
        self.port = 0
        self.on_submit: Callable[[Link, SubmitSm], Plan | None] | None = None
        """Called for each submit_sm before the rules; a Plan it returns is carried out in their place."""
        self._behaviour = Behaviour(self.options)
        self._ids = IdMaker(self.options.id_format)
        self._tally = tally
        self._wheel: TimeWheel[Callable[[], None]] = TimeWheel()
        self._wake_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._mailboxes: dict[bytes, Mailbox] = {}
        self._server: asyncio.Server | None = None
        self._sessions_seen = 0
        self._reading = True
        self._stopping = False
        # Wall time is needed in ledgers and receipts; one difference saves a second clock a message.
        self._wall_offset = time.time() - time.monotonic()
        self._encoder = OutgoingEncoder(self._wall_offset)

    # --- life ---
    async def start(self) -> int:
        """Listen; return the port (`options.port`, or the one the system chose for 0).

        Raises:
            OSError: the address cannot be bound, or the TLS files cannot be used (ssl.SSLError is one).
        """
        loop = asyncio.get_running_loop()
        options = self.options
        tls: dict[str, Any] = {}
        if options.tls_cert:
            tls = {"ssl": _server_tls(options), "ssl_shutdown_timeout": 1.0}
        self._server = await loop.create_server(self._connected, options.host, options.port, **tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Unbind every session, wait for them up to `timeout_s`, then cut what is left."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        self.unbind_sessions()
        leaving = [asyncio.ensure_future(link.wait_closed()) for link in self.links]
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=timeout_s)
            self.drop_sessions()
            for task in late:
                task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    async def stop_listening(self) -> None:
        """Refuse new connections from now on; those that are open stay. `start()` listens again."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.options.port = self.port

    async def outbind(self, host: str, port: int, system_id: bytes = b"", password: bytes = b"") -> Link:
        """Connect to an ESME and ask it to bind on that connection; with no `system_id`, connect and say nothing.

        Raises:
            OSError: nobody listens there.
        """
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(self._connected, host, port)
        assert isinstance(link, Link)
        if system_id:
            link.write_raw(encode(Unknown(c.OUTBIND, system_id + b"\0" + password + b"\0", 0, 1)))
        return link

    # --- what tests do with it ---
    def drop_sessions(self) -> int:
        """Cut every connection without a word; return how many."""
        links = list(self.links)
        for link in links:
            self._cut(link)
        return len(links)

    def unbind_sessions(self) -> None:
        """Send unbind on every session."""
        for link in list(self.links):
            link.unbind()

    def pause_reading(self, paused: bool = True) -> None:
        """Stop (or go on) reading from every connection, as a peer that hangs: nothing is answered."""
        self._reading = not paused
        for link in self.links:
            if paused:
                link.pause_reading()
            else:
                link.resume_reading()

    def send_mo(
        self,
        source: str,
        destination: str,
        text: bytes,
        *,
        data_coding: int = 0,
        system_id: bytes | None = None,
        esm_class: int = 0,
        tlvs: dict[int, bytes] | None = None,
    ) -> None:
        """Send a message from the recipient `source` (digits) to `destination`, on any receiving session."""
        about = SubmitSm(
            source_addr=destination.encode(),
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr=source.encode(),
        )
        item = Outgoing(about, b"", None, 0.0, text, data_coding, esm_class=esm_class, tlvs=tlvs)
        boxes = [self._mailbox(system_id)] if system_id is not None else list(self._mailboxes.values())
        if not boxes:
            raise SessionClosed("nobody has bound yet")
        boxes[0].put([item])

    def send_long_mo(
        self,
        source: str,
        destination: str,
        text: str,
        *,
        encoding: str = "ucs2",
        how: str = "udh",
        reference: int = 1,
        order: Sequence[int] = (),
        packed: bool = False,
    ) -> int:
        """Send a long message from a handset in its parts, which the receiving sessions take in turn; returns how many.

        `how`: udh (a header of 8 bits), udh16, sar (TLVs) or payload (one PDU). `order`: places of the parts to send,
        from 0, all in order where it is empty; a place may be left out, or stand twice.
        """
        bits = 16 if how == "udh16" else 8
        coding = data_coding(encoding)
        if how == "payload":
            self.send_mo(
                source, destination, b"", data_coding=coding,
                tlvs={c.TAG_MESSAGE_PAYLOAD: encode_whole(text, encoding)},
            )  # fmt: skip
            return 1
        headers = how != "sar"
        parts = encode_parts(text, encoding, reference, reference_bits=bits, headers=headers)
        for place in order or range(len(parts)):
            part = pack_septets(parts[place], header=headers) if packed else parts[place]
            tlvs = {
                c.TAG_SAR_MSG_REF_NUM: reference.to_bytes(2, "big"),
                c.TAG_SAR_TOTAL_SEGMENTS: bytes((len(parts),)),
                c.TAG_SAR_SEGMENT_SEQNUM: bytes((place + 1,)),
            }
            self.send_mo(
                source, destination, part, data_coding=coding,
                esm_class=ESM_CLASS_UDHI if headers else 0, tlvs=None if headers else tlvs,
            )  # fmt: skip
        return len(parts)

    def send_raw(self, octets: bytes) -> int:
        """Write octets as they are on every connection; return on how many."""
        for link in self.links:
            link.write_raw(octets)
        return len(self.links)

    def stats(self) -> dict[str, Any]:
        """Return the counters, and the monotonic time they hold for."""
        waiting = sum(len(box) for box in self._mailboxes.values())
        return {"at": time.monotonic(), **asdict(self.counters), "receipts_waiting": waiting}

    # --- connections ---
    def _connected(self) -> asyncio.Protocol:
        options = self.options
        self._sessions_seen += 1
        config = SessionConfig(
            system_id=options.name,
            password=Secret(""),
            window=options.receipt_window,
            response_timer_s=options.response_timer_s,
            enquire_link_s=options.enquire_link_s,
        )
        link = Link(self, self._sessions_seen, config)
        self.links.append(link)
        return link

    def _mailbox(self, system_id: bytes) -> Mailbox:
        box = self._mailboxes.get(system_id)
        if box is None:
            box = self._mailboxes[system_id] = Mailbox(self)
        return box

    def _bind(self, link: Link, request: BindRequested) -> None:
        options, pdu = self.options, request.pdu
        if not options.answer_binds:
            return
        status = options.bind_status or self._credentials_status(pdu.system_id, pdu.password)
        if not status and options.max_sessions and self.counters.sessions >= options.max_sessions:
            status = c.RALYBND
        if not status and self._stopping:
            status = c.RBINDFAIL
        link.session.accept_bind(pdu.sequence_number, status)
        if status:
            self.counters.binds_refused += 1
            return
        self.counters.binds += 1
        self.counters.sessions += 1
        link.system_id = pdu.system_id
        link.system_type = pdu.system_type
        link.interface_version = pdu.interface_version
        link.mailbox = self._mailbox(pdu.system_id)
        if request.bind_type != "transmitter":
            link.mailbox.join(link)

    def _credentials_status(self, system_id: bytes, password: bytes) -> int:
        options = self.options
        if options.password is None:
            return c.ROK
        if system_id != options.system_id.encode():
            return c.RINVSYSID
        return c.ROK if password == options.password.encode() else c.RINVPASWD

    def _lost(self, link: Link, closed: Closed) -> None:
        """Forget a link; what it had not been acknowledged for waits for another session of the same ESME."""
        if link in self.links:
            self.links.remove(link)
        if closed.reason is CloseReason.UNBOUND and not closed.detail:
            self.counters.unbinds += 1
        if link.mailbox is not None:
            self.counters.sessions -= 1
            link.mailbox.leave(link)
            again = [*closed.lost, *closed.unsent]
            if again:
                self.counters.receipts_repeated += len(again)
                link.mailbox.put_back(again)
            link.mailbox = None

    def _cut(self, link: Link) -> None:
        self.counters.cuts += 1
        link.abort()

    # --- short messages in ---
    def _submits(self, link: Link, pdus: list[SubmitSm]) -> None:
        """Take the submit_sm of one read: all alike where no fault is set, else each by its own plan."""
        now = time.monotonic()
        self.counters.submits += len(pdus)
        if self._tally is not None:
            add = self._tally.add
            for pdu in pdus:
                add(pdu.destination_addr, now)
        if self.on_submit is None and not self.options.keep_ledger and self.options.is_plain():
            self._submits_plain(link, pdus, now)
            return
        batch: list[tuple[SubmitSm, Plan, Submit | None]] = []
        for pdu in pdus:
            link.submits += 1
            plan = self._plan(link, pdu, now)
            row = self._ledger_row(link, pdu, now) if self.options.keep_ledger else None
            batch.append((pdu, plan, row))
            link.unanswered += 1
        if self.options.shuffle:
            batch.reverse()
        for pdu, plan, row in batch:
            self._carry_out(link, pdu, plan, row, now)

    def _submits_plain(self, link: Link, pdus: list[SubmitSm], now: float) -> None:
        options = self.options
        new_id = self._ids.new
        submitted_at = now + self._wall_offset
        receipt = ReceiptPlan(0.0, text=options.receipt_text, tlvs=options.receipt_tlvs)
        answers: list[tuple[int, bytes]] = []
        receipts: list[Outgoing] = []
        for pdu in pdus:
            answer_id, receipt_id = new_id()
            answers.append((pdu.sequence_number, answer_id))
            if pdu.registered_delivery & 0x03 == 1:
                receipts.append(Outgoing(pdu, receipt_id, receipt, submitted_at))
        link.submits += len(pdus)
        link.unanswered += len(pdus)
        answer_at = now + options.latency_s
        if options.latency_s:
            self._later(answer_at, partial(link.answer, answers))
        else:
            link.answer(answers)
        if receipts and options.receipts and link.mailbox is not None:
            self._later(answer_at + options.receipt_delay_s, partial(link.mailbox.put, receipts))

    def _plan(self, link: Link, pdu: SubmitSm, now: float) -> Plan:
        if self.on_submit is not None:
            plan = self.on_submit(link, pdu)
            if plan is not None:
                return plan
        # registered_delivery bits 1-0: 01 always, 10 only on failure (SMPP 3.4 §5.2.17)
        registered = pdu.registered_delivery & 0x03
        wants_receipt = self.options.receipts and registered in (1, 2)
        destination = pdu.destination_addr.decode("latin-1")
        plan = self._behaviour.decide(
            destination, nth=link.submits, unanswered=link.unanswered, wants_receipt=wants_receipt, now=now
        )
        if registered == 2 and plan.receipts:
            failures = tuple(r for r in plan.receipts if r.state not in ("DELIVRD", "ENROUTE", "ACCEPTD"))
            plan = replace(plan, receipts=failures)
        return plan

    def _ledger_row(self, link: Link, pdu: SubmitSm, now: float) -> Submit:
        row = Submit(
            at=now,
            at_ms=int((now + self._wall_offset) * 1000),
            session=link.number,
            system_id=link.system_id.decode("latin-1"),
            sequence_number=pdu.sequence_number,
            source=pdu.source_addr.decode("latin-1"),
            destination=pdu.destination_addr.decode("latin-1"),
            short_message=pdu.short_message,
            esm_class=pdu.esm_class,
            data_coding=pdu.data_coding,
            registered_delivery=pdu.registered_delivery,
            validity_period=pdu.validity_period.decode("latin-1"),
            tlvs=pdu.tlvs,
            source_ton=pdu.source_addr_ton,
            source_npi=pdu.source_addr_npi,
            service_type=pdu.service_type.decode("latin-1"),
            protocol_id=pdu.protocol_id,
            priority_flag=pdu.priority_flag,
        )
        self.ledger.submits.append(row)
        return row

    def _carry_out(self, link: Link, pdu: SubmitSm, plan: Plan, row: Submit | None, now: float) -> None:
        """Do what the plan says: receipts that come early, the answer, the rest of the receipts, the
        connection.
        """
        taken = not plan.status
        answer_id, receipt_id = self._ids.new() if taken and not plan.empty_id else (b"", b"")
        if row is not None and taken:
            row.smsc_id = receipt_id.decode()
        if link.mailbox is not None and taken:
            self._plan_receipts(link.mailbox, pdu, plan, receipt_id, now)
        if plan.status is None:
            self.counters.unanswered += 1
            if plan.connection == "cut":
                self._cut(link)  # at once, so that answers to others are lost as well
            elif plan.connection:
                link.unbind()
            return

        def answer() -> None:
            link.unanswered -= 1
            if row is not None:
                row.status, row.answered_at = plan.status, time.monotonic()
            link.answer_planned(pdu.sequence_number, answer_id, plan)
            if plan.connection == "cut":
                self.counters.cuts += 1
                link.close()  # after what is queued was written
            elif plan.connection:
                link.unbind()

        if plan.delay_s > 0:
            self._later(now + plan.delay_s, answer)
        else:
            answer()

    def _plan_receipts(self, mailbox: Mailbox, pdu: SubmitSm, plan: Plan, receipt_id: bytes, now: float) -> None:
        wall = now + self._wall_offset
        for receipt in plan.receipts:
            smsc_id = self._ids.unknown() if receipt.unknown_id else receipt_id
            if receipt.id_as_hex:
                smsc_id = b"%X" % int(smsc_id)
            item = Outgoing(pdu, smsc_id, receipt, wall)
            if receipt.early:
                mailbox.put([item])
            else:
                # Counted from the answer, so that a receipt planned "at once" still follows it.
                self._later(now + plan.delay_s + receipt.delay_s + 0.001, partial(mailbox.put, [item]))
        if plan.reply is not None:
            text = plan.reply.encode("ascii") or pdu.short_message or (pdu.tlvs or {}).get(c.TAG_MESSAGE_PAYLOAD, b"")
            reply = Outgoing(pdu, b"", None, wall, text, 0 if plan.reply else pdu.data_coding)
            self._later(now + self.options.receipt_delay_s + 0.1, partial(mailbox.put, [reply]))

    # --- time ---
    def _later(self, due: float, action: Callable[[], None]) -> None:
        """Keep an action until `due`."""
        self._wheel.add(due, action)
        self._set_timer()

    def _set_timer(self) -> None:
        due = self._wheel.next_deadline()
        if due is None or (self._timer is not None and self._wake_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wake_at = due
        delay_s = max(0.0, due - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        for action in self._wheel.due(time.monotonic()):
            action()
        self._set_timer()

    # --- receipts out ---
    def _sent(self, link: Link, item: Outgoing, now: float) -> None:
        """Book one deliver_sm that a session took."""
        if item.plan is None:
            self.counters.mo_sent += 1
        else:
            self.counters.receipts_sent += 1
        if self.options.keep_ledger:
            item.row = Receipt(
                at=now,
                at_ms=int((now + self._wall_offset) * 1000),
                session=link.number,
                smsc_id=item.smsc_id.decode("latin-1"),
                destination=item.about.destination_addr.decode("latin-1"),
                stat=item.plan.state if item.plan is not None else "",
            )
            self.ledger.receipts.append(item.row)

    def _acked(self, link: Link, item: Outgoing, status: int | None) -> None:
        """Take a deliver_sm_resp (None: none came in time); anything but 0 means: once more, later."""
        if item.row is not None:
            item.row.ack, item.row.acked_at = status, time.monotonic()
        counters = self.counters
        if status is not None:
            if item.plan is None:
                counters.mo_acked += 1
            else:
                counters.receipts_acked += 1
        if status == 0:
            if item.plan is not None:
                counters.settled += 1
            return
        counters.receipts_refused += 1
        counters.receipts_repeated += 1
        mailbox = link.mailbox
        if mailbox is not None:
            self._later(time.monotonic() + self.options.redeliver_s, partial(mailbox.put, [item]))


def _server_tls(options: SimulatorOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.tls_client_ca or None)
    context.load_cert_chain(options.tls_cert, options.tls_key or None)
    if options.tls_client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Mailbox:
    """Everything that waits for one ESME (by system_id), and its sessions that receive, taking turns."""

    def __init__(self, smsc: Smsc) -> None:
        self._smsc = smsc
        self._waiting: deque[Outgoing] = deque()
        self._links: list[Link] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, link: Link) -> None:
        self._links.append(link)
        self.flush()

    def leave(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)

    def put(self, items: Sequence[Outgoing]) -> None:
        self._waiting.extend(items)
        self.flush()

    def put_back(self, items: Sequence[Outgoing]) -> None:
        """Put items before everything else, for they waited longest."""
        self._waiting.extendleft(reversed(items))
        self.flush()

    def flush(self) -> None:
        """Hand over as much as the sessions' windows take, one to each session in turn."""
        waiting = self._waiting
        if not waiting or not self._links:
            return
        smsc, now = self._smsc, time.monotonic()
        encoder, sent = smsc._encoder, smsc._sent
        encoder.now = now
        encoder.as_data_sm = smsc.options.receipt_pdu == "data_sm"
        room = [(link, link.free) for link in self._links if link.free]
        while waiting and room:
            for link, _ in room:
                if not waiting:
                    break
                item = waiting.popleft()
                link.session.deliver(item, item, now, encoder.encode)
                sent(link, item, now)
            room = [(link, free - 1) for link, free in room if free > 1]
        for link in self._links:
            link.flush_soon()
        self._links.append(self._links.pop(0))  # the next batch, of one perhaps, begins with another session


class Link(Connection):
    """One connection of an ESME, and what the simulator counts of it."""

    def __init__(self, smsc: Smsc, number: int, config: SessionConfig) -> None:
        super().__init__(Role.SMSC, config, self._on_link_events, name=f"{smsc.options.name}#{number}")
        self.number = number
        self.system_id = b""
        self.system_type = b""
        self.interface_version = 0
        self.mailbox: Mailbox | None = None
        self.submits = 0
        self.unanswered = 0
        self._smsc = smsc

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._smsc._reading:
            self.pause_reading()

    def answer(self, answers: Sequence[tuple[int, bytes]]) -> None:
        """Answer with status 0: (sequence_number, smsc_id) each."""
        respond = self.session.respond_submit
        for sequence_number, smsc_id in answers:
            respond(sequence_number, smsc_id)
        self.unanswered -= len(answers)
        self._smsc.counters.answered_ok += len(answers)
        self.flush_soon()

    def answer_planned(self, sequence_number: int, smsc_id: bytes, plan: Plan) -> None:
        """Answer one submit_sm as its plan says."""
        status = plan.status or 0
        if plan.as_generic_nack:
            self.write_raw(encode_header(c.GENERIC_NACK, sequence_number, status))
        else:
            if plan.stray_answer:
                self.session.respond_submit(STRAY_SEQUENCE_NUMBER, b"stray")
            self.session.respond_submit(sequence_number, smsc_id, status)
            if plan.repeat_answer:
                self.session.respond_submit(sequence_number, smsc_id, status)
        if status:
            self._smsc.counters.answered_error += 1
        else:
            self._smsc.counters.answered_ok += 1
        self.flush_soon()

    def write_raw(self, octets: bytes) -> None:
        """Write octets as they are, after what the session has queued."""
        if self._transport is not None and not self.lost:
            self._transport.write(self.session.data_to_send() + octets)

    def _on_link_events(self, connection: Connection, events: list[Event]) -> None:
        submits: list[SubmitSm] = []
        acked = False
        for event in events:
            if type(event) is SubmitReceived:
                submits.append(event.pdu)
            elif type(event) is DeliverAnswered:
                self._smsc._acked(self, event.context, event.status)
                acked = True
            elif type(event) is DeliverTimedOut:
                self._smsc._acked(self, event.context, None)
                acked = True
            else:
                self._on_rare(event)
        if submits:
            self._smsc._submits(self, submits)
        if acked and self.mailbox is not None:
            self.mailbox.flush()

    def _on_rare(self, event: Event) -> None:
        if isinstance(event, BindRequested):
            self._smsc._bind(self, event)
        elif isinstance(event, Closed):
            self._smsc._lost(self, event)
        elif isinstance(event, ProtocolProblem):
            self._smsc.counters.problems += 1
