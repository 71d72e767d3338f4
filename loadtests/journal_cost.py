"""What logging and tracing of single messages cost: microseconds of a process' time a message, by setting.

    python loadtests/journal_cost.py

Measures the calls that the path makes (`journal.accepted`, `settled`, `Watcher.receipts`) on batches of 50, with lines
written to /dev/null by the writer's thread; CPU time of the whole process, so that thread counts. Prints one JSON line.
The figures stand in docs/logging.md.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, only loadtests/ would be searched

from gateway import journal, tracing  # noqa: E402
from gateway.dispatch.flight import Flight  # noqa: E402
from gateway.dispatch.outcome import Decision  # noqa: E402
from gateway.metrics import Metrics  # noqa: E402
from gateway.model import Accepted, MessageKind, NewMessage  # noqa: E402
from gateway.settings import LogSettings, Settings, TracingSettings  # noqa: E402
from gateway.store.keys import new_id  # noqa: E402
from gateway.store.records import Claimed, PackedKind, pack_body, pack_content, pack_rest  # noqa: E402

BATCH = 50
ROUNDS = 400
MODES: dict[str, tuple[dict[str, Any], float]] = {
    "off": ({"messages": "off"}, 0.0),
    "failures": ({"messages": "failures"}, 0.0),
    "all, over its budget of 200/s": ({"messages": "all"}, 0.0),
    "all, a sample of 1 %": ({"messages": "all", "messages_per_s": 0, "messages_sample": 0.01}, 0.0),
    "all, json": ({"messages": "all", "messages_per_s": 0}, 0.0),
    "all, console": ({"messages": "all", "messages_per_s": 0, "format": "console"}, 0.0),
    "traces, a sample of 1 %": ({"messages": "off"}, 0.01),
    "traces of all": ({"messages": "off"}, 1.0),
}


def main() -> None:
    """Measure every mode and print one JSON line."""
    tracing.QUEUE_SPANS = 1 << 20
    tracing.Tracer._exporter = lambda self: _Nowhere()  # type: ignore[method-assign]  # without a collector's own time
    found = {name: measure(log, sample) for name, (log, sample) in MODES.items()}
    print(json.dumps({"unit": "us a message", "batch": BATCH, "modes": found}))


class _Nowhere:
    """A collector that takes everything at once."""

    class _Done:
        name = "SUCCESS"

    def export(self, batch: list[Any]) -> Any:
        del batch
        return self._Done

    def shutdown(self) -> None: ...


def measure(log: dict[str, Any], sample: float) -> dict[str, float]:
    """Return microseconds a message: at acceptance, and in dispatch (its settlement and its receipt)."""
    settings = replace(
        Settings(Path("config")),
        log=LogSettings(**{"format": "json", "file": Path("/dev/null"), **log}),
        tracing=TracingSettings(sample=sample),
    )
    journal.configure(settings, "bench", "0", Metrics("bench", "0"))
    prepared, answers, flights, names = _messages()
    watcher = journal.Watcher()
    rows = [("cm-a", "", b"", "D", "", "", False, False)] * BATCH

    def accept() -> None:
        if journal.on:
            journal.accepted(prepared, answers)

    def dispatch() -> None:
        if journal.traced:
            for flight, _ in flights:
                journal.submitting(flight.message)
        if journal.on:
            journal.settled(flights, "1" * BATCH)
        if watcher.receipts_wanted:
            watcher.receipts(rows, b"f" * BATCH, names if watcher.receipts_wanted == "n" else [b""] * BATCH)

    figures = {"accept": _each(accept), "dispatch": _each(dispatch)}
    journal.close()
    return figures


def _each(work: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(3):
        time.sleep(0.2)  # what is queued is written
        began = time.process_time()
        for _ in range(ROUNDS):
            work()
        time.sleep(0.05)
        best = min(best, (time.process_time() - began) / ROUNDS / BATCH * 1e6)
    return round(best, 2)


def _messages() -> tuple[list[Any], list[Accepted], list[tuple[Flight, Decision]], list[bytes]]:
    kind = MessageKind("shop", 1, "cn", "china-mobile", "106900001", 86_400_000)
    kind.packed = PackedKind(kind)
    prepared, answers, flights, names = [], [], [], []
    now = time.time_ns() // 1_000_000
    for n in range(BATCH):
        body = pack_body("gsm7", pack_content("Hello", ""))
        message = NewMessage(new_id(0), 0, kind, f"86138{n:08d}", 1, body, b"", b"")
        prepared.append((n, message, "gsm7", None))
        answers.append(Accepted("accepted", message.id, now, now + 1000))
        raw = now.to_bytes(6, "big") * 2 + bytes(8) + pack_rest(message, kind.packed)
        flights.append((Flight(_claimed(message, raw), 0, "cm-a", None), Decision("s", 1000)))
        dims = b"shop\x1fchina-mobile\x1fcn\x1f\x1f\x1f"
        names.append(message.id + b"D" + bytes((1, 1, 1)) + dims)
    return prepared, answers, flights, names


def _claimed(message: NewMessage, raw: bytes) -> Claimed:
    del raw
    trailer = b"q" + bytes(25)
    assert message.kind.packed is not None
    fixed = b"\x00" * 20
    return Claimed(message.id, fixed + pack_rest(message, message.kind.packed) + trailer)


if __name__ == "__main__":
    main()
