"""Logging: one structured line a record, redacted, limited by source, written off the path.

Owns the formatters, the redaction of everything that must not be shown (numbers, keys, passwords, texts), the
rate limit and the writer thread. Refuses to know what happened: modules use `logging.getLogger(__name__)` and
fields by `extra={"fields": {...}}` or `%s`. Stands beside the path: a blocked target blocks no worker.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import IO, Any, Final

import orjson

from gateway.model import mask_msisdn

LINES_PER_S: Final = 10.0
BURST: Final = 50.0
QUEUE_LINES: Final = 2000
MAX_LINE_CHARS: Final = 8000

OnRecord = Callable[[str, str, int], None]
"""Told (level name, source, lines suppressed before this one) for each record; `app` counts it."""


def configure(
    role: str,
    worker: str = "",
    *,
    level: str | None = None,
    style: str | None = None,
    stream: IO[str] | None = None,
    on_record: OnRecord | None = None,
) -> None:
    """Send every logger of this process through redaction and limits to `stream` (standard error).

    `style` is `json` or `console` (default: console on a terminal, else json); the environment's
    SMSGW_LOG_LEVEL and SMSGW_LOG_FORMAT stand behind the arguments. Calling it again replaces the set-up.
    """
    stream = stream or sys.stderr
    level = (level or os.environ.get("SMSGW_LOG_LEVEL") or "info").upper()
    style = style or os.environ.get("SMSGW_LOG_FORMAT") or ("console" if stream.isatty() else "json")
    name = f"{role}-{worker}" if worker else role
    handler = _Writer(stream)
    handler.setFormatter(JsonFormatter(name) if style == "json" else ConsoleFormatter(name))
    handler.addFilter(RateLimit(on_record))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level if level in logging.getLevelNamesMapping() else "INFO")
    logging.captureWarnings(True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)  # a path holds ids, a query a number
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def protect(secrets: Iterable[str]) -> None:
    """Mask these strings wherever they appear (configured passwords, tokens; at least four characters)."""
    for secret in secrets:
        if len(plain := str.__str__(secret)) >= 4:
            _secrets.add(plain)
    _redactor.rebuild()


# --- redaction

_secrets: set[str] = set()

# A run of 8 to 15 digits may be an MSISDN (E.164: at most 15), alone or in the middle of punctuation. Runs
# inside words (hex ids) are left; an SMSC's long decimal id may be masked too, which costs little.
_NUMBER = re.compile(r"(?<![0-9A-Za-z])\+?[0-9]{8,15}(?![0-9A-Za-z])")
_SPACED_NUMBER = re.compile(r"\+[0-9][0-9 ()-]{6,20}[0-9]")
_KEYS = re.compile(
    r"(?P<name>\bsg_(?:live|test)_)\w[\w-]*"
    r"|(?P<bearer>\b(?:Bearer|Basic) )\s*[\w.~+/=-]+"
    r"|(?P<url>\b[a-z][a-z0-9+.-]*://)[^/\s@]+@"
    r"|(?P<whsec>\bwhsec_)[\w+/=-]+"
    r"|(?P<field>\b(?:password|passwd|secret|token|api_key|authorization)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;)}]+",
    re.IGNORECASE,
)
# Control characters would forge lines or colours, bidirectional ones (U+202A-202E, U+2066-2069) hide text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# What a foreign exception quotes may be a text or a code: pydantic's input, "invalid literal ... '482913'".
_PYDANTIC_INPUT = re.compile(r"input_value=.*?(?=, input_type=|\]|$)", re.DOTALL)
# Or it stands there without quotes: digits as codes have them, and letters that no message of a library is made of.
_UNQUOTED = re.compile(r"(?<![0-9A-Za-z_.])[0-9]{4,}(?![0-9A-Za-z_])|[^\x00-\x7f]+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class _Redactor:
    def __init__(self) -> None:
        self._known: re.Pattern[str] | None = None

    def rebuild(self) -> None:
        longest_first = sorted(_secrets, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, value: str) -> str:
        if self._known is not None:
            value = self._known.sub("****", value)
        value = _KEYS.sub(lambda m: (m[m.lastgroup] if m.lastgroup else "") + "****", value)
        value = _SPACED_NUMBER.sub(lambda m: mask_msisdn(re.sub(r"\D", "", m[0])), value)
        return _NUMBER.sub(lambda m: mask_msisdn(m[0]), value)


_redactor = _Redactor()


def redact(value: str) -> str:
    """Return `value` as a log may show it: numbers, keys, secrets masked, control characters escaped."""
    return _CONTROL.sub(_escaped, _redactor.text(value))


def _escaped(match: re.Match[str]) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(match[0], f"\\u{ord(match[0]):04x}")


def redact_foreign(value: str) -> str:
    """Return what a library says as a log may show it: besides `redact`, nothing of what it quotes.

    asyncio names a task by its exception, and warnings by the line they stand on: both may hold a text or a code.
    """
    return redact(_QUOTED.sub(_mask_quoted, _PYDANTIC_INPUT.sub("input_value=****", value)))


def redact_exception(
    kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
) -> list[str]:
    """Return a traceback's lines without what the messages quote; places in the code stay."""
    if exc is None or kind is None:
        return []
    lines = []
    for block in traceback.TracebackException(kind, exc, trace, limit=-20).format():
        line = block
        if not block.startswith("  File "):
            line = _QUOTED.sub(_mask_quoted, _PYDANTIC_INPUT.sub("input_value=****", block))
            if not isinstance(exc, OSError):  # theirs names ports
                line = _UNQUOTED.sub("****", line)
        lines += [redact(part) for part in line.rstrip("\n").split("\n")]
    return lines


def _mask_quoted(match: re.Match[str]) -> str:
    """Keep short plain words (a key, a field's name); mask what holds digits, spaces or other scripts."""
    quoted = match[0][1:-1]
    plain = quoted.isascii() and not any(c.isdigit() or c.isspace() for c in quoted) and len(quoted) <= 64
    return match[0] if plain else match[0][0] + "****" + match[0][0]


# --- formatters


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, process, source, event, fields, and error for an exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _time(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "source": record.name.removeprefix("gateway."),
            "event": _event(record),
        }
        for name, value in _fields(record).items():
            line.setdefault(str(name), value)
        if record.exc_info:
            line["error"] = redact_exception(*record.exc_info)
        return orjson.dumps(line, default=str).decode()


class ConsoleFormatter(logging.Formatter):
    """A line for people: time, level, process, source, event, name=value; a traceback indented below."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        source = record.name.removeprefix("gateway.")
        event = _event(record)
        line = f"{_time(record)} {record.levelname:<7} {self._process} {source}: {event}{fields}"
        if record.exc_info:
            line += "".join(f"\n    {part}" for part in redact_exception(*record.exc_info))
        return line


def _event(record: logging.LogRecord) -> str:
    ours = record.name.partition(".")[0] in ("gateway", "root")
    return (redact if ours else redact_foreign)(record.getMessage())[:MAX_LINE_CHARS]


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = dict(getattr(record, "fields", None) or {})
    if suppressed := getattr(record, "suppressed", 0):
        fields["suppressed"] = suppressed
    plain = (int, float, bool, type(None))
    return {k: v if isinstance(v, plain) else redact(str(v))[:MAX_LINE_CHARS] for k, v in fields.items()}


def _time(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


# --- limits and writing


class RateLimit(logging.Filter):
    """At most LINES_PER_S lines a source in the long run, BURST at once; errors have a bucket of their own.

    The first line that passes again says how many were dropped (`suppressed`).
    """

    def __init__(self, on_record: OnRecord | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._on_record = on_record
        self._clock = clock
        self._buckets: dict[tuple[str, bool], list[float]] = {}  # tokens, last time, dropped

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault((record.name, record.levelno >= logging.ERROR), [BURST, now, 0])
        bucket[0] = min(BURST, bucket[0] + (now - bucket[1]) * LINES_PER_S)
        bucket[1] = now
        if bucket[0] < 1:
            bucket[2] += 1
            return False
        bucket[0] -= 1
        suppressed, bucket[2] = int(bucket[2]), 0
        record.__dict__["suppressed"] = suppressed
        if self._on_record is not None:
            self._on_record(record.levelname.lower(), record.name, suppressed)
        return True


class _Writer(logging.Handler):
    """Hands lines to one thread that writes them; when the target blocks and the queue is full, they drop."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()
        self.dropped = 0
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as exc:  # wrong arguments in a record must not stop the one who logs
            line = f"record of {record.name}:{record.lineno} cannot be formatted ({type(exc).__name__})"
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):  # the target is full or closed
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()

    def close(self) -> None:
        """Write what is queued, for at most a second; a blocked target must not hold the process' end."""
        atexit.unregister(self.close)
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(None)
            self._thread.join(timeout=1.0)
        super().close()


def _log_uncaught(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("gateway").critical("uncaught %s", kind.__name__, exc_info=(kind, exc, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        what = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger("gateway").error("uncaught %s in a thread", args.exc_type.__name__, exc_info=what)


def _log_unraisable(args: sys.UnraisableHookArgs) -> None:
    # Python's own hook prints the object it happened in, and that may be a message.
    if args.exc_value is not None:
        what = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger("gateway").error("unraisable %s", args.exc_type.__name__, exc_info=what)
