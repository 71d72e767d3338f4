"""What an application should do about each code of a refusal: sentences for the specification and the documentation.

Owns words only; titles and statuses stand in `problem`. A test holds the two tables against each other.
"""

from __future__ import annotations

from typing import Final

_MEND: Final = "Mend the request; the same one is refused again."
_LATER: Final = "Repeat the same request after Retry-After, with the same ref or Idempotency-Key."
_ASK: Final = "Ask the operator."

ADVICE: Final[dict[str, str]] = {
    "bad_request": _MEND,
    "blocked_recipient": "Take the number off your lists: its owner wants no such messages, or an operator barred it.",
    "body_too_large": "Cut it: 64 KiB for one message, 4 MiB for a batch.",
    "category_not_allowed": "Use one of the account's categories, or ask the operator for this one.",
    "consent_required": "Send `consent: true` where the recipient agreed, and nothing where not.",
    "content_rejected": "Change the text: a word or a pattern in it is not allowed.",
    "draining": "Repeat it at once on another connection: this worker is stopping, others go on.",
    "duplicate_key": _MEND,
    "expectation_failed": "Send no Expect header, or 100-continue.",
    "expired": "Give it more time (ttl_s, not_after), or leave it.",
    "feedback_conflict": "Another event of the same event_id is on record: give each event its own.",
    "frequency_capped": "Wait until retry_at where it is given; the limit protects the recipient.",
    "header_too_large": "Send fewer or shorter headers.",
    "idempotency_mismatch": "A fault of the caller: a key was used for two different requests. Make one a request.",
    "internal": "Repeat it with the same ref or key, and tell the operator if it stays.",
    "invalid_field": "Mend the field that `field` names.",
    "invalid_idempotency_key": "1 to 255 visible ASCII characters, given once.",
    "invalid_json": "Send JSON (RFC 8259) in UTF-8.",
    "invalid_number": "Check the number; E.164 as +8613800138000 is understood always.",
    "invalid_param": "Mend the param that `field` names; GET /admin/v1/templates shows what it may be.",
    "invalid_parameter": "Mend the query parameter that `field` names.",
    "key_in_query": "Replace the key, it may stand in logs now, and send it as Authorization: Bearer.",
    "link_not_allowed": "Link to the account's own domains only, or ask the operator to add one.",
    "method_not_allowed": "Allow names the methods of this path.",
    "missing_field": "Add the field that `field` names.",
    "missing_param": "Add the param that `field` names.",
    "missing_optout_text": "Say in the text how to get no more, as 拒收请回复R.",
    "missing_signature": "Begin the text with 【…】, or ask for a signature of the account.",
    "no_route": _ASK,
    "not_found": "The id is wrong, of another account, or older than records are kept.",
    "not_sent": "No carrier has had it, so nothing can have come of it.",
    "outside_window": "Choose another local_window or a later not_after.",
    "overloaded": _LATER,
    "quota_exceeded": "Wait until the day ends (Retry-After says when), or ask for a larger quota.",
    "rate_limited": _LATER,
    "ref_conflict": "A fault of the caller: a ref was used for two different messages to one number.",
    "request_timeout": "Send the request faster, in one piece.",
    "sender_not_allowed": "Use one of the account's senders, or leave it out.",
    "signature_not_allowed": "Use one of the account's signatures.",
    "signature_not_registered": "Have the signature registered with the carrier, or use another.",
    "store_unavailable": "Repeat it with the same ref or key: where outcome is unknown, that finds out.",
    "template_failed": "Look at the template with these params: POST /admin/v1/templates/{id}/preview.",
    "template_retired": "Use the template's latest version.",
    "text_too_long": "Shorten the text: ten parts are 1,530 characters, 670 where one is not of GSM 03.38.",
    "too_deep": _MEND,
    "too_late": "It was taken up for sending; it can no longer be cancelled.",
    "too_many_connections": "Keep fewer connections open and use them again.",
    "too_many_feedback": "Tell no more of this message: what is on record stays.",
    "too_many_keys": _MEND,
    "too_many_rows": "Group by less, ask for a shorter time, or filter.",
    "unauthorized": "Send a valid key: Authorization: Bearer <key>.",
    "unknown_param": "Leave the param out that `field` names.",
    "unknown_template": "Check the template's id and version.",
    "unknown_field": "Leave out or respell the field that `field` names.",
    "unsupported_media_type": "Content-Type: application/json, not compressed.",
}
