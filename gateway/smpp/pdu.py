"""SMPP PDUs as plain slotted values: SMPP 3.4's fields under their own names, and a `repr` that shows no
person.

Knows no bytes (codec) and no protocol order (session). Every PDU carries `command_id`, `command_status` and
`sequence_number`; addresses, texts and ids are octets as on the wire. Never changed once built, by
convention: frozen dataclasses cost four times as much to make, and there are several for every short message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from gateway.errors import MalformedPdu
from gateway.smpp import constants as c

# The defaults of a short message's fields are those of an ordinary mobile-terminated submit_sm: everything 0.


@dataclass(slots=True, repr=False)
class ShortMessagePdu:
    """What submit_sm and deliver_sm share (SMPP 3.4 §4.4.1, §4.6.1). Octet strings without their NUL."""

    command_id: ClassVar[int]

    service_type: bytes = b""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: bytes = b""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: bytes = b""
    esm_class: int = 0
    protocol_id: int = 0
    priority_flag: int = 0
    schedule_delivery_time: bytes = b""
    validity_period: bytes = b""
    registered_delivery: int = 0
    replace_if_present_flag: int = 0
    data_coding: int = 0
    sm_default_msg_id: int = 0
    short_message: bytes = b""
    tlvs: dict[int, bytes] | None = None
    command_status: int = 0
    sequence_number: int = 0

    def __repr__(self) -> str:
        return (
            f"{_head(self)} source={_masked(self.source_addr)} destination={_masked(self.destination_addr)}"
            f" esm_class=0x{self.esm_class:02X} data_coding={self.data_coding}"
            f" registered_delivery={self.registered_delivery} octets={len(self.short_message)}"
            f" tlvs=[{_tags(self.tlvs)}]>"
        )


@dataclass(slots=True, repr=False)
class SubmitSm(ShortMessagePdu):
    """A short message from the ESME to the SMSC."""

    command_id: ClassVar[int] = c.SUBMIT_SM


@dataclass(slots=True, repr=False)
class DeliverSm(ShortMessagePdu):
    """A receipt or a mobile-originated short message from the SMSC to the ESME."""

    command_id: ClassVar[int] = c.DELIVER_SM


@dataclass(slots=True, repr=False)
class DataSm:
    """A short message whose text, where it has one, is in TLV message_payload (SMPP 3.4 §4.7.1); some SMSCs send
    receipts so.
    """

    command_id: ClassVar[int] = c.DATA_SM

    service_type: bytes = b""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: bytes = b""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: bytes = b""
    esm_class: int = 0
    registered_delivery: int = 0
    data_coding: int = 0
    tlvs: dict[int, bytes] | None = None
    command_status: int = 0
    sequence_number: int = 0

    @property
    def short_message(self) -> bytes:
        """Its text under the name a deliver_sm has for it."""
        return self.tlvs.get(c.TAG_MESSAGE_PAYLOAD, b"") if self.tlvs else b""

    def __repr__(self) -> str:
        return (
            f"{_head(self)} source={_masked(self.source_addr)} destination={_masked(self.destination_addr)}"
            f" esm_class=0x{self.esm_class:02X} data_coding={self.data_coding} tlvs=[{_tags(self.tlvs)}]>"
        )


@dataclass(slots=True, repr=False)
class _ShortMessageResp:
    command_id: ClassVar[int]

    message_id: bytes = b""
    command_status: int = 0
    sequence_number: int = 0

    def __repr__(self) -> str:
        return f"{_head(self)} message_id={self.message_id[:64]!r}>"


@dataclass(slots=True, repr=False)
class SubmitSmResp(_ShortMessageResp):
    """The SMSC's answer to a submit_sm; `message_id` is its id for the part, empty on errors."""

    command_id: ClassVar[int] = c.SUBMIT_SM_RESP


@dataclass(slots=True, repr=False)
class DeliverSmResp(_ShortMessageResp):
    """The ESME's answer to a deliver_sm; `message_id` is unused (SMPP 3.4 §4.6.2)."""

    command_id: ClassVar[int] = c.DELIVER_SM_RESP


@dataclass(slots=True, repr=False)
class DataSmResp(_ShortMessageResp):
    """The answer to a data_sm (SMPP 3.4 §4.7.2)."""

    command_id: ClassVar[int] = c.DATA_SM_RESP


@dataclass(slots=True, repr=False)
class Bind:
    """bind_transmitter, bind_receiver or bind_transceiver, told apart by `command_id` (SMPP 3.4 §4.1)."""

    command_id: int
    system_id: bytes = b""
    password: bytes = b""
    system_type: bytes = b""
    interface_version: int = c.INTERFACE_VERSION_34
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: bytes = b""
    command_status: int = 0
    sequence_number: int = 0

    def __repr__(self) -> str:
        return f"{_head(self)} interface_version=0x{self.interface_version:02X}>"


@dataclass(slots=True, repr=False)
class BindResp:
    """The answer to one of the binds; `system_id` is the SMSC's own name."""

    command_id: int
    system_id: bytes = b""
    tlvs: dict[int, bytes] | None = None
    command_status: int = 0
    sequence_number: int = 0

    def __repr__(self) -> str:
        return f"{_head(self)}>"


@dataclass(slots=True, repr=False)
class _HeaderOnly:
    command_id: ClassVar[int]

    command_status: int = 0
    sequence_number: int = 0

    def __repr__(self) -> str:
        return f"{_head(self)}>"


@dataclass(slots=True, repr=False)
class Unbind(_HeaderOnly):
    """Wish to end the session (SMPP 3.4 §4.2)."""

    command_id: ClassVar[int] = c.UNBIND


@dataclass(slots=True, repr=False)
class UnbindResp(_HeaderOnly):
    """The answer to unbind; the connection is closed next."""

    command_id: ClassVar[int] = c.UNBIND_RESP


@dataclass(slots=True, repr=False)
class EnquireLink(_HeaderOnly):
    """Are you there? (SMPP 3.4 §4.11)"""

    command_id: ClassVar[int] = c.ENQUIRE_LINK


@dataclass(slots=True, repr=False)
class EnquireLinkResp(_HeaderOnly):
    """I am."""

    command_id: ClassVar[int] = c.ENQUIRE_LINK_RESP


@dataclass(slots=True, repr=False)
class GenericNack(_HeaderOnly):
    """A PDU of ours that the peer could not read; `sequence_number` 0 when not even that was readable."""

    command_id: ClassVar[int] = c.GENERIC_NACK


@dataclass(slots=True, repr=False)
class Unknown:
    """A sound header with a command we do not serve; `body` as received."""

    command_id: int
    body: bytes = b""
    command_status: int = 0
    sequence_number: int = 0

    def __repr__(self) -> str:
        return f"{_head(self)} octets={len(self.body)}>"


@dataclass(slots=True, repr=False)
class Malformed:
    """A sound header, a body that cannot be read. `raw` is the whole PDU, for the dead-letter list."""

    command_id: int
    error: MalformedPdu
    raw: bytes = b""
    command_status: int = 0
    sequence_number: int = 0

    def __repr__(self) -> str:
        return f"{_head(self)} malformed: {self.error} octets={len(self.raw)}>"


Pdu: TypeAlias = (
    SubmitSm
    | DeliverSm
    | DataSm
    | SubmitSmResp
    | DeliverSmResp
    | DataSmResp
    | Bind
    | BindResp
    | Unbind
    | UnbindResp
    | EnquireLink
    | EnquireLinkResp
    | GenericNack
    | Unknown
)
"""Whatever the codec reads or writes."""
DecodedPdu: TypeAlias = Pdu | Malformed


def _head(
    pdu: ShortMessagePdu | DataSm | _ShortMessageResp | Bind | BindResp | _HeaderOnly | Unknown | Malformed,
) -> str:
    status = f" {c.status_name(pdu.command_status)}" if pdu.command_status else ""
    return f"<{c.command_name(pdu.command_id)} seq={pdu.sequence_number}{status}"


def _tags(tlvs: dict[int, bytes] | None) -> str:
    return ",".join(f"0x{tag:04X}" for tag in list(tlvs)[:8]) if tlvs else ""


def _masked(address: bytes) -> str:
    """Return what a log may show of an address: a long number's last four digits, else its length."""
    if len(address) >= 8 and address.isdigit():
        return f"****{address[-4:].decode()}"
    return f"[{len(address)}]"
