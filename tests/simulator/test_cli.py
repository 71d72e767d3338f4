"""`smsgw simulate` as a process: options, several listeners, stats, ledger, and its end on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from gateway.simulator import cli
from gateway.simulator.behaviour import SimulatorOptions
from loadtests.check import read_smsc
from tests.simulator.esme import Esme
from tests.support.until import until


async def test_two_listeners_run_until_sigterm_and_say_what_happened(tmp_path: Path) -> None:
    stats, ledger = tmp_path / "stats.json", tmp_path / "ledger.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "gateway.simulator.cli"),
        *("--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--receipt-delay-s", "0.01"),
        *("--stats", str(stats), "--ledger", str(ledger), "--tally", str(tmp_path / "tally")),
        *("--tally-capacity", "100"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        ports = [int(line.rsplit(":", 1)[1]) for line in lines]
        for port in ports:
            esme = await Esme.bind(port)
            await until(lambda esme=esme: esme.bound)
            esme.submit("8613800000001")
            await until(lambda esme=esme: esme.delivered)
        await until(lambda: json.loads(stats.read_text())["settled"] == 2)
        assert json.loads(stats.read_text())["by_name"]["smsc-2"]["submits"] == 1
        process.send_signal(signal.SIGTERM)
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "smsc-1: binds 1, submits 1, answered_ok 1" in rest
    for path in (ledger, Path(f"{ledger}.1")):
        submits, receipts = read_smsc(path)
        assert ([s.to for s in submits], [r.ack for r in receipts]) == (["8613800000001"], [0])
    assert (tmp_path / "tally.counts").read_bytes()[1] == 2


def test_every_behaviour_has_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SimulatorOptions] = []
    monkeypatch.setattr(cli, "run_simulate", lambda listeners, **_: seen.extend(listeners) or 0)
    assert cli.main([]) == 0
    assert (seen[0].host, seen[0].port, seen[0].name) == ("127.0.0.1", 2775, "smsc-1")
    assert seen[0] == SimulatorOptions(port=2775, name="smsc-1")
    seen.clear()
    arguments = "--listen 127.0.0.1:4000 --listen [::1]:4001 --latency-s 0.5 --max-tps 20 --silence --shuffle"
    arguments += " --tls-cert c.pem --tls-key c.key --tls-client-ca ca.pem --receipt-pdu data_sm"
    arguments += " --no-by-number --error-rate 0.1 --error-codes 0x08,20 --id-format hex --password p --no-receipts"
    assert cli.main(arguments.split()) == 0
    assert [(o.host, o.port, o.name) for o in seen] == [("127.0.0.1", 4000, "smsc-1"), ("::1", 4001, "smsc-2")]
    first = seen[0]
    assert (first.latency_s, first.max_tps, first.silence, first.shuffle) == (0.5, 20, True, True)
    assert (first.by_number, first.receipts, first.error_codes) == (False, False, (8, 20))
    assert (first.id_format, first.password) == ("hex", "p")
    assert (first.tls_cert, first.tls_key, first.tls_client_ca) == ("c.pem", "c.key", "ca.pem")
    assert first.receipt_pdu == "data_sm"


def test_an_address_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    code = cli.run_simulate(
        [SimulatorOptions(host="192.0.2.1", port=1)],
        say=lines.append,  # an address that is never ours (RFC 5737)
    )
    assert code == 1
    assert "cannot listen" in lines[0]


def test_tls_files_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    lines: list[str] = []
    options = SimulatorOptions(tls_cert=str(tmp_path / "none.pem"), tls_key=str(tmp_path / "none.key"))
    assert cli.run_simulate([options], say=lines.append) == 1
    assert "cannot listen" in lines[0]
