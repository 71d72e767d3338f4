"""Records of single messages: which are written, within which budget, by which sample; and what stays unsaid."""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway import journal, logs, message_log, tracing
from gateway.message_log import MessageLog, chosen, shown_code
from gateway.metrics import Metrics
from gateway.model import Secret
from gateway.settings import LogSettings, Settings, TracingSettings
from gateway.store.keys import new_id
from tests.support.collector import Collector
from tests.support.until import until

DIMS = b"shop\x1fchina-mobile\x1fcn~ab12\x1f\x1fa campaign 13871946205\x1f"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    journal.close()
    logs.configure("tests", stream=io.StringIO(), style="json")
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


def metrics() -> Metrics:
    return Metrics("dispatch", "0")


def suppressed(of: Metrics, source: str = "messages") -> float:
    return of.counter("log_suppressed_total", source=source).n


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    logging.getLogger().handlers[0].close()
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_record_has_ids_and_configured_names_and_no_word_of_an_application(style: str) -> None:
    stream = io.StringIO()
    logs.configure("dispatch", "0", stream=stream, style=style)
    told = MessageLog(metrics(), which="all", sample=1.0, per_s=0)
    sid = new_id(0)
    told.usual("submitted", sid, DIMS, 0, {"channel": "cm-a", "attempt": 1, "parts": 2})
    told.failed("failed", sid, DIMS, None, {})
    told.flush()
    logging.getLogger().handlers[0].close()
    first, second = stream.getvalue().splitlines()
    assert "campaign" not in stream.getvalue()
    assert "13871946205" not in stream.getvalue()
    if style == "console":
        assert " INFO    dispatch-0 messages: submitted id=" in first
        assert first.endswith("account=shop category=verification route=cn carrier=china-mobile "
                              "channel=cm-a attempt=1 parts=2")  # fmt: skip
        assert " WARNING dispatch-0 messages: failed id=" in second
        return
    found = orjson.loads(first)
    assert len(found.pop("id")) == 36
    assert found.pop("at").endswith("Z")
    assert found == {
        "level": "info", "process": "dispatch-0", "source": "messages", "event": "submitted", "account": "shop",
        "route": "cn", "carrier": "china-mobile", "category": "verification", "channel": "cm-a",
        "attempt": 1, "parts": 2,
    }  # fmt: skip
    assert orjson.loads(second)["level"] == "warning"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("0x0000000B", "0x0000000B"),
        ("MK:0010", "MK:0010"),
        ("001", "001"),
        ("13871946205", "****"),
        ("to 13871946205", "****"),
        ("x739164", "****"),
        ("退订", "****"),
        ("0x13871946205", "****"),
        ("a" * 21, "****"),
    ],
)
def test_a_carriers_code_is_shown_only_where_it_can_be_one(code: str, shown: str) -> None:
    assert shown_code(code) == shown


def test_a_second_has_its_budget_and_a_quarter_of_it_is_for_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(message_log.time, "monotonic", lambda: now[0])
    stream, counts = io.StringIO(), metrics()
    logs.configure("dispatch", "0", stream=stream, style="json")
    told = MessageLog(counts, which="all", sample=1.0, per_s=100)
    told.flush()
    for sid in (new_id(0) for _ in range(200)):
        if told.tells(sid):
            told.usual("submitted", sid, DIMS, 0, {})
    for _ in range(200):
        told.failed("failed", new_id(0), DIMS, 0, {})
    assert suppressed(counts) == 125 + 175
    told.flush()
    told.failed("failed", new_id(0), DIMS, 0, {})  # still the same second
    assert suppressed(counts) == 301
    now[0] = 101.0
    told.flush()
    told.failed("failed", new_id(0), DIMS, 0, {})
    told.flush()
    assert counts.counter("message_records_total").n == 101
    events = [line["event"] for line in lines(stream)]
    assert (events.count("submitted"), events.count("failed")) == (75, 26)


def test_all_processes_choose_the_same_share_by_id() -> None:
    ids = [new_id(0) for _ in range(20_000)]
    picked = {sid for sid in ids if chosen(sid, 0.1)}
    assert 1700 < len(picked) < 2300
    assert picked < {sid for sid in ids if chosen(sid, 0.2)}  # a greater share holds the smaller one
    assert not any(chosen(sid, 0.0) for sid in ids)
    assert all(chosen(sid, 1.0) for sid in ids)


def test_failures_alone_are_told_unless_all_are_wanted() -> None:
    logs.configure("dispatch", "0", stream=io.StringIO(), style="json")
    sid = new_id(0)
    assert not MessageLog(metrics(), which="failures", sample=1.0, per_s=0).tells(sid)
    assert MessageLog(metrics(), which="all", sample=1.0, per_s=0).tells(sid)
    logs.configure("dispatch", "0", stream=io.StringIO(), style="json", levels=[("messages", "warning")])
    assert not MessageLog(metrics(), which="all", sample=1.0, per_s=0).tells(sid)


# --- set-up and reload


def settings(**changes: Any) -> Settings:
    log = LogSettings(**{"format": "json", **changes.pop("log", {})})
    return replace(Settings(Path("config")), log=log, **changes)


def test_nothing_listens_where_both_are_off() -> None:
    journal.configure(settings(log={"messages": "off"}), "api", "0", metrics())
    assert (journal.on, journal.traced, journal.Watcher().receipts_wanted) == (False, False, "")
    journal.configure(settings(log={"messages": "failures"}), "api", "0", metrics())
    assert (journal.on, journal.Watcher().receipts_wanted) == (True, "f")
    journal.configure(settings(log={"messages": "all"}), "api", "0", metrics())
    assert (journal.on, journal.Watcher().receipts_wanted) == (True, "n")


def test_a_reload_changes_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SMSGW_LOG_LEVEL", "SMSGW_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "gateway.log"
    journal.configure(settings(log={"file": path}), "api", "0", metrics())
    before = logging.getLogger().handlers[0]
    logging.getLogger("gateway.smpp").debug("unheard")
    journal.configure(settings(log={"file": path}), "api", "0", metrics())
    assert logging.getLogger().handlers[0] is before  # nothing changed, nothing was set up
    journal.configure(settings(log={"file": path, "levels": (("smpp", "debug"),)}), "api", "0", metrics())
    logging.getLogger("gateway.smpp").debug("heard")
    logging.getLogger("gateway.dlr").debug("unheard")
    journal.configure(settings(log={"file": path}), "api", "0", metrics())
    logging.getLogger("gateway.smpp").debug("unheard again")
    logging.getLogger().handlers[0].close()
    assert [orjson.loads(line)["event"] for line in path.read_text().splitlines()] == ["heard"]


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMSGW_LOG_LEVEL", "error")
    journal.configure(settings(log={"level": "debug"}), "api", "0", metrics())
    assert logging.getLogger().level == logging.ERROR
    assert not journal.on or journal.traced  # warnings are not written, so neither are records


# --- the target


def test_a_file_that_was_moved_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOOK_EVERY_S", 0.0)
    path = tmp_path / "gateway.log"
    logs.configure("api", file=path)
    log = logging.getLogger("gateway.tests")
    log.warning("before")
    _until(lambda: path.read_text().count("\n") == 1)
    path.rename(tmp_path / "gateway.log.1")
    log.warning("after")
    _until(lambda: path.exists() and "after" in path.read_text())
    assert "after" not in (tmp_path / "gateway.log.1").read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    logging.getLogger().handlers[0].close()


def test_a_file_that_cannot_be_opened_is_said_on_the_stream(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure("api", file=tmp_path / "none" / "gateway.log", stream=stream, style="json")
    logging.getLogger().handlers[0].close()
    assert "log.file cannot be opened (No such file or directory)" in stream.getvalue()


def test_a_full_disk_is_counted_and_stops_nobody() -> None:
    counts = metrics()
    journal.configure(settings(log={"file": Path("/dev/full")}), "api", "0", counts)
    for _ in range(5):
        logging.getLogger("gateway.tests").error("line")
    logging.getLogger().handlers[0].close()
    assert suppressed(counts, "writer") == 5


def test_a_pipe_that_nobody_reads_blocks_nobody_and_its_losses_are_counted() -> None:
    read, write = os.pipe()
    dropped: list[int] = []
    with os.fdopen(write, "w") as stream:
        logs.configure("dispatch", "0", stream=stream, style="json", on_dropped=dropped.append)
        told = MessageLog(metrics(), which="all", sample=1.0, per_s=0)
        sid = new_id(0)
        began = time.process_time()
        for _ in range(400):
            for _ in range(100):
                told.usual("submitted", sid, DIMS, 0, {"channel": "cm-a", "attempt": 1, "parts": 1, "wait_ms": 3})
            told.flush()
        spent = time.process_time() - began
        began = time.monotonic()
        logging.getLogger().handlers[0].close()
        assert time.monotonic() - began < 2.0  # the end does not wait for the pipe
        assert sum(dropped) > 1000
        assert spent < 3.0
        os.set_blocking(read, False)
        while True:  # let the writer go, so that the stream can be closed
            try:
                if not os.read(read, 1 << 20):
                    break
            except BlockingIOError:
                if logging.getLogger().handlers[0]._lines.empty():
                    break
                time.sleep(0.005)
        os.close(read)


# --- the collector


def tracer(url: str, counts: Metrics, **changes: Any) -> tracing.Tracer:
    told = TracingSettings(sample=1.0, endpoint=url, headers=(("X-Key", Secret("a-key-of-ours")),), **changes)
    return tracing.Tracer(told, counts, "dispatch-0", "1")


def spans(of: Metrics, result: str) -> float:
    return of.counter("trace_spans_total", result=result).n


async def test_a_collector_that_is_down_costs_its_spans_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "PAUSE_S", 0.02)
    monkeypatch.setattr(tracing, "EXPORT_TIMEOUT_S", 0.2)
    stream, counts = io.StringIO(), metrics()
    logs.configure("dispatch", "0", stream=stream, style="json")
    async with Collector(status=503) as collector:
        one = tracer(collector.url, counts)
        one.accepted(new_id(0), {"smsgw.account": "shop"})
        await until(lambda: spans(counts, "failed") == 1, timeout_s=10)
        collector.status = 200
        sid = new_id(0)
        one.accepted(sid, {})
        one.submitting(sid, int(time.time() * 1000) - 50)
        one.settled(sid, 1, {"smsgw.channel": "cm-a"}, error=False)
        one.receipt(sid, 1, {}, error=False)
        await until(lambda: len(collector.trace(sid.hex())) == 4, timeout_s=10)
        [claim] = [span for span in collector.trace(sid.hex()) if span.name == "claim"]
        assert 40_000_000 < claim.end_ns - claim.start_ns < 5_000_000_000
        assert collector.headers[-1]["X-Key"] == "a-key-of-ours"
        one.close()
    [said] = [line for line in lines(stream) if "collector" in line["event"]]
    assert (said["level"], said["event"].count("a-key-of-ours")) == ("warning", 0)


def test_a_full_queue_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "QUEUE_SPANS", 10)
    monkeypatch.setattr(tracing, "PAUSE_S", 60.0)
    counts = metrics()
    one = tracer("http://127.0.0.1:1/v1/traces", counts)
    for _ in range(25):
        one.accepted(new_id(0), {})
    assert spans(counts, "dropped") == 15
    one._queue._spans.queue.clear()
    one.close()


def test_without_the_packages_tracing_is_off_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    journal.configure(settings(tracing=TracingSettings(sample=0.5)), "api", "0", metrics())
    assert not journal.traced
    assert "smsgw[otel]" in "".join(line["event"] for line in lines(stream))


@pytest.mark.parametrize(
    "header", ["", "00-xyz", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "01-" + "a" * 32 + "-" * 17]
)
def test_a_callers_header_that_is_none_is_nobodys(header: str) -> None:
    journal.heard(header)
    one = tracer("http://127.0.0.1:1/v1/traces", metrics())
    assert one._caller() is None
    one._queue._spans.queue.clear()
    one.close()


def _until(so: Any) -> None:
    for _ in range(500):
        if so():
            return
        time.sleep(0.01)
    raise AssertionError("not within five seconds")
