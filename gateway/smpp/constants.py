"""The SMPP 3.4 vocabulary: command ids, statuses, TLV tags, sizes and the few flag bits we use.

The numbers come from smpplib's tables wherever it has them, under shorter names; what it lacks (a status of a
later version, a size limit) stands here with its section of the specification. Knows no layout and no
behaviour. Bottom of the SMPP package: everything else in it reads this file.
"""

from __future__ import annotations

from typing import Final

from smpplib import command_codes, consts  # type: ignore[import-untyped]

# --- command ids (SMPP 3.4 §5.1.2.1) ---
RESPONSE_BIT: Final = 0x80000000
_commands: Final[dict[str, int]] = command_codes.commands

GENERIC_NACK: Final[int] = _commands["generic_nack"]
BIND_RECEIVER: Final[int] = _commands["bind_receiver"]
BIND_RECEIVER_RESP: Final[int] = _commands["bind_receiver_resp"]
BIND_TRANSMITTER: Final[int] = _commands["bind_transmitter"]
BIND_TRANSMITTER_RESP: Final[int] = _commands["bind_transmitter_resp"]
BIND_TRANSCEIVER: Final[int] = _commands["bind_transceiver"]
BIND_TRANSCEIVER_RESP: Final[int] = _commands["bind_transceiver_resp"]
SUBMIT_SM: Final[int] = _commands["submit_sm"]
SUBMIT_SM_RESP: Final[int] = _commands["submit_sm_resp"]
DELIVER_SM: Final[int] = _commands["deliver_sm"]
DELIVER_SM_RESP: Final[int] = _commands["deliver_sm_resp"]
UNBIND: Final[int] = _commands["unbind"]
UNBIND_RESP: Final[int] = _commands["unbind_resp"]
ENQUIRE_LINK: Final[int] = _commands["enquire_link"]
ENQUIRE_LINK_RESP: Final[int] = _commands["enquire_link_resp"]
DATA_SM: Final[int] = _commands["data_sm"]
DATA_SM_RESP: Final[int] = _commands["data_sm_resp"]
OUTBIND: Final[int] = _commands["outbind"]
ALERT_NOTIFICATION: Final[int] = _commands["alert_notification"]

COMMAND_NAMES: Final[dict[int, str]] = {number: name for name, number in _commands.items()}

# --- command_status values (SMPP 3.4 §5.1.3) ---
ROK: Final[int] = consts.SMPP_ESME_ROK
RINVMSGLEN: Final[int] = consts.SMPP_ESME_RINVMSGLEN
RINVCMDLEN: Final[int] = consts.SMPP_ESME_RINVCMDLEN
RINVCMDID: Final[int] = consts.SMPP_ESME_RINVCMDID
RINVBNDSTS: Final[int] = consts.SMPP_ESME_RINVBNDSTS
RALYBND: Final[int] = consts.SMPP_ESME_RALYBND
RSYSERR: Final[int] = consts.SMPP_ESME_RSYSERR
RINVSRCADR: Final[int] = consts.SMPP_ESME_RINVSRCADR
RINVDSTADR: Final[int] = consts.SMPP_ESME_RINVDSTADR
RBINDFAIL: Final[int] = consts.SMPP_ESME_RBINDFAIL
RINVPASWD: Final[int] = consts.SMPP_ESME_RINVPASWD
RINVSYSID: Final[int] = consts.SMPP_ESME_RINVSYSID
RMSGQFUL: Final[int] = consts.SMPP_ESME_RMSGQFUL
RINVESMCLASS: Final[int] = consts.SMPP_ESME_RINVESMCLASS
RSUBMITFAIL: Final[int] = consts.SMPP_ESME_RSUBMITFAIL
RINVSYSTYP: Final[int] = consts.SMPP_ESME_RINVSYSTYP
RTHROTTLED: Final[int] = consts.SMPP_ESME_RTHROTTLED
RX_T_APPN: Final[int] = consts.SMPP_ESME_RX_T_APPN
RX_P_APPN: Final[int] = consts.SMPP_ESME_RX_P_APPN
RX_R_APPN: Final[int] = consts.SMPP_ESME_RX_R_APPN
RINVOPTPARSTREAM: Final[int] = consts.SMPP_ESME_RINVOPTPARSTREAM
RDELIVERYFAILURE: Final[int] = consts.SMPP_ESME_RDELIVERYFAILURE
RUNKNOWNERR: Final[int] = consts.SMPP_ESME_RUNKNOWNERR

STATUS_NAMES: Final[dict[int, str]] = {
    value: name.removeprefix("SMPP_ESME_") for name, value in vars(consts).items() if name.startswith("SMPP_ESME_")
}

# --- TLV tags (SMPP 3.4 §5.3.2) ---
_tags: Final[dict[str, int]] = consts.OPTIONAL_PARAMS

TAG_RECEIPTED_MESSAGE_ID: Final[int] = _tags["receipted_message_id"]
TAG_MESSAGE_STATE: Final[int] = _tags["message_state"]
TAG_NETWORK_ERROR_CODE: Final[int] = _tags["network_error_code"]
TAG_MESSAGE_PAYLOAD: Final[int] = _tags["message_payload"]
TAG_USER_MESSAGE_REFERENCE: Final[int] = _tags["user_message_reference"]
TAG_SAR_MSG_REF_NUM: Final[int] = _tags["sar_msg_ref_num"]
TAG_SAR_TOTAL_SEGMENTS: Final[int] = _tags["sar_total_segments"]
TAG_SAR_SEGMENT_SEQNUM: Final[int] = _tags["sar_segment_seqnum"]
TAG_MORE_MESSAGES_TO_SEND: Final[int] = _tags["more_messages_to_send"]
TAG_SC_INTERFACE_VERSION: Final[int] = _tags["sc_interface_version"]

# --- message_state values of a receipt (SMPP 3.4 §5.2.28) ---
STATE_ENROUTE: Final[int] = consts.SMPP_MESSAGE_STATE_ENROUTE
STATE_DELIVERED: Final[int] = consts.SMPP_MESSAGE_STATE_DELIVERED
STATE_EXPIRED: Final[int] = consts.SMPP_MESSAGE_STATE_EXPIRED
STATE_DELETED: Final[int] = consts.SMPP_MESSAGE_STATE_DELETED
STATE_UNDELIVERABLE: Final[int] = consts.SMPP_MESSAGE_STATE_UNDELIVERABLE
STATE_ACCEPTED: Final[int] = consts.SMPP_MESSAGE_STATE_ACCEPTED
STATE_UNKNOWN: Final[int] = consts.SMPP_MESSAGE_STATE_UNKNOWN
STATE_REJECTED: Final[int] = consts.SMPP_MESSAGE_STATE_REJECTED

# --- addresses, classes, codings (SMPP 3.4 §5.2.5, §5.2.6, §5.2.12, §5.2.17, §5.2.19) ---
TON_UNKNOWN: Final[int] = consts.SMPP_TON_UNK
TON_INTERNATIONAL: Final[int] = consts.SMPP_TON_INTL
TON_NATIONAL: Final[int] = consts.SMPP_TON_NATNL
TON_NETWORK: Final[int] = consts.SMPP_TON_NWSPEC
TON_ALPHANUMERIC: Final[int] = consts.SMPP_TON_ALNUM
NPI_UNKNOWN: Final[int] = consts.SMPP_NPI_UNK
NPI_ISDN: Final[int] = consts.SMPP_NPI_ISDN

ESM_CLASS_UDHI: Final[int] = consts.SMPP_GSMFEAT_UDHI
ESM_CLASS_RECEIPT: Final = 0x04  # deliver_sm only: message type bits 5-2 = 0001, SMSC delivery receipt (§5.2.12)
ESM_CLASS_TYPE_MASK: Final = 0x3C
REGISTERED_DELIVERY_NONE: Final[int] = consts.SMPP_SMSC_DELIVERY_RECEIPT_NONE
REGISTERED_DELIVERY_FINAL: Final[int] = consts.SMPP_SMSC_DELIVERY_RECEIPT_BOTH
REGISTERED_DELIVERY_FAILURE: Final[int] = consts.SMPP_SMSC_DELIVERY_RECEIPT_FAILURE

CODING_DEFAULT: Final[int] = consts.SMPP_ENCODING_DEFAULT
CODING_ASCII: Final[int] = consts.SMPP_ENCODING_IA5
CODING_LATIN1: Final[int] = consts.SMPP_ENCODING_ISO88591
CODING_UCS2: Final[int] = consts.SMPP_ENCODING_ISO10646

INTERFACE_VERSION_34: Final[int] = consts.SMPP_VERSION_34

# --- sizes ---
LONG_PASSWORD_OCTETS: Final = 64
"""Longest password sent where a channel allows more than the 8 octets of SMPP 3.4 §5.2.2. No version of SMPP has room
for it; the SMSCs that take one read any C-octet string there, as 3.4 bounds its longest ones (§5.2.23: 65 with NUL)."""
HEADER_OCTETS: Final = 16
MAX_PDU_OCTETS: Final = 65536
"""Longest PDU taken from a peer; a larger command_length means that the stream is out of step."""
MAX_SEQUENCE_NUMBER: Final = 0x7FFFFFFF
"""Our own sequence numbers run from 1 to this and start again (SMPP 3.4 §5.1.4); a peer's are only echoed."""
MAX_SHORT_MESSAGE_OCTETS: Final = 254
"""SMPP 3.4 §5.2.22; longer texts go into message_payload or into parts."""


def command_name(command_id: int) -> str:
    """Return the specification's name of a command, or its number in hex when it has none."""
    return COMMAND_NAMES.get(command_id) or f"0x{command_id:08X}"


def status_name(status: int) -> str:
    """Return `0x00000058 RTHROTTLED` for a command_status; only the number when 3.4 does not name it."""
    name = STATUS_NAMES.get(status)
    return f"0x{status:08X} {name}" if name else f"0x{status:08X}"
