"""The one ear for what happens to single messages: what batches did goes from here to the log and to the traces.

Owns which of the two wants to hear of what. Refuses to know how lines and spans are made (`message_log`, `tracing`),
and never changes a message. One a process, like logging itself: the places that change messages say
`if journal.on: journal.settled(…)`, one line and a batch at a time, and nothing else is done where both are off.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from gateway import logs, tracing
from gateway.message_log import AREA, MessageLog, shown_code
from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, STATE_LABELS, Accepted, MessageKind, NewMessage, State, route_name
from gateway.settings import Settings
from gateway.store.moves import ReceiptRow
from gateway.store.records import Claimed

log = logging.getLogger(__name__)

on = False
"""Whether anybody listens at all."""
traced = False
"""Whether some messages have a trace."""

_log: MessageLog | None = None
_tracer: tracing.Tracer | None = None
_in_force: Settings | None = None

_SETTLED = {
    "s": "submitted", "p": "submitted_in_part", "P": "submitted_in_part", "r": "retried", "l": "retried",
    "n": "failed_over", "N": "failed_over", "u": "uncertain", "U": "uncertain", "F": "failed",
}  # fmt: skip
_HEAD = 22  # of a message that a script ended: id, state, category, parts, attempts, length of the rest


class Attempted(Protocol):
    """A claimed message and what came of it (`dispatch.flight.Flight`)."""

    message: Claimed
    channel: str
    status: int | None
    outcome: Any
    accepted: int


class Decided(Protocol):
    """What was decided about it (`dispatch.outcome.Decision`)."""

    verb: str
    reason: str
    delay_ms: int


def configure(settings: Settings, role: str, worker: str = "", metrics: Metrics | None = None) -> None:
    """Take `[log]` and `[tracing]` into use for this process; called again (a reload) it changes what has changed.

    The environment's SMSGW_LOG_LEVEL and SMSGW_LOG_FORMAT win over the file, so that one run can say more. Without
    `metrics` nothing is told of messages.
    """
    global on, traced, _log, _tracer, _in_force  # noqa: PLW0603 - one a process
    process = f"{role}-{worker}" if worker else role
    chosen, before = settings.log, _in_force
    _in_force = settings
    if before is None or before.log != chosen:
        logs.configure(
            role,
            worker,
            level=os.environ.get("SMSGW_LOG_LEVEL") or chosen.level,
            style=os.environ.get("SMSGW_LOG_FORMAT") or chosen.format,
            levels=chosen.levels,
            file=chosen.file,
            on_record=_counting(metrics) if metrics is not None else None,
            on_dropped=_counting_dropped(metrics) if metrics is not None else None,
        )
        _log = None
        if chosen.messages != "off" and metrics is not None and logs.enabled(AREA, logging.WARNING):
            share, per_s = chosen.messages_sample, chosen.messages_per_s
            _log = MessageLog(metrics, which=chosen.messages, sample=share, per_s=per_s)
    if metrics is not None and (before is None or before.tracing != settings.tracing):
        if _tracer is not None:
            _tracer.close(wait=False)
        _tracer = _new_tracer(settings, metrics, process)
    on, traced = _log is not None or _tracer is not None, _tracer is not None


def close() -> None:
    """Listen no more; spans that are queued are sent, for two seconds at most."""
    global on, traced, _log, _tracer, _in_force
    tracer, _log, _tracer, _in_force, on, traced = _tracer, None, None, None, False, False
    if tracer is not None:
        tracer.close()


def _new_tracer(settings: Settings, metrics: Metrics, process: str) -> tracing.Tracer | None:
    if not settings.tracing.sample:
        return None
    try:
        return tracing.Tracer(settings.tracing, metrics, process, _version())
    except ImportError:
        log.error('tracing is off: its packages are missing (pip install "smsgw[otel]")')
        return None


def _counting(metrics: Metrics) -> logs.OnRecord:
    def count(level: str, source: str, suppressed: int) -> None:
        metrics.counter("log_records_total", level=level).n += 1
        if suppressed:
            metrics.counter("log_suppressed_total", source=source).n += suppressed

    return count


def _counting_dropped(metrics: Metrics) -> Callable[[int], None]:
    cell = metrics.counter("log_suppressed_total", source="writer")

    def count(lines: int) -> None:
        cell.n += lines

    return count


def _version() -> str:
    try:
        return version("smsgw")
    except PackageNotFoundError:
        return "unknown"


# --- the api worker


def heard(traceparent: str | None) -> None:
    """A request begins: remember whose trace it belongs to."""
    tracing.caller.set(traceparent or "")


def accepted(prepared: Sequence[tuple[int, NewMessage, str, Any]], answers: Sequence[Any]) -> None:
    """The store has answered for a slice of a request; what it refused was never a message."""
    if _tracer is None and not (_log is not None and _log.all):
        _flush()
        return
    spoken: list[bytes] = []
    for (_, message, encoding, _), answer in zip(prepared, answers, strict=True):
        if answer.__class__ is not Accepted or answer.code != "accepted":
            continue
        sid, kind = answer.id, message.kind
        if _log is not None and _log.tells(sid):
            deferred = answer.deferred_to_ms or (kind.send_at_ms if kind.state != State.QUEUED else 0)
            word = STATE_LABELS[State.DEFERRED if answer.deferred_to_ms else kind.state]
            fields: dict[str, Any] = {"parts": message.parts, "encoding": encoding}
            if deferred:
                fields["due_in_ms"] = deferred - answer.accepted_at_ms
            _log.usual("accepted" if word == "queued" else word, sid, _dims(kind), kind.category, fields)
        if _tracer is not None and _tracer.samples(sid):
            spoken.append(sid)
            _tracer.accepted(
                sid,
                {
                    "smsgw.account": kind.account, "smsgw.category": CATEGORY_LABELS[kind.category],
                    "smsgw.route": route_name(kind.route), "smsgw.parts": message.parts, "smsgw.encoding": encoding,
                },
            )  # fmt: skip
    if spoken and _tracer is not None:
        _tracer.request(spoken)
    _flush()


@lru_cache(maxsize=1024)
def _dims(kind: MessageKind) -> bytes:
    return f"{kind.account}\x1f{kind.carrier}\x1f{kind.route}".encode()


def cancelled(sid: bytes, account: str, by: str = "application") -> None:
    """An application, or an operator, took a message back."""
    if _log is not None:
        _log.failed("cancelled", sid, f"{account}\x1f\x1f".encode(), None, {"by": by})
        _flush()


# --- the dispatch worker


def submitting(message: Claimed) -> None:
    """A claimed message was handed to its channel."""
    if _tracer is not None and _tracer.samples(message.id):
        _tracer.submitting(message.id, int.from_bytes(message.claim[16:22], "big"))


def settled(items: Iterable[tuple[Attempted, Decided]], answers: str) -> None:
    """Attempts were put on record; a letter an item says whether it counted (`lua/settle.lua`)."""
    now_ms = time.time_ns() // 1_000_000
    for (flight, decision), answer in zip(items, answers, strict=True):
        if answer == "0":
            continue
        verb, message = decision.verb, flight.message
        sid = message.id
        if _log is not None and (verb != "s" or _log.tells(sid)):
            fields: dict[str, Any] = {
                "channel": flight.channel,
                "attempt": message.attempt,
                "parts": message.parts,
                "wait_ms": max(0, now_ms - message.due_at_ms),
            }
            if answer == "l":
                fields["late"] = True
            if verb == "s":
                _log.usual("submitted", sid, message.dims, message.category, fields)
            else:
                if flight.status:
                    fields["code"] = f"0x{flight.status:08X}"
                if verb in "pP":
                    fields["accepted_parts"] = (flight.accepted | message.accepted).bit_count()
                if decision.delay_ms and verb not in "uU":
                    fields["again_in_ms"] = decision.delay_ms
                fields["reason"] = decision.reason or flight.outcome.value
                _log.failed(_SETTLED[verb], sid, message.dims, message.category, fields)
        if _tracer is not None and _tracer.samples(sid):
            attributes = {"smsgw.channel": flight.channel, "smsgw.outcome": flight.outcome.value}
            if flight.status is not None:
                attributes["smsgw.command_status"] = f"0x{flight.status:08X}"
            if decision.reason:
                attributes["smsgw.reason"] = decision.reason
            _tracer.settled(sid, message.attempt, attributes, error=verb not in "spP")
    _flush()


# --- what the store's scripts say


class Watcher:
    """Hears from the store of messages that it changed without anybody naming them (`store.base.Watcher`)."""

    @property
    def receipts_wanted(self) -> str:
        if _tracer is not None or (_log is not None and _log.all):
            return "n"
        return "f" if _log is not None else ""

    def receipts(self, rows: Sequence[ReceiptRow], letters: bytes, names: Sequence[bytes]) -> None:
        for (channel, _, _, said, reason, code, _, _), letter, name in zip(rows, letters.decode(), names, strict=True):
            if name:
                _receipt(name, letter, channel, said, reason, code)
        _flush()

    def ends(self, named: bytes) -> None:
        at = 0
        while _log is not None and at < len(named):
            sid, state, rest_at = named[at : at + 16], chr(named[at + 16]), at + _HEAD
            category, parts, attempts = named[at + 17 : at + 20]
            at = rest_at + int.from_bytes(named[rest_at - 2 : rest_at], "big")
            dims, channel, reason, code = named[rest_at:at].rsplit(b"\x1f", 3)
            fields = _about(channel.decode(), attempts, parts, reason.decode(), code.decode())
            word, fields["by"] = STATE_LABELS[state], "gateway"
            if state != State.DELIVERED:
                _log.failed(word, sid, dims, category, fields)
            elif _log.tells(sid):
                _log.usual(word, sid, dims, category, fields)
        _flush()


_RECEIPTS = {"c": "corrected", "r": "redelivery_asked", "p": "part_receipt"}


def _about(channel: str, attempt: int, parts: int, reason: str, code: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"attempt": attempt, "parts": parts}
    if channel:
        fields["channel"] = channel
    if reason:
        fields["reason"] = reason
    if code:
        fields["code"] = shown_code(code)
    return fields


def _receipt(name: bytes, letter: str, channel: str, said: str, reason: str, code: str) -> None:
    sid, state, dims = name[:16], chr(name[16]), name[20:]
    category, parts, attempt = name[17:20]
    if _log is not None:
        word = _RECEIPTS.get(letter) or STATE_LABELS[state]
        well = letter in "fp" and said == State.DELIVERED and (letter == "p" or state == State.DELIVERED)
        if not well or _log.tells(sid):
            fields = _about(channel, attempt, parts, reason, code)
            fields["by"] = "receipt"
            if letter != "f":
                fields["said"] = STATE_LABELS[said]
            (_log.usual if well else _log.failed)(word, sid, dims, category, fields)
    if _tracer is not None and letter in "fpcr" and _tracer.samples(sid):
        attributes = {"smsgw.channel": channel, "smsgw.said": STATE_LABELS[said]}
        if letter in "fc":
            attributes["smsgw.state"] = STATE_LABELS[state]
        if reason:
            attributes["smsgw.reason"] = reason
        if code:
            attributes["smsgw.code"] = shown_code(code)
        _tracer.receipt(sid, attempt, attributes, error=said != State.DELIVERED)


# --- the events worker


def told(account: str, events: Iterable[tuple[bytes, str, int]]) -> None:
    """An application's webhook took events: of which message (b"" of none), their type, and at which attempt."""
    if _log is not None and _log.all:
        for sid, what, attempt in events:
            if sid and _log.tells(sid):
                dims = f"{account}\x1f\x1f".encode()
                _log.usual("webhook_delivered", sid, dims, None, {"type": what, "attempt": attempt})
        _flush()


def untold(account: str, sid: bytes, what: str, attempt: int, reason: str) -> None:
    """An event about a message is a dead letter now."""
    if _log is not None and sid:
        dims = f"{account}\x1f\x1f".encode()
        _log.failed("webhook_dead", sid, dims, None, {"type": what, "attempt": attempt, "reason": reason})
        _flush()


def _flush() -> None:
    if _log is not None:
        _log.flush()
