"""What others wrote (texts, senders, carriers' codes) steers no operator's terminal, from no command and no frame."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import gateway
from gateway.cli import app
from gateway.client.admin import AdminError
from gateway.commands import blacklist, config, explain, inbound, message
from gateway.commands.common import plain, say
from gateway.commands.top import _Pressed
from gateway.commands.top_data import Channel, View
from gateway.commands.top_frame import frame
from tests.support.config import write_config

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\r\nforged: line"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ROOT = Path(gateway.__file__).parent


def test_commands_print_by_one_door() -> None:
    for path in [*(ROOT / "commands").glob("*.py"), ROOT / "cli.py"]:
        found = re.findall(r"(?:typer|click)\.s?echo\(|(?<![\w.])print\(", path.read_text(encoding="utf-8"))
        assert len(found) == (path.name == "common.py"), f"{path.name}: `say` escapes what a terminal would obey"


def test_what_is_said_stays_readable_and_json_stays_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    say("【Acme】 a　b\tc\nd")
    assert capsys.readouterr().out == "【Acme】 a　b\tc\nd\n"
    say(json.dumps({"text": HOSTILE}, ensure_ascii=False))
    out = capsys.readouterr().out
    assert not STEERING.search(out)
    assert json.loads(out) == {"text": HOSTILE}
    assert plain("a\nb\ud800") == "a\\u000ab\\ud800"


def _message() -> dict[str, Any]:
    return {
        "id": "x", "state": "failed", "final": True, "reason": {"code": HOSTILE}, "category": "marketing",
        "account": "shop", "to": "+86", "route": "r", "rank": 0, "parts": 1, "parts_accepted": 0, "parts_delivered": 0,
        "tags": [HOSTILE], "text": HOSTILE, "text_kept": True,
        "waiting": {"why": "gate", "what": HOSTILE, "state": "hold", "since": "now", "until": None, "also": [
            {"why": "channels", "what": "r", "since": None, "until": None, "channels": [
                {"id": HOSTILE, "rank": 0, "why": HOSTILE, "cause": HOSTILE}]}]},
        "timeline": [{"at": "now", "what": "receipt", "carrier_code": HOSTILE}],
        **dict.fromkeys(("sender", "ref", "campaign", "variant", "template", "gate", "signature"), HOSTILE),
    }  # fmt: skip


def _reply() -> dict[str, Any]:
    words = dict.fromkeys(("id", "received_at", "from", "to", "account", "opt", "keyword", "text"), HOSTILE)
    return {"messages": [words], "to_review": 0}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_hostile_text_does_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool
) -> None:
    monkeypatch.setattr(message, "ask_admin", lambda *a, **kw: _message())
    monkeypatch.setattr(inbound, "ask_admin", lambda *a, **kw: _reply())
    more = ["--config", str(write_config(tmp_path)), *(["--json"] if as_json else [])]
    for call in (["message", "show", "x", "--full"], ["inbound", "list", "--full"]):
        done = CliRunner().invoke(app, [*call, *more])
        assert done.exit_code == 0, done.output
        assert "owned" in done.output
        assert not STEERING.search(done.output), call
        assert not re.search("^forged", done.output, re.MULTILINE), call


def test_an_id_cannot_name_another_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(message, "ask_admin", lambda c, m, path, **kw: asked.append(path) or _message())
    CliRunner().invoke(app, ["message", "show", "../config?a=1#b", "--config", str(write_config(tmp_path))])
    assert asked == ["/admin/v1/messages/..%2Fconfig%3Fa%3D1%23b"]


def test_a_number_can_be_typed_past_the_shells_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def ask(*_: Any, query: Any, **__: Any) -> Any:
        asked.append(query["to"])
        return {"rules": [], "verdict": "accepted"}

    monkeypatch.setattr(explain, "ask_admin", ask)
    call = ["explain", "--to", "-", "--account", "shop", "--config", str(write_config(tmp_path))]
    assert CliRunner().invoke(app, call, input="+8613800138000\n").exit_code == 0
    assert asked == ["+8613800138000"]


# --- top


def _channel(name: str, cause: str) -> Channel:
    return Channel(name, "up", cause, 1, 1, 0, 10, 0.0, 0.0, 0, None, None)


def test_a_frame_reads_no_markup_and_fits_small_terminals() -> None:
    queue = {"route": "r~[Acme]", "rank": 0, "category": "marketing", "depth": 3, "oldest_age_s": 1.0}
    view = View(
        channels=[_channel(f"c{i}", f"[/bold] {HOSTILE}") for i in range(40)],
        queues=[{**queue, "accounts": [{"account": "[red]"}]}] * 9,
        gates=[{"kind": "tag", "name": HOSTILE, "state": "hold", "held": 1, "closed": 0}],
        alarms=[HOSTILE] * 9,
    )
    for width, height in ((20, 5), (40, 10), (80, 24), (200, 60)):
        screen = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
        screen.print(frame(view, width=width, height=height, title=HOSTILE))
        drawn = screen.file.getvalue()  # type: ignore[attr-defined]
        assert not STEERING.search(re.sub("\x1b\\[[0-9;]*m", "", drawn))
        if width >= 80:
            assert "r~[Acme]" in drawn
            assert "[red]" in drawn
            assert len(drawn.splitlines()) <= height + 3


def test_keys_do_not_lag_behind_an_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        os.set_blocking(ours, True)
        import tty

        tty.setcbreak(terminal.fileno())
        monkeypatch.setattr("sys.stdin", terminal)
        pressed = _Pressed()
        for sent, key in ((b"\x1b[A", ""), (b"r", "r"), (b"\x1b[5~", ""), (b"nq", "q")):
            os.write(ours, sent)
            assert pressed(5.0) == key
        assert pressed(0.0) == ""
    os.close(ours)


# --- what waits, and what is written


def test_a_reload_waits_for_the_change_that_is_being_decided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "BUSY_AGAIN_S", 0.01)
    refusals = [3]
    said = {"result": "applied", "detail": "revision 2 is in force", "changes": {}, "warnings": [], "needs_restart": []}

    def ask(*_: Any, **__: Any) -> Any:
        if refusals[0]:
            refusals[0] -= 1
            body = {"code": "busy", "detail": "another change is being decided", "problems": []}
            raise AdminError("busy", status=409, code="busy", body=body)
        return said

    monkeypatch.setattr(config, "ask_admin", ask)
    call = ["config", "reload", "--config", str(write_config(tmp_path))]
    done = CliRunner().invoke(app, call)
    assert (done.exit_code, refusals) == (0, [0])
    assert done.output.count("waiting for it") == 1
    refusals[0] = 10**6
    monkeypatch.setattr(config, "BUSY_S", 0.1)
    done = CliRunner().invoke(app, [*call, "--json"])
    assert done.exit_code == 4
    assert json.loads(done.output)["code"] == "busy"


def test_an_export_can_be_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def pages(*_: Any) -> Any:
        yield [["8613800138000", "marketing", "td", "2026-01-01T00:00:00Z", "mo.a"]]
        yield [["8613800138001", "marketing", "td", "2026-01-01T00:00:00Z", ""]]

    monkeypatch.setattr(blacklist, "_pages", pages)
    folder = ["--config", str(write_config(tmp_path / "config"))]
    done = CliRunner().invoke(app, ["blacklist", "export", "-", "--json", *folder])
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [row["number"] for row in rows] == ["8613800138000", "8613800138001"]
    assert rows[1]["source"] == ""
    done = CliRunner().invoke(app, ["blacklist", "export", str(tmp_path / "f"), "--json", *folder])
    assert json.loads(done.output) == {"rows": 2, "file": str(tmp_path / "f")}
    assert len((tmp_path / "f").read_text().splitlines()) == 2


def test_a_log_writer_that_was_full_when_it_closed_ends_all_the_same() -> None:
    """Closing it in a rush must leave no thread and no open file behind, or each reload would."""
    from gateway import logs

    let_go = threading.Event()

    class Slow:
        closed = False
        lines = 0

        def write(self, text: str) -> None:
            let_go.wait(10.0)
            self.lines += 1

        def flush(self) -> None: ...
        def reopen(self) -> None: ...
        def close(self) -> None:
            self.closed = True

    target = Slow()
    writer = logs._Writer(target, "test")
    for _ in range(logs.QUEUE_LINES + 2):
        writer._put("x\n", 1)
    assert writer.dropped >= 1
    writer.close()
    let_go.set()
    deadline = time.monotonic() + 10.0
    while (writer._thread.is_alive() or not target.closed) and time.monotonic() < deadline:
        writer._thread.join(0.1)
    assert not writer._thread.is_alive()
    assert target.closed
    assert target.lines + writer.dropped == logs.QUEUE_LINES + 2


def test_help_of_numbers_says_how_to_keep_them_out_of_the_history() -> None:
    command = typer.main.get_command(app)
    for path in (["explain"], ["message", "find"], ["erase"], ["blacklist", "add"], ["inbound", "list"]):
        found: Any = command
        for word in path:
            found = found.commands[word]
        assert any("stdin" in (getattr(p, "help", "") or "") for p in found.params), path
