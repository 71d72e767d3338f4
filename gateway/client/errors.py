"""The errors of a call, as types that say what to do about them; each carries the gateway's own code.

    ClientError
    ├── ApiError              the gateway (or what stands before it) answered and refused the call
    │   ├── Unauthorized      the key is missing, wrong, or in the URL: no repeat helps
    │   ├── BadRequest        the call itself is wrong: a field, the JSON, its size
    │   ├── Forbidden         the account may not do that: a category, sender, signature, link
    │   ├── RecipientRefused  this number cannot be, or must not be, written to (now)
    │   ├── TextRefused       the text, or what its template makes of the params
    │   ├── NotFound          no such message (any more), or no such path
    │   ├── Conflict          said before with other content, or too late for it
    │   └── Busy              not now: limits, overload, the store; `retry_after_s` says when
    ├── Unreachable           no whole answer in time; `outcome` says whether anything may have been stored
    └── BadSignature          a webhook call that is not from the gateway

Pure. Knows codes and nothing of HTTP libraries. A code that this version does not know is an ApiError of its status.
"""

from __future__ import annotations

from gateway.client.model import Refused
from gateway.errors import GatewayError


class ClientError(GatewayError):
    """Base of everything a client raises on purpose."""


class ApiError(ClientError):
    """The call as a whole was refused. `refused` holds the problem document's members, also at hand one by one."""

    def __init__(self, status: int, refused: Refused) -> None:
        where = f" ({refused.field})" if refused.field else ""
        super().__init__(f"{status} {refused.code}{where}: {refused.detail}")
        self.status = status
        self.refused = refused

    @property
    def code(self) -> str:
        """The problem's code, as in the table of docs/http_api.md; `http_502` and the like for what was no problem."""
        return self.refused.code

    @property
    def field(self) -> str | None:
        """The field at fault, where one is."""
        return self.refused.field

    @property
    def detail(self) -> str:
        """What is wrong, as a sentence."""
        return self.refused.detail

    @property
    def outcome(self) -> str:
        """`not_stored`: certainly nothing was; `unknown`: the same call with the same key or ref finds out."""
        return self.refused.outcome

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which a repeat may succeed, where the gateway says so."""
        return self.refused.retry_after_s


class Unauthorized(ApiError):
    """The key is missing or not known, or stood in the URL."""


class BadRequest(ApiError):
    """The call itself is wrong; the same call will be refused again."""


class Forbidden(ApiError):
    """The account may not do that."""


class RecipientRefused(ApiError):
    """This number cannot be, or must not be, written to."""


class TextRefused(ApiError):
    """The text, or what the template makes of the params, must not or cannot be sent."""


class NotFound(ApiError):
    """There is no such message of this account (any more), or no such path."""


class Conflict(ApiError):
    """The name was used with other content, or the message's state does not allow it any more."""


class Busy(ApiError):
    """Not now. Repeating the call with the same key or ref is safe and may succeed."""


class Unreachable(ClientError):
    """No usable answer within the time allowed. `outcome`: `unknown`, or `not_stored` where nobody was even reached."""

    def __init__(self, detail: str, outcome: str = "unknown") -> None:
        super().__init__(detail)
        self.outcome = outcome


class BadSignature(ClientError):
    """A webhook call that cannot be shown to be from the gateway: answer 401 and do nothing."""


_GROUPS: tuple[tuple[type[ApiError], str], ...] = (
    (Unauthorized, "unauthorized key_in_query"),
    (
        BadRequest,
        "bad_request body_too_large duplicate_key expectation_failed header_too_large invalid_field "
        "invalid_idempotency_key invalid_json invalid_parameter method_not_allowed missing_field request_timeout "
        "too_deep too_many_keys too_many_rows unknown_field unsupported_media_type",
    ),
    (
        Forbidden,
        "category_not_allowed consent_required link_not_allowed sender_not_allowed signature_not_allowed "
        "signature_not_registered",
    ),
    (RecipientRefused, "blocked_recipient frequency_capped invalid_number no_route outside_window expired"),
    (
        TextRefused,
        "content_rejected invalid_param missing_optout_text missing_param missing_signature template_failed "
        "template_retired text_too_long unknown_param unknown_template",
    ),
    (NotFound, "not_found"),
    (Conflict, "feedback_conflict idempotency_mismatch not_sent ref_conflict too_late too_many_feedback"),
    (
        Busy,
        "draining internal overloaded quota_exceeded rate_limited store_unavailable too_many_connections",
    ),
)
BY_CODE: dict[str, type[ApiError]] = {code: kind for kind, codes in _GROUPS for code in codes.split()}
"""Every code the gateway answers, and its type; a test holds it against the gateway's own table."""

_BY_STATUS: dict[int, type[ApiError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 429: Busy}


def api_error(status: int, refused: Refused) -> ApiError:
    """Return the error of an answer that refuses."""
    kind = BY_CODE.get(refused.code) or _BY_STATUS.get(status)
    if kind is None:
        kind = Busy if status >= 500 else BadRequest if status >= 400 else ApiError
    return kind(status, refused)
