"""Spans of a sample of the messages, for an OpenTelemetry collector: accept, claim, submit, receipt.

Owns which messages are sampled, the ids of traces and spans, their attributes, and the queue to the collector. Refuses
to know who changed a message (`journal`). A message's trace has the message's id, and a span's id is made of it, the
step and the attempt, so that processes agree without telling each other. Stands beside the path: spans are handed to
a thread; what the collector does not take is dropped and counted. Needs the extra `smsgw[otel]`, imported here alone
and only where something is sampled.
"""

# ruff: noqa: PLC0415 - the extra is imported when it is wanted; without it nothing here runs

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from gateway.message_log import chosen
from gateway.metrics import Metrics
from gateway.settings import TracingSettings

log = logging.getLogger(__name__)

QUEUE_SPANS: Final = 4096
BATCH_SPANS: Final = 512
PAUSE_S: Final = 0.5
EXPORT_TIMEOUT_S: Final = 5.0
WARN_EVERY_S: Final = 60.0
OPEN_MOST: Final = 10_000
"""Attempts under way whose times are kept; the oldest are forgotten beyond that."""
ACCEPT, CLAIM, SUBMIT, RECEIPT = "accept", "claim", "submit", "receipt"
_MS: Final = 1_000_000

caller: ContextVar[str] = ContextVar("traceparent", default="")
"""The `traceparent` header of the request that is being served (W3C Trace Context, level 1)."""
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

Export = Callable[[list[Any]], bool]


class Tracer:
    """The spans of one process."""

    def __init__(self, settings: TracingSettings, metrics: Metrics, process: str, version: str) -> None:
        """Raises ImportError where the extra is not installed."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

        self._settings = settings
        self._span, self._link, self._context = ReadableSpan, Link, SpanContext
        self._kinds = {ACCEPT: SpanKind.SERVER, SUBMIT: SpanKind.CLIENT, RECEIPT: SpanKind.CONSUMER}
        self._internal, self._sampled_flag = SpanKind.INTERNAL, TraceFlags(TraceFlags.SAMPLED)
        self._error, self._status = Status(StatusCode.ERROR), Status()
        self._scope = InstrumentationScope("smsgw", version)
        self._resource = Resource(
            {"service.name": settings.service_name, "service.instance.id": process, "service.version": version}
        )
        self._open: dict[bytes, tuple[int, int]] = {}
        self._queue = _Queue(self._exporter(), metrics)

    def _exporter(self) -> Any:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        # What the exporter says quotes addresses and answers; what matters is counted and said here.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        headers = {name: value.reveal() for name, value in self._settings.headers}
        return OTLPSpanExporter(endpoint=self._settings.endpoint, headers=headers, timeout=EXPORT_TIMEOUT_S)

    def close(self, *, wait: bool = True) -> None:
        """Send what is queued; wait for that, for two seconds at most."""
        self._queue.close(wait=wait)

    def samples(self, sid: bytes) -> bool:
        """Whether a message has a trace."""
        return chosen(sid, self._settings.sample)

    # --- the steps of a message

    def accepted(self, sid: bytes, attributes: Mapping[str, Any]) -> None:
        """A message is stored; its id bears the time at which it was made."""
        end = time.time_ns()
        start = min(end, int.from_bytes(sid[:6], "big") * _MS)
        theirs = self._caller()
        links = [self._link(theirs)] if theirs is not None else []
        self._add(sid, ACCEPT, 0, None, start, end, attributes, links=links)

    def request(self, sids: list[bytes]) -> None:
        """Put one span of a request into its caller's trace, with links to the messages it brought ("join")."""
        theirs = self._caller()
        if theirs is None or self._settings.traceparent != "join" or not theirs.trace_flags.sampled or not sids:
            return
        end = time.time_ns()
        start = min(end, int.from_bytes(sids[0][:6], "big") * _MS)
        mine = self._context(theirs.trace_id, _span_id(sids[0], "request", 0), False, self._sampled_flag)
        self._queue.put(
            self._span(
                "smsgw request",
                mine,
                theirs,
                self._resource,
                {"smsgw.messages": len(sids)},
                (),
                [self._link(self._of(sid, ACCEPT, 0)) for sid in sids[:128]],
                self._kinds[ACCEPT],
                None,
                self._status,
                start,
                end,
                self._scope,
            )
        )

    def submitting(self, sid: bytes, queued_at_ms: int) -> None:
        """A message that stood in its queue since then was claimed and goes to the carrier now."""
        now = time.time_ns()
        if len(self._open) >= OPEN_MOST:
            del self._open[next(iter(self._open))]
        self._open[sid] = (min(now, queued_at_ms * _MS), now)

    def settled(self, sid: bytes, attempt: int, attributes: Mapping[str, Any], *, error: bool) -> None:
        """An attempt has its answer, or will have none."""
        end = time.time_ns()
        queued, sent = self._open.pop(sid, (end, end))
        self._add(sid, CLAIM, attempt, (ACCEPT, 0), queued, sent, {})
        self._add(sid, SUBMIT, attempt, (CLAIM, attempt), sent, end, attributes, error=error)

    def receipt(self, sid: bytes, attempt: int, attributes: Mapping[str, Any], *, error: bool) -> None:
        """A receipt of an attempt is on record."""
        now = time.time_ns()
        salt = f"{now}"  # several parts have several receipts
        self._add(sid, RECEIPT, attempt, (SUBMIT, attempt), now, now, attributes, error=error, salt=salt)

    # --- spans

    def _caller(self) -> Any:
        found = _TRACEPARENT.fullmatch(caller.get()) if self._settings.traceparent != "ignore" else None
        if found is None:
            return None
        from opentelemetry.trace import TraceFlags

        return self._context(int(found[1], 16), int(found[2], 16), True, TraceFlags(int(found[3], 16)))

    def _of(self, sid: bytes, step: str, attempt: int, salt: str = "") -> Any:
        trace = int.from_bytes(sid, "big")
        return self._context(trace, _span_id(sid, step, attempt, salt), False, self._sampled_flag)

    def _add(
        self,
        sid: bytes,
        step: str,
        attempt: int,
        parent: tuple[str, int] | None,
        start: int,
        end: int,
        attributes: Mapping[str, Any],
        *,
        error: bool = False,
        links: list[Any] | None = None,
        salt: str = "",
    ) -> None:
        if attempt:
            attributes = {"smsgw.attempt": attempt, **attributes}
        self._queue.put(
            self._span(
                step,
                self._of(sid, step, attempt, salt),
                self._of(sid, *parent) if parent else None,
                self._resource,
                attributes,
                (),
                links or [],
                self._kinds.get(step, self._internal),
                None,
                self._error if error else self._status,
                start,
                end,
                self._scope,
            )
        )


def _span_id(sid: bytes, step: str, attempt: int, salt: str = "") -> int:
    digest = hashlib.blake2b(sid + f"{step}\0{attempt}\0{salt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


class _Queue:
    """Spans on their way to the collector: a bounded queue and one thread, which alone waits for the collector."""

    def __init__(self, exporter: Any, metrics: Metrics) -> None:
        self._exporter = exporter
        self._spans: queue.Queue[Any] = queue.Queue(QUEUE_SPANS)
        self._cells = {w: metrics.counter("trace_spans_total", result=w) for w in ("exported", "failed", "dropped")}
        self._closing = threading.Event()
        self._warned = -WARN_EVERY_S
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, span: Any) -> None:
        try:
            self._spans.put_nowait(span)
        except queue.Full:
            self._cells["dropped"].n += 1

    def close(self, *, wait: bool) -> None:
        self._closing.set()
        if wait:
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        ending = False
        while not ending:
            ending = self._closing.wait(PAUSE_S)
            while batch := self._batch():
                self._send(batch)
        with contextlib.suppress(Exception):  # theirs, at the end of ours
            self._exporter.shutdown()

    def _batch(self) -> list[Any]:
        batch: list[Any] = []
        with contextlib.suppress(queue.Empty):
            while len(batch) < BATCH_SPANS:
                batch.append(self._spans.get_nowait())
        return batch

    def _send(self, batch: list[Any]) -> None:
        why = "refused"
        try:
            done = self._exporter.export(batch).name == "SUCCESS"
        except Exception as exc:  # the boundary of this thread: whatever a collector or the exporter does
            done, why = False, type(exc).__name__
        self._cells["exported" if done else "failed"].n += len(batch)
        now = time.monotonic()
        if not done and now - self._warned >= WARN_EVERY_S:
            self._warned = now
            log.warning("the collector of traces took nothing (%s); spans are dropped until it does", why)
