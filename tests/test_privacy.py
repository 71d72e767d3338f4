"""What libraries and Python itself say in our logs, and what our own values show of themselves: no text, no number."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import logs
from gateway.model import MessageKind, NewMessage
from gateway.smpp.channel import Inbound, Outbound
from gateway.store import records

TEXT, NUMBER = "【Acme】验证码739164，请勿泄露", "8613871946205"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Logging as a worker has it, into a buffer; undone afterwards."""
    root, before = logging.getLogger(), (logging.root.handlers[:], logging.root.level)
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    handlers, root.handlers = root.handlers, []
    target = io.StringIO()
    logs.configure("api", "0", level="debug", style="json", stream=target)
    yield target
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.handlers = handlers
    root.setLevel(before[1])
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def written(stream: io.StringIO) -> str:
    for handler in logging.getLogger().handlers:
        handler.close()
    return stream.getvalue()


def silent(log: str) -> bool:
    return not any(word in log for word in ("739164", "验证码", "泄露", NUMBER, NUMBER[2:]))


async def test_a_task_nobody_asked_again(stream: io.StringIO) -> None:
    """asyncio names such a task by its exception."""

    async def fails() -> None:
        raise ValueError(TEXT)

    task = asyncio.create_task(fails())
    await asyncio.wait([task])
    task.get_loop().call_exception_handler({"message": "Task exception was never retrieved", "future": task})
    del task
    log = written(stream)
    assert "Task exception was never retrieved" in log
    assert silent(log)


def test_an_error_in_a_thread_and_one_in_a_finaliser(stream: io.StringIO) -> None:
    def fails() -> None:
        raise ValueError(f"invalid literal: '{TEXT}' for +{NUMBER}")

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()

    class Fails:
        def __del__(self) -> None:
            fails()

    one: Any = Fails()
    del one
    log = written(stream)
    assert "uncaught ValueError in a thread" in log
    assert "unraisable ValueError" in log
    assert silent(log)


def test_a_library_s_own_words(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").error("Error handling request %r", TEXT)
    logging.getLogger("py.warnings").warning("<stdin>:1: UserWarning: cannot parse '%s'", TEXT)
    logging.getLogger("gateway.x").info("to +%s", NUMBER)
    log = written(stream)
    assert log.count("\n") == 3
    assert silent(log)


def test_values_do_not_show_what_they_hold() -> None:
    kind = MessageKind("shop", 0, "cn", "", "1069", 1000)
    new = NewMessage(b"i" * 16, 0, kind, NUMBER, 1, records.pack_body("ucs2", records.pack_content(TEXT)), b"", b"")
    out = Outbound(NUMBER.encode(), "1069", TEXT, "ucs2", 0, 1.0)
    heard = Inbound("a", None, 1, NUMBER.encode(), b"1069", TEXT.encode(), {0x0424: TEXT.encode()}, 0, 8)  # type: ignore[arg-type]
    raw = bytes(18) + b"\0\0" + records.pack_rest(new, records.PackedKind(kind)) + b"q" + bytes(17) + b"--------"
    record = records.parse(b"i" * 16, raw)
    assert (record.msisdn, record.text) == (NUMBER, TEXT)
    for value in (new, out, heard, record):
        assert silent(repr(value)), type(value).__name__
        assert str(TEXT.encode())[2:30] not in repr(value)
