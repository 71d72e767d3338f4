"""How one call is made sure of, without doing any of it: requests out, answers in, pauses between, one deadline.

A call is a generator, a `Flow`: it yields a `Request` (and is sent the `Response`, or `Broken`) or a `Pause`, and
returns its value. Whoever drives it owns the sockets and the clock: `aio` with aiohttp, `sync` with http.client; so
there is one rule for repeating, and it can be tested without either. Pure: time and chance come in with `Clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from gateway.client import reading
from gateway.client.errors import ApiError, Busy, Unauthorized, Unreachable, api_error
from gateway.client.model import Refused

REPEATED_STATUS = frozenset({429, 502, 503, 504})
MAX_DEADLINE_S = 12 * 3600.0
"""The gateway knows a key or ref for 24 hours at least; a repeat after that would be a second message."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a call keeps trying. `deadline_s` covers all attempts together; 0 attempts only once.

    A pause is what Retry-After asks for and a bit of chance on top, or, where nothing is asked, `first_wait_s` doubled
    up to `longest_wait_s`, half of it to one and a half by chance. Seconds throughout.

    Raises:
        ValueError: a deadline above 12 hours: idempotency keys do not hold for ever.
    """

    deadline_s: float = 30.0
    attempt_timeout_s: float = 15.0
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.deadline_s <= MAX_DEADLINE_S:
            raise ValueError(f"deadline_s must be from 0 to {MAX_DEADLINE_S:.0f}")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, all of it but the host and the key. The same bytes for every attempt."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """No whole answer came. `sent`: the gateway may have had the request."""

    why: str
    sent: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Clock:
    """What a flow must be told: `monotonic` and epoch seconds, and a number from 0 to 1."""

    monotonic: Callable[[], float]
    epoch: Callable[[], float]
    chance: Callable[[], float]


T = TypeVar("T")
Flow = Generator[Request | Pause, Response | Broken | None, T]


class Effort:
    """The time and the doubts of one logical call, over all its attempts."""

    def __init__(self, retry: Retry, clock: Clock) -> None:
        self._retry = retry
        self._clock = clock
        self._deadline = clock.monotonic() + retry.deadline_s
        self._wait_s = retry.first_wait_s
        self.doubt = False
        """An attempt ended without an answer, so what it asked for may have been done."""

    def bounded(self, request: Request) -> Request:
        """Return the request with the time its next attempt may take."""
        left_s = self._deadline - self._clock.monotonic()
        limit_s = self._retry.attempt_timeout_s
        return replace(request, timeout_s=min(limit_s, max(left_s, 0.05)) if self._retry.deadline_s else limit_s)

    def pause_s(self, asked_s: float | None) -> float | None:
        """Return how long to wait before the next attempt; None when that would be too late."""
        pause_s = self._wait_s * (0.5 + self._clock.chance())
        if asked_s is not None:
            # Many were told the same number: the chance spreads them, and keeps them behind it.
            pause_s = asked_s + min(pause_s, max(0.1 * asked_s, self._retry.first_wait_s))
        self._wait_s = min(self._wait_s * 2, self._retry.longest_wait_s)
        return pause_s if self._clock.monotonic() + pause_s < self._deadline else None

    @property
    def now_s(self) -> float:
        """Epoch seconds."""
        return self._clock.epoch()

    def judged(self, refused: Refused) -> Refused:
        """Return a refusal as it stands after earlier attempts without an answer.

        "Not now" says nothing of what those attempts did, whereas a fault of the content would have stopped them too.
        """
        return replace(refused, outcome="unknown") if self.doubt and refused.retryable else refused


def answered(request: Request, effort: Effort) -> Flow[tuple[dict[str, Any], Response]]:
    """Repeat a request until it is answered for good; return the JSON object and the response around it.

    Only for what may be repeated: reading, and changes under an idempotency key, a ref or an event_id.

    Raises:
        ApiError: refused; a repeat would be too.
        Unreachable: no whole answer in time.
    """
    while True:
        got = yield effort.bounded(request)
        assert isinstance(got, Response | Broken)
        asked_s = None
        if isinstance(got, Response):
            if got.status >= 300:
                asked_s = _refused(got, effort)
            elif (body := reading.json_object(got.body)) is not None:
                return body, got
            else:
                got = Broken("the answer is no JSON object")
        pause_s = effort.pause_s(asked_s)
        if isinstance(got, Broken):
            effort.doubt = effort.doubt or got.sent
            if pause_s is None:
                outcome = "unknown" if effort.doubt else "not_stored"
                raise Unreachable(f"no answer from the gateway: {got.why}", outcome)
        elif pause_s is None:
            raise _error(got, effort)
        yield Pause(pause_s)


def _refused(got: Response, effort: Effort) -> float | None:
    """Return the seconds that are asked for. Raises ApiError where a repeat is of no use."""
    error = _error(got, effort)
    if got.status not in REPEATED_STATUS:
        raise error
    if error.outcome == "unknown":
        effort.doubt = True
    return error.retry_after_s


def _error(got: Response, effort: Effort) -> ApiError:
    found = reading.refused_call(got.status, got.headers, got.body, effort.now_s)
    error = api_error(got.status, found)
    if effort.doubt and isinstance(error, Busy | Unauthorized):
        return api_error(got.status, replace(found, outcome="unknown"))
    return error
