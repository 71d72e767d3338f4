"""Logging: one structured line a record, redacted, limited by source, written off the path.

Owns the formatters, the redaction of everything that must not be shown (numbers, keys, passwords, texts), the
rate limit, the file and the writer thread. Refuses to know what happened: modules use `logging.getLogger(__name__)`
and fields by `extra={"fields": {...}}` or `%s`; what is said of single messages comes in batches (`write_rows`).
Stands beside the path: a blocked or full target blocks no worker, and what it did not take is counted.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol

import orjson

from gateway.model import mask_msisdn

LINES_PER_S: Final = 10.0
BURST: Final = 50.0
QUEUE_LINES: Final = 2000
MAX_LINE_CHARS: Final = 8000
PIECE_CHARS: Final = 4000
"""Most that is written at once of several lines: processes share a pipe, which keeps 4,096 bytes together (pipe(7))."""
LOOK_EVERY_S: Final = 0.5
FILE_MODE: Final = 0o640

OnRecord = Callable[[str, str, int], None]
"""Told (level name, source, lines suppressed before this one) for each record; `app` counts it."""


def configure(
    role: str,
    worker: str = "",
    *,
    level: str | None = None,
    style: str | None = None,
    stream: IO[str] | None = None,
    file: Path | None = None,
    levels: Iterable[tuple[str, str]] = (),
    on_record: OnRecord | None = None,
    on_dropped: Callable[[int], None] | None = None,
) -> None:
    """Send every logger of this process through redaction and limits to `file`, else to `stream` (standard error).

    `style` is `json`, `console` or `auto` (console on a terminal, else json); the environment's SMSGW_LOG_LEVEL and
    SMSGW_LOG_FORMAT stand behind the arguments. `levels` are (area, level) for parts of the gateway, as
    ("smpp", "debug"). `on_dropped` hears of lines that the target did not take. Calling it again replaces the set-up.
    A file that cannot be opened is said on the stream, which takes its place.
    """
    global _writer  # noqa: PLW0603 - one a process, like logging's own root
    stream = stream or sys.stderr
    level = (level or os.environ.get("SMSGW_LOG_LEVEL") or "info").upper()
    style = style or os.environ.get("SMSGW_LOG_FORMAT") or "auto"
    target: _Target = _Stream(stream)
    refused = ""
    if file is not None:
        try:
            target = _File(file)
        except OSError as exc:
            refused = exc.strerror or type(exc).__name__
    if style not in ("json", "console"):
        style = "console" if isinstance(target, _Stream) and stream.isatty() else "json"
    name = f"{role}-{worker}" if worker else role
    handler = _writer = _Writer(target, name, on_dropped)
    handler.setFormatter(JsonFormatter(name) if style == "json" else ConsoleFormatter(name))
    handler.addFilter(RateLimit(on_record))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level if level in logging.getLevelNamesMapping() else "INFO")
    _set_areas(dict(levels))
    logging.captureWarnings(True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)  # a path holds ids, a query a number
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable
    if refused:
        logging.getLogger("gateway.logs").error(
            "log.file cannot be opened (%s): standard error takes its place", refused
        )


def protect(secrets: Iterable[str]) -> None:
    """Mask these strings wherever they appear (configured passwords, tokens; at least four characters)."""
    for secret in secrets:
        if len(plain := str.__str__(secret)) >= 4:
            _secrets.add(plain)
    _redactor.rebuild()


def reopen() -> None:
    """Open the log's file anew at the next line (it is looked at each half second anyway)."""
    if _writer is not None:
        _writer.target.reopen()


def enabled(area: str, level: int) -> bool:
    """Tell whether an area's lines of a level are written."""
    return logging.getLogger(f"gateway.{area}").isEnabledFor(level)


class Shared:
    """Fields that many rows have in common, rendered once."""

    __slots__ = ("console", "json")

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.json = orjson.dumps(dict(fields))[1:-1].decode()
        self.console = "".join(f" {name}={value}" for name, value in fields.items())


Row = tuple[int, str, str, Shared, dict[str, Any]]
"""A line that is made in bulk: level, event, id, shared fields (one at least), and its own."""


def write_rows(area: str, rows: Sequence[Row]) -> None:
    """Write lines made in bulk, all of one moment. They pass no rate limit: whoever calls has one.

    The values are ids, configured names and words of ours, written as they stand.
    """
    if _writer is not None:
        _writer.emit_rows(area, rows)


_writer: _Writer | None = None
_areas: set[str] = set()


def _set_areas(levels: Mapping[str, str]) -> None:
    for area in _areas - levels.keys():
        logging.getLogger(f"gateway.{area}").setLevel(logging.NOTSET)
    for area, level in levels.items():
        logging.getLogger(f"gateway.{area}").setLevel(level.upper())
    _areas.clear()
    _areas.update(levels)


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


class _Target(Protocol):
    def write(self, text: str) -> None: ...
    def flush(self) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class _Stream:
    """Standard error, or what a test gives; not ours to close."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class _File:
    """A file that several processes append to; made anew when it was moved or removed (logrotate needs no script)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = self._opened()
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._cut = False  # the disk was full in the middle of a line

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)

    def write(self, text: str) -> None:
        if time.monotonic() >= self._look_at:
            self._follow()
        octets = text.encode("utf-8", "replace")
        if self._cut:
            octets = b"\n" + octets
        written = os.write(self._fd, octets)
        self._cut = written < len(octets)
        if self._cut:
            raise OSError("the disk is full")

    def _follow(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self._path)
        except OSError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            fd = self._opened()
            os.close(self._fd)
            self._fd, self._cut = fd, False

    def flush(self) -> None:
        pass

    def reopen(self) -> None:
        self._look_at = 0.0

    def close(self) -> None:
        os.close(self._fd)


class _Writer(logging.Handler):
    """Hands lines to one thread that writes them; when the target blocks and the queue is full, they drop."""

    def __init__(self, target: _Target, process: str, on_dropped: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.target = target
        self._process = process
        self._on_dropped = on_dropped
        self._closing = False
        self._lines: queue.Queue[tuple[str, int] | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()
        self.dropped = 0
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as exc:  # wrong arguments in a record must not stop the one who logs
            line = f"record of {record.name}:{record.lineno} cannot be formatted ({type(exc).__name__})"
        self._put(line + "\n", 1)

    def emit_rows(self, area: str, rows: Sequence[Row]) -> None:
        """Format rows as the others are, and queue them in pieces."""
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        head, render = (_json_head, _json_row) if isinstance(self.formatter, JsonFormatter) else (_head, _row)
        heads = {level: head(at, level, self._process, area) for level in {row[0] for row in rows}}
        piece: list[str] = []
        size = 0
        for level, event, name, shared, fields in rows:
            line = heads[level] + render(event, name, shared, fields)
            if size + len(line) > PIECE_CHARS and piece:
                self._put("".join(piece), len(piece))
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        if piece:
            self._put("".join(piece), len(piece))

    def _put(self, text: str, lines: int) -> None:
        try:
            self._lines.put_nowait((text, lines))
        except queue.Full:
            self._lost(lines)

    def _lost(self, lines: int) -> None:
        self.dropped += lines
        if self._on_dropped is not None:
            self._on_dropped(lines)

    def _write(self) -> None:
        while not (self._closing and self._lines.empty()) and (piece := self._lines.get()) is not None:
            try:
                self.target.write(piece[0])
                if self._lines.empty():
                    self.target.flush()
            except (OSError, ValueError):  # the target is full or closed
                self._lost(piece[1])
        with contextlib.suppress(OSError):
            self.target.close()

    def close(self) -> None:
        """Write what is queued, for at most a second; a blocked target must not hold the process' end."""
        atexit.unregister(self.close)
        if self._thread.is_alive():
            self._closing = True
            with contextlib.suppress(queue.Full):  # then it is busy, and sees by itself that it is to end
                self._lines.put_nowait(None)
            self._thread.join(timeout=1.0)
        super().close()


def _json_head(at: str, level: int, process: str, area: str) -> str:
    name = logging.getLevelName(level).lower()
    return f'{{"at":"{at}","level":"{name}","process":"{process}","source":"{area}","event":"'


def _json_row(event: str, name: str, shared: Shared, fields: dict[str, Any]) -> str:
    rest = "," + orjson.dumps(fields)[1:].decode() if fields else "}"
    return f'{event}","id":"{name}",{shared.json}{rest}\n'


def _head(at: str, level: int, process: str, area: str) -> str:
    return f"{at} {logging.getLevelName(level):<7} {process} {area}: "


def _row(event: str, name: str, shared: Shared, fields: dict[str, Any]) -> str:
    rest = "".join([f" {key}={value}" for key, value in fields.items()])
    return f"{event} id={name}{shared.console}{rest}\n"


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
