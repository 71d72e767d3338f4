"""A bulk run: every row answered for, resumable at any point, nothing doubled."""

from __future__ import annotations

import asyncio
import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.send import SendOptions, SendReport, SendStopped, send_file
from gateway.send.results import NotAResultFile
from tests.support.api_peer import ApiPeer
from tests.support.until import until


def write(path: Path, count: int, extra: str = "") -> Path:
    lines = [f"+86138{number:08},hello {number}" for number in range(count)]
    path.write_text("to,text\n" + "\n".join(lines) + "\n" + extra, encoding="utf-8", errors="surrogateescape")
    return path


def options(peer: ApiPeer, **changes: Any) -> SendOptions:
    given = {
        "batch": 10,
        "parallel": 3,
        "patience_s": 10.0,
        "defaults": {"category": "notification"},
        **changes,
    }
    return SendOptions(url=peer.url, key="k", **given)


async def run(peer: ApiPeer, file: Path, **changes: Any) -> SendReport:
    quiet = Console(file=io.StringIO())
    return await send_file(file, file.with_suffix(".result.csv"), options(peer, **changes), quiet)


def results(file: Path) -> list[dict[str, str]]:
    with file.with_suffix(".result.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


async def test_every_row_is_answered_for(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 95, extra=",no number\n+8613900000000,blocked\n+861,\udcff\n")
    async with ApiPeer() as peer:
        peer.refuse = lambda sent: {"code": "blocked_recipient", "field": "to"} if sent["text"] == "blocked" else None
        report = await run(peer, file)
        assert report == SendReport(rows=98, accepted=95, refused=1, bad_rows=2)
        assert len(peer.stored) == 95
    found = results(file)
    assert Counter(row["status"] for row in found) == {"accepted": 95, "refused": 1, "bad_row": 2}
    (refused,) = [row for row in found if row["status"] == "refused"]
    assert (refused["line"], refused["code"], refused["field"]) == ("98", "blocked_recipient", "to")
    assert all(row["id"] and row["ref"] for row in found if row["status"] == "accepted")


async def test_the_same_command_again_sends_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 25, extra=",bad\n")
    async with ApiPeer() as peer:
        await run(peer, file)
        report = await run(peer, file)
        assert report == SendReport(rows=26, earlier=26)
        assert set(peer.posts.values()) == {1}
        file.with_suffix(".result.csv").unlink()
        report = await run(peer, file)  # the journal lost: the gateway knows the refs
        assert (report.replayed, report.accepted, len(peer.stored)) == (25, 0, 25)
        file.with_suffix(".result.csv").unlink()
        await run(peer, file, run="another")
        assert len(peer.stored) == 50


async def test_a_mended_file_goes_on_with_what_changed(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 20, extra=",bad\n")
    async with ApiPeer() as peer:
        await run(peer, file)
        write(file, 22, extra="+8613911112222,bad\n")
        report = await run(peer, file)
        assert (report.earlier, report.accepted) == (20, 3)
        assert set(peer.posts.values()) == {1}


async def test_a_run_stopped_anywhere_goes_on(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 200)
    async with ApiPeer() as peer:
        task = asyncio.create_task(run(peer, file, parallel=2))
        await until(lambda: len(peer.stored) >= 40, timeout_s=5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        settled = len(results(file))
        assert settled < 200
        report = await run(peer, file)
        assert report.earlier == settled
        assert report.accepted + report.replayed == 200 - settled
        assert len(peer.stored) == 200
    assert len({row["ref"] for row in results(file)}) == 200


async def test_a_line_cut_by_a_crash_is_written_again(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 5)
    async with ApiPeer() as peer:
        await run(peer, file)
        result = file.with_suffix(".result.csv")
        result.write_bytes(result.read_bytes()[:-9])
        report = await run(peer, file)
        assert (report.earlier, report.replayed) == (4, 1)
    assert [len(row["ref"]) > 0 for row in results(file)] == [True] * 5


@pytest.mark.parametrize("faults", [["busy"] * 3, ["lost", "cut", 503], [500, 429]])
async def test_faults_on_the_way_double_and_lose_nothing(tmp_path: Path, faults: list[int | str]) -> None:
    file = write(tmp_path / "f.csv", 30)
    async with ApiPeer() as peer:
        peer.faults = list(faults)
        report = await run(peer, file)
        assert report.accepted + report.replayed == 30
        assert len(peer.stored) == 30


async def test_a_call_refused_for_one_row_is_halved_until_it_is_found(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 10)
    async with ApiPeer() as peer:
        peer.faults = [413, 422, 400, 422]  # 10 rows, 5, 5, then 2
        report = await run(peer, file, parallel=1)
        assert (report.accepted, report.refused) == (10, 0)
        peer.faults = [413, 413]
        write(file, 12)
        report = await run(peer, file, parallel=1)
        assert (report.accepted, report.refused, report.earlier) == (1, 1, 10)
        report = await run(peer, file, retry_refused=True)
        assert (report.accepted, report.earlier) == (1, 11)


async def test_a_refused_key_stops_at_once(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 30)
    async with ApiPeer(key="other") as peer:
        with pytest.raises(SendStopped, match="key"):
            await run(peer, file)
    assert results(file) == []


async def test_patience_ends(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 5)
    async with ApiPeer() as peer:
        peer.faults = ["busy"] * 100
        with pytest.raises(SendStopped, match="run the same command"):
            await run(peer, file, patience_s=0.5)
        peer.faults = []
        assert (await run(peer, file)).accepted == 5


async def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", 5)
    result = file.with_suffix(".result.csv")
    result.write_text("a,b\n1,2\n")
    async with ApiPeer() as peer:
        with pytest.raises(NotAResultFile):
            await run(peer, file)
    assert result.read_text() == "a,b\n1,2\n"
