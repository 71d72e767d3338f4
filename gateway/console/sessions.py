"""Sessions as a browser carries them: the cookie, the token against forged requests, and how long an answer may run.

Owns what is asked of a request that comes by cookie (SameSite alone does not hold within one host) and the short memory
that spares the store a question: at most a second old. Refuses to know users. What opens a session is in the cookie
alone; the store has its hash, and the token against forgery is made from it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from gateway.console.addresses import is_ours
from gateway.errors import RequestError, StoreUnavailable
from gateway.store.console_sessions import ConsoleSessions, Limits, Session, id_of

log = logging.getLogger(__name__)

COOKIE: Final = "__Host-smsgw"
CSRF_HEADER: Final = "X-CSRF-Token"
BACKGROUND_HEADER: Final = "X-Background"
"""A page sets it on what it asks by itself: such requests keep no session alive."""
CHECKED_S: Final = 300.0
"""How long a password check counts."""
_BACKGROUND_PATHS: Final = frozenset({"/console/api/session", "/admin/v1/events"})
_REMEMBERED_S: Final = 1.0
_LOOK_EVERY_S: Final = 1.0
_USED_AFTER_MS: Final = 30_000
_OPENER_CHARS: Final = 43
_MOST_REMEMBERED: Final = 1000
_LOOKING: Final = ("GET", "HEAD")


@dataclass(slots=True)
class _Running:
    """A request that runs in a session."""

    session: str
    limits: Limits
    task: asyncio.Task[object]
    since: float


@dataclass(slots=True)
class _Known:
    """A session as it was read a moment ago."""

    session: Session
    at: float


@dataclass
class Sessions:
    """The sessions of one process; one for its whole life, whatever the configuration."""

    kept: ConsoleSessions
    _known: dict[str, _Known] = field(default_factory=dict)
    _running: dict[int, _Running] = field(default_factory=dict)
    _watch: asyncio.Task[None] | None = None

    async def of(self, request: web.Request, limits: Limits, origins: tuple[str, ...]) -> Session | None:
        """Return the session that a request comes with, None where none lives.

        Raises:
            RequestError: it changes something, and does not show that the console's own page asks (403, 415).
            StoreUnavailable: nobody can tell.
        """
        opener = opener_of(request)
        if opener is None:
            return None
        background = request.path in _BACKGROUND_PATHS or BACKGROUND_HEADER in request.headers
        session = await self._look(id_of(opener), limits, used=not background)
        if session is not None:
            _check_page(request, opener, origins)
        return session

    async def _look(self, id_: str, limits: Limits, *, used: bool) -> Session | None:
        known = self._known.get(id_)
        now = time.monotonic()
        if known is not None and now - known.at < _REMEMBERED_S:
            session = known.session
            if not used or session.now_ms - session.seen_ms < _USED_AFTER_MS:
                return session
        after_ms = min(_USED_AFTER_MS, limits.idle_ms // 4) if used else None
        found = await self.kept.look(id_, limits, used_after_ms=after_ms)
        self._remember(id_, found)
        return found

    async def checked(self, id_: str, limits: Limits) -> Session | None:
        """Note that the session's user has just given their password."""
        found = await self.kept.look(id_, limits, used_after_ms=0, checked=True)
        self._remember(id_, found)
        return found

    def _remember(self, id_: str, session: Session | None) -> None:
        self._known.pop(id_, None)
        if session is not None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[id_] = _Known(session, time.monotonic())

    def forget(self) -> None:
        """Ask the store about every session from now on: some have just ended."""
        self._known.clear()

    # --- answers that run for long

    @contextlib.contextmanager
    def watched(self, id_: str, limits: Limits, *, ends: bool) -> Iterator[None]:
        """End the request that runs here when its session ends (`ends`): a stream would live for ever.

        What changes something is not broken off: it ends by itself within seconds.
        """
        task = asyncio.current_task()
        if task is None or not ends:
            yield
            return
        key = id(task)
        self._running[key] = _Running(id_, limits, task, time.monotonic())
        if self._watch is None:
            self._watch = asyncio.create_task(self._end_the_ended(), name="console: sessions that ended")
        try:
            yield
        finally:
            del self._running[key]

    async def _end_the_ended(self) -> None:
        """Look once a second at the sessions of requests that run for longer than that, as long as there are any."""
        try:
            while self._running:
                await asyncio.sleep(_LOOK_EVERY_S)
                before = time.monotonic() - _LOOK_EVERY_S
                long = [one for one in self._running.values() if one.since <= before]
                for id_ in {one.session for one in long}:
                    mine = [one for one in long if one.session == id_]
                    try:
                        if await self.kept.look(id_, mine[0].limits) is not None:
                            continue
                    except StoreUnavailable:
                        continue  # nobody can tell; what a stream shows comes from the same store
                    self._known.pop(id_, None)
                    for one in mine:
                        if self._running.get(id(one.task)) is one:
                            one.task.cancel()
        except Exception as error:  # the boundary of this task: the next request starts it again
            log.error("console: sessions are not watched: %s", type(error).__name__, exc_info=error)
        finally:
            self._watch = None

    async def close(self) -> None:
        """End the watch, with the process."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)


def new_opener() -> str:
    """Return what opens a new session: 256 bits."""
    return secrets.token_urlsafe(32)


def opener_of(request: web.Request) -> str | None:
    """Return what a request's cookie holds, None where it can open nothing."""
    value = request.cookies.get(COOKIE, "")
    return value if len(value) == _OPENER_CHARS and value.isascii() else None


def csrf_of(opener: str) -> str:
    """Return the token that the session's page sends back with everything that changes something."""
    digest = hmac.new(opener.encode(), b"csrf", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def hand_out(answer: web.Response, opener: str) -> None:
    """Give a browser its session; it forgets it when it is closed, and no page can read it."""
    answer.set_cookie(COOKIE, opener, path="/", secure=True, httponly=True, samesite="Strict")


def is_checked(session: Session) -> bool:
    """Tell whether a session's user gave their password, and code, lately."""
    return session.now_ms - session.checked_ms < CHECKED_S * 1000


def take_away(answer: web.Response) -> None:
    """Let a browser forget its session."""
    answer.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")


def _check_page(request: web.Request, opener: str, origins: tuple[str, ...]) -> None:
    """Refuse what does not come from the console's own page."""
    if request.method in _LOOKING:
        site = request.headers.get("Sec-Fetch-Site", "same-origin").lower()
        if site not in ("same-origin", "none"):
            raise RequestError("cross_site", "another site's page asked for this", status=403)
        return
    if not is_ours(request.headers, origins, must_say=True):
        raise RequestError(
            "cross_site", "another site's page asked for this (or console.origins lacks this one)", status=403
        )
    sent = request.headers.get(CSRF_HEADER, "").encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(sent, csrf_of(opener).encode()):
        raise RequestError("csrf", "the page's token is missing or of another session; load the page again", status=403)
    if request.can_read_body and request.content_type != "application/json":
        raise RequestError("unsupported_media_type", "application/json in UTF-8 is wanted", status=415)
