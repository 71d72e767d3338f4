"""How a simulated SMSC behaves: options, the table of magic numbers, and the decision for one short message.
Pure.

Owns every rule about *what* the simulator does with a submit_sm (answer, delay, receipts, faults); `smsc.py`
only carries the decision out. Refuses to know sockets, clocks and asyncio: chance comes from a seeded
generator given in, so a run can be repeated. Stands beside the gateway's path, at the carrier's end of it.

Magic numbers: with `by_number` on, a destination that ends in 0900 and three more digits (+86 138 0 0900 312,
say) chooses its own behaviour.

    ends in       the SMSC
    0900 000      behaves normally
    0900 001-255  answers with that command_status, in decimal (088 = 0x58 throttled, 020 = 0x14 queue full)
    0900 300      never answers (no receipt either)
    0900 301      answers late, after `late_response_s`
    0900 302      takes the message, sends no answer and cuts the connection
    0900 303      answers, then cuts the connection
    0900 304      answers with status 0 and an empty message_id
    0900 305      answers with generic_nack (status 0x08) in place of a submit_sm_resp
    0900 306      answers, then unbinds
    0900 307      answers twice (repeated sequence_number)
    0900 308      answers, after one answer more to a sequence_number that was never used
    0900 309      never answers, but sends the receipt (the lost answer that a receipt can settle)
    0900 310      sends the receipt before the answer
    0900 311      sends the receipt late, after `late_receipt_s`
    0900 312      sends the receipt twice
    0900 313      sends the receipt five times
    0900 314      sends no receipt
    0900 315      sends a receipt with an id nobody was given, and no other
    0900 316      sends a receipt whose address is another number
    0900 317      answers with a decimal id, writes it in hexadecimal in the receipt
    0900 318      sends an intermediate receipt (ENROUTE), then the final one
    0900 319      sends DELIVRD, then UNDELIV
    0900 320-325  sends UNDELIV, EXPIRED, REJECTD, DELETED, UNKNOWN, SKIPPED with an err code
    0900 326      sends a receipt whose text is no receipt
    0900 327      sends a receipt with TLVs and no text
    0900 328      sends a receipt with text and no TLVs
    0900 329      sends UNDELIV with the vendor word MK:0001 as err
    0900 330      delivers, then the recipient sends TD
    0900 331      delivers, then the recipient sends the same text back
    0900 40n      answers 0x58 to the first n submits of this number, then behaves normally
    0900 41n      answers 0x08 to the first n submits of this number, then behaves normally
    0900 42n      leaves the first n submits of this number unanswered, then behaves normally
    0900 43n      cuts the connection on the first n submits of this number, then behaves normally
    0900 5nn      answers with the vendor status 0x400 + nn
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from uuid import UUID

MAGIC = "0900"
MAGIC_DIGITS = len(MAGIC) + 3

THROTTLED = 0x58  # SMPP 3.4 §5.1.3: ESME_RTHROTTLED
SYSTEM_ERROR = 0x08  # ESME_RSYSERR
QUEUE_FULL = 0x14  # ESME_RMSGQFUL

ID_FORMATS = ("decimal", "hex", "uuid", "resp_hex_dlr_dec", "resp_dec_hex")
"""How smsc_ids are written in the answer and in the receipt; the last two differ between the two."""


@dataclass(slots=True)
class SimulatorOptions:
    """What one simulated SMSC does; every field may be changed while it runs.

    Rates are shares of all messages (0.0 to 1.0); `_s` fields are seconds; 0 means "off" for limits and
    counts. `max_tps` counts submit_sm over all sessions within fixed seconds, as carriers do.
    """

    host: str = "127.0.0.1"
    port: int = 0
    name: str = "smsc"
    system_id: str = "simulator"
    password: str | None = None  # None: any credentials are welcome
    # TLS: with a certificate and its key (PEM files) the listener speaks nothing else
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""  # clients must show a certificate of this authority
    # binds
    bind_status: int = 0  # any other: every bind is refused with it
    answer_binds: bool = True  # False: takes the connection and never answers the bind
    max_sessions: int = 0  # above it 0x05 RALYBND
    enquire_link_s: float = 30.0  # the SMSC's own enquire_link; 0: none
    response_timer_s: float = 30.0  # for its deliver_sm and enquire_link
    # answers
    latency_s: float = 0.0
    latency_jitter_s: float = 0.0
    late_response_s: float = 3.0
    max_tps: int = 0
    max_unanswered: int = 0  # more submits than this waiting for their answer in a session: 0x14
    silence: bool = False
    answer_first: int = 0  # a session's first n submits are answered, the rest is not (half a window)
    lost_answer_rate: float = 0.0  # taken, never answered, receipt sent all the same
    error_rate: float = 0.0
    error_codes: tuple[int, ...] = (SYSTEM_ERROR,)
    shuffle: bool = False  # answers of one batch leave in reverse order
    disconnect_after: int = 0  # each session is cut after n submits
    unbind_after: int = 0  # each session is unbound by the SMSC after n submits
    # receipts
    receipts: bool = True
    receipt_delay_s: float = 1.0
    receipt_jitter_s: float = 0.0
    receipt_window: int = 500  # unanswered deliver_sm a session; the rest waits
    redeliver_s: float = 1.0  # a deliver_sm refused, timed out or cut off is sent again after this
    late_receipt_s: float = 10.0
    early_rate: float = 0.0
    late_rate: float = 0.0
    double_rate: float = 0.0
    missing_rate: float = 0.0
    unknown_rate: float = 0.0  # an additional receipt with an id nobody was given
    wrong_destination_rate: float = 0.0
    failed_rate: float = 0.0
    failed_states: tuple[tuple[str, str], ...] = (("UNDELIV", "001"),)  # (state word, err)
    receipt_text: bool = True
    receipt_tlvs: bool = True
    receipt_pdu: str = "deliver_sm"  # or data_sm, whose text is in message_payload
    id_format: str = "decimal"
    # the rest
    by_number: bool = True
    keep_ledger: bool = True
    seed: int = 0

    def is_plain(self) -> bool:
        """Return whether no fault is set, so that every message takes the same, cheap way."""
        return not (
            self.by_number
            or self.silence
            or self.shuffle
            or self.max_tps
            or self.max_unanswered
            or self.answer_first
            or self.disconnect_after
            or self.unbind_after
            or self.latency_jitter_s
            or self.receipt_jitter_s
            or self.lost_answer_rate
            or self.error_rate
            or self.early_rate
            or self.late_rate
            or self.double_rate
            or self.missing_rate
            or self.unknown_rate
            or self.wrong_destination_rate
            or self.failed_rate
        )


@dataclass(slots=True, frozen=True)
class ReceiptPlan:
    """One receipt: when it is sent (after the submit; if `early` before the answer), what is odd in it."""

    delay_s: float
    state: str = "DELIVRD"
    err: str = "000"
    early: bool = False
    unknown_id: bool = False
    wrong_destination: bool = False
    garbage: bool = False
    id_as_hex: bool = False
    text: bool = True
    tlvs: bool = True


@dataclass(slots=True, frozen=True)
class Plan:
    """What to do with one submit_sm. `status` None: no answer. `connection`: "", "cut" or "unbind", after the
    answer.
    """

    status: int | None = 0
    delay_s: float = 0.0
    receipts: tuple[ReceiptPlan, ...] = ()
    connection: str = ""
    empty_id: bool = False
    as_generic_nack: bool = False
    repeat_answer: bool = False
    stray_answer: bool = False
    reply: str | None = None  # the recipient answers with this; "" repeats the text


FAILED_BY_RULE: dict[int, tuple[str, str]] = {
    320: ("UNDELIV", "001"),
    321: ("EXPIRED", "027"),
    322: ("REJECTD", "066"),
    323: ("DELETED", "004"),
    324: ("UNKNOWN", "255"),
    325: ("SKIPPED", "009"),
    329: ("UNDELIV", "MK:0001"),
}


def magic_rule(destination: str) -> int | None:
    """Return the three rule digits of a magic number as an integer, None for every other destination."""
    if destination[-MAGIC_DIGITS:-3] != MAGIC:
        return None
    digits = destination[-3:]
    return int(digits) if digits.isascii() and digits.isdigit() else None


@dataclass(slots=True)
class Behaviour:
    """Decides, message by message, from the options and (where asked for) the destination.

    Keeps what a decision needs to remember: the seeded generator, submits a number (rules 40n-43n), the
    second's count.
    """

    options: SimulatorOptions
    _random: Random = field(init=False)
    _seen: dict[str, int] = field(init=False, default_factory=dict)
    _second: int = field(init=False, default=-1)
    _in_second: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._random = Random(self.options.seed)

    def decide(self, destination: str, *, nth: int, unanswered: int, wants_receipt: bool, now: float) -> Plan:
        """Return the plan for one submit_sm: the session's `nth` (from 1), with `unanswered` others waiting,
        at `now`.
        """
        options = self.options
        refused = self._refusal(nth, unanswered, now)
        if refused is not None:
            return refused
        if options.by_number:
            rule = magic_rule(destination)
            if rule is not None:
                return self._by_rule(rule, destination, wants_receipt)
        if options.disconnect_after and nth >= options.disconnect_after:
            return Plan(status=None, connection="cut")
        if options.error_rate and self._random.random() < options.error_rate:
            return Plan(status=self._random.choice(options.error_codes), delay_s=self._latency_s())
        return self._by_chance(nth, wants_receipt)

    def _refusal(self, nth: int, unanswered: int, now: float) -> Plan | None:
        """Return the plan where a limit of the SMSC or of the session is reached."""
        options = self.options
        if options.max_tps and self._over_tps(now):
            return Plan(status=THROTTLED, delay_s=options.latency_s)
        if options.max_unanswered and unanswered > options.max_unanswered:
            return Plan(status=QUEUE_FULL, delay_s=options.latency_s)
        if options.silence or (options.answer_first and nth > options.answer_first):
            return Plan(status=None)
        return None

    def _over_tps(self, now: float) -> bool:
        second = int(now)
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return self._in_second > self.options.max_tps

    def _by_chance(self, nth: int, wants_receipt: bool) -> Plan:
        options, hit = self.options, self._hit
        status: int | None = None if hit(options.lost_answer_rate) else 0
        connection = "unbind" if options.unbind_after and nth >= options.unbind_after else ""
        if not wants_receipt:
            return Plan(status=status, delay_s=self._latency_s(), connection=connection)
        receipts: list[ReceiptPlan] = []
        if not hit(options.missing_rate):
            state, err = ("DELIVRD", "000")
            if hit(options.failed_rate):
                state, err = self._random.choice(options.failed_states)
            early = hit(options.early_rate)
            late = hit(options.late_rate)
            receipt = ReceiptPlan(
                delay_s=0.0 if early else options.late_receipt_s if late else self._receipt_delay_s(),
                state=state,
                err=err,
                early=early,
                wrong_destination=hit(options.wrong_destination_rate),
                text=options.receipt_text,
                tlvs=options.receipt_tlvs,
            )
            receipts.append(receipt)
            if hit(options.double_rate):
                receipts.append(receipt)
        if hit(options.unknown_rate):
            receipts.append(ReceiptPlan(delay_s=self._receipt_delay_s(), unknown_id=True))
        return Plan(status=status, delay_s=self._latency_s(), receipts=tuple(receipts), connection=connection)

    def _by_rule(self, rule: int, destination: str, wants_receipt: bool) -> Plan:
        """Return the plan of one line of the table in this module's docstring."""
        if 0 < rule < 256:
            return Plan(status=rule, delay_s=self._latency_s())
        if 500 <= rule < 600:
            return Plan(status=0x400 + rule - 500, delay_s=self._latency_s())
        if 400 <= rule < 440:
            return self._first_n(rule, destination, wants_receipt)
        if 300 <= rule < 310:
            return self._answer_rule(rule, wants_receipt)
        if 310 <= rule < 332 and wants_receipt:
            return Plan(
                delay_s=self._latency_s(),
                receipts=self._receipt_rule(rule),
                reply={330: "TD", 331: ""}.get(rule),
            )
        return self._normal(wants_receipt)

    def _first_n(self, rule: int, destination: str, wants_receipt: bool) -> Plan:
        seen = self._seen[destination] = self._seen.get(destination, 0) + 1
        if seen > rule % 10:
            return self._normal(wants_receipt)
        kind = rule // 10
        if kind == 40:
            return Plan(status=THROTTLED, delay_s=self._latency_s())
        if kind == 41:
            return Plan(status=SYSTEM_ERROR, delay_s=self._latency_s())
        return Plan(status=None, connection="cut" if kind == 43 else "")

    def _answer_rule(self, rule: int, wants_receipt: bool) -> Plan:
        plan = self._normal(wants_receipt)
        changes: dict[int, dict[str, Any]] = {
            300: {"status": None, "receipts": ()},
            301: {"delay_s": self.options.late_response_s},
            302: {"status": None, "receipts": (), "connection": "cut"},
            303: {"connection": "cut"},
            304: {"empty_id": True},
            305: {"status": SYSTEM_ERROR, "receipts": (), "as_generic_nack": True},
            306: {"connection": "unbind"},
            307: {"repeat_answer": True},
            308: {"stray_answer": True},
            309: {"status": None},
        }
        return replace(plan, **changes[rule])

    def _receipt_rule(self, rule: int) -> tuple[ReceiptPlan, ...]:
        at_s = self._receipt_delay_s()
        normal = ReceiptPlan(at_s, text=self.options.receipt_text, tlvs=self.options.receipt_tlvs)
        if rule in FAILED_BY_RULE:
            state, err = FAILED_BY_RULE[rule]
            return (ReceiptPlan(at_s, state, err),)
        table: dict[int, tuple[ReceiptPlan, ...]] = {
            310: (ReceiptPlan(0.0, early=True),),
            311: (ReceiptPlan(self.options.late_receipt_s),),
            312: (normal,) * 2,
            313: (normal,) * 5,
            314: (),
            315: (ReceiptPlan(at_s, unknown_id=True),),
            316: (ReceiptPlan(at_s, wrong_destination=True),),
            317: (ReceiptPlan(at_s, id_as_hex=True),),
            318: (ReceiptPlan(at_s / 2, "ENROUTE"), normal),
            319: (normal, ReceiptPlan(at_s + 0.2, "UNDELIV", "001")),
            326: (ReceiptPlan(at_s, garbage=True, tlvs=False),),
            327: (ReceiptPlan(at_s, text=False),),
            328: (ReceiptPlan(at_s, tlvs=False),),
        }
        return table.get(rule, (normal,))

    def _normal(self, wants_receipt: bool) -> Plan:
        receipts: tuple[ReceiptPlan, ...] = ()
        if wants_receipt:
            options = self.options
            receipts = (ReceiptPlan(self._receipt_delay_s(), text=options.receipt_text, tlvs=options.receipt_tlvs),)
        return Plan(delay_s=self._latency_s(), receipts=receipts)

    def _latency_s(self) -> float:
        jitter_s = self.options.latency_jitter_s
        return self.options.latency_s + (self._random.random() * jitter_s if jitter_s else 0.0)

    def _receipt_delay_s(self) -> float:
        jitter_s = self.options.receipt_jitter_s
        return self.options.receipt_delay_s + (self._random.random() * jitter_s if jitter_s else 0.0)

    def _hit(self, rate: float) -> bool:
        return rate > 0.0 and self._random.random() < rate


@dataclass(slots=True)
class IdMaker:
    """Gives out smsc_ids in one of ID_FORMATS: the answer's id, and how the receipt writes the same id."""

    id_format: str
    _next: int = 1
    _random: Random = field(default_factory=lambda: Random(0))

    def new(self) -> tuple[bytes, bytes]:
        """Return (id in the submit_sm_resp, id in the receipt)."""
        n = self._next
        self._next = n + 1
        id_format = self.id_format
        if id_format == "decimal":
            octets = b"%010d" % n
            return octets, octets
        if id_format == "resp_hex_dlr_dec":
            return b"%X" % n, b"%010d" % n
        if id_format == "resp_dec_hex":
            return b"%d" % n, b"%X" % n
        octets = b"%X" % n if id_format == "hex" else str(UUID(int=self._random.getrandbits(128))).encode()
        return octets, octets

    def unknown(self) -> bytes:
        """Return an id that nobody was or will be given."""
        return b"%010d" % (9_000_000_000 + self._random.getrandbits(28))
