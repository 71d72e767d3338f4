"""Logs: planted numbers, codes, keys and passwords never come out; lines are limited, never blocking."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator

import orjson
import pydantic
import pytest

from gateway import logs
from gateway.model import Secret

NUMBER, CODE, KEY, PASSWORD = "8613800138000", "482913", "sg_live_k1_" + "a" * 43, "hunter2-smpp"
TEXT = f"【Acme】Your code is {CODE}"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level, sys.excepthook = handlers, level, hook
    logging.captureWarnings(False)
    logs._secrets.clear()
    logs._redactor.rebuild()


def written(style: str, emit, **options) -> str:
    stream = io.StringIO()
    logs.configure("api", "0", stream=stream, style=style, level="debug", **options)
    emit(logging.getLogger("gateway.tests"))
    logging.getLogger().handlers[0].close()
    return stream.getvalue()


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize(
    "text",
    [
        f"to {NUMBER}",
        f"to=+{NUMBER}",
        f"['{NUMBER}']",
        f"+86 138 0013 8000 and {NUMBER}",
        f"Authorization: Bearer {KEY}",
        f"key {KEY}",
        f"redis://user:{PASSWORD}@host:6379/0",
        f"password={PASSWORD}",
        f'{{"secret": "{PASSWORD}"}}',
        f"the SMSC said {PASSWORD}",
        f"webhook whsec_{PASSWORD}",
    ],
)
def test_planted_values_never_come_out(style: str, text: str) -> None:
    logs.protect([Secret(PASSWORD)])
    out = written(style, lambda log: log.warning("%s", text, extra={"fields": {"also": text}}))
    for planted in (NUMBER, NUMBER[2:], KEY, PASSWORD, "138 0013"):
        assert planted not in out
    assert "****" in out


@pytest.mark.parametrize("style", ["json", "console"])
def test_exceptions_show_the_place_but_not_what_they_quote(style: str) -> None:
    class Model(pydantic.BaseModel):
        at: int

    def emit(log: logging.Logger) -> None:
        for fail in (
            lambda: int(CODE + "x"),
            lambda: Model(at=TEXT),
            lambda: {}[TEXT],
            lambda: (_ for _ in ()).throw(RuntimeError(f"number {NUMBER}")),
        ):
            try:
                fail()
            except Exception:
                log.exception("failed")

    out = written(style, emit)
    for planted in (NUMBER, CODE, "Acme", "Your code"):
        assert planted not in out
    assert out.count("test_logs.py") >= 4
    assert "ValidationError" in out


def test_a_masked_number_keeps_country_and_last_digits() -> None:
    assert logs.redact(f"to {NUMBER}.") == "to +86138****8000."


@pytest.mark.parametrize(
    "text", ["0193b2c4-7a1f-7000-8abc-0123456789ab", "took 1234567 µs", "0x00000058", "a12345678b"]
)
def test_ids_and_small_numbers_stay(text: str) -> None:
    assert logs.redact(text) == text


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_value_cannot_forge_a_line_or_hide_text(style: str) -> None:
    nasty = "x\nERROR root: all is lost\x1b[31m\u202e\ud800"
    out = written(style, lambda log: log.info("sender %s", nasty))
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_json_lines_carry_the_fields() -> None:
    out = written("json", lambda log: log.info("channel up", extra={"fields": {"channel": "cm-a", "sessions": 2}}))
    line = orjson.loads(out)
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "info",
        "process": "api-0",
        "source": "tests",
        "event": "channel up",
        "channel": "cm-a",
        "sessions": 2,
    }


def test_console_lines_read_in_one_go() -> None:
    out = written("console", lambda log: log.info("channel up", extra={"fields": {"channel": "cm-a"}}))
    assert out.endswith("INFO    api-0 tests: channel up channel=cm-a\n")


def test_a_source_is_limited_and_says_what_was_dropped() -> None:
    now = [0.0]
    seen: list[tuple[str, str, int]] = []
    limit = logs.RateLimit(lambda *what: seen.append(what), clock=lambda: now[0])

    def record(level: int = logging.INFO, source: str = "gateway.smpp") -> bool:
        return limit.filter(logging.LogRecord(source, level, "", 0, "x", (), None))

    assert sum(record() for _ in range(200)) == logs.BURST
    assert record(logging.ERROR)  # errors have their own bucket
    assert record(source="gateway.api")
    now[0] = 0.1
    assert record()
    assert seen[-1] == ("info", "gateway.smpp", 150)
    assert not record()


def test_a_blocked_target_drops_lines_and_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_LINES", 10)
    monkeypatch.setattr(logs, "BURST", 1000.0)
    released = threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            released.wait(10)
            return super().write(text)

    stream = Blocked()
    logs.configure("api", stream=stream, style="json")
    for _ in range(100):
        logging.getLogger("gateway.tests").info("line")
    handler = logging.getLogger().handlers[0]
    assert handler.dropped >= 88
    released.set()
    handler.close()


def test_a_closed_target_is_survived() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    logs.configure("api", stream=stream, style="json")
    logging.getLogger("gateway.tests").info("line")
    logging.getLogger().handlers[0].close()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_record_with_wrong_arguments_stops_nobody() -> None:
    out = written("json", lambda log: log.info(*("%d %d", 1)))
    assert "cannot be formatted" in out


def test_level_and_style_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMSGW_LOG_LEVEL", "warning")
    monkeypatch.setenv("SMSGW_LOG_FORMAT", "console")
    stream = io.StringIO()
    logs.configure("api", stream=stream)
    logging.getLogger("gateway.tests").info("quiet")
    logging.getLogger("gateway.tests").warning("loud")
    logging.getLogger().handlers[0].close()
    assert stream.getvalue().endswith("WARNING api tests: loud\n")


def test_an_uncaught_exception_goes_through_the_same_redaction() -> None:
    def emit(log: logging.Logger) -> None:
        try:
            raise RuntimeError(f"number {NUMBER}")
        except RuntimeError as exc:
            sys.excepthook(RuntimeError, exc, exc.__traceback__)

    out = written("json", emit)
    assert NUMBER not in out
    assert "uncaught RuntimeError" in out
