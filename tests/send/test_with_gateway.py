"""`smsgw send` against the real gateway: every row ends with its carrier or with a reason, and none twice."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from rich.console import Console

from gateway.demo.world import World, carriers_of, gateway_process, write_demo_config
from gateway.send import SendOptions, SendReport, send_file
from gateway.simulator.behaviour import SimulatorOptions
from tests.support.until import until

COUNT = 400


async def test_a_file_reaches_the_carriers_once(tmp_path: Path) -> None:
    file, result = tmp_path / "f.csv", tmp_path / "r.csv"
    rows = [f"+86138{number:08},【Demo】hello {number}" for number in range(10_000_000, 10_000_000 + COUNT)]
    bad = ["12345,【Demo】no such number", ",nobody", "+8613900000001,"]
    file.write_text("\n".join(["to,text", *rows, *bad]) + "\n", encoding="utf-8")
    settings, env, key = write_demo_config(tmp_path, max_tps=0)
    options = SendOptions(f"http://127.0.0.1:{settings.api.port}", key, batch=50, defaults={"category": "notification"})
    quiet = Console(file=io.StringIO())
    async with carriers_of(settings, SimulatorOptions(by_number=False, receipt_delay_s=0.05)) as carriers:
        world = World(tmp_path / "config", settings, key, env, carriers)
        async with gateway_process(world, tmp_path / "log"):
            report = await send_file(file, result, options, quiet)
            assert report == SendReport(rows=COUNT + 3, accepted=COUNT, refused=2, bad_rows=1)
            again = await send_file(file, result, options, quiet)
            assert again.earlier == COUNT + 3
            result.unlink()  # without the journal the gateway itself knows the rows by their refs
            known = await send_file(file, result, options, quiet)
            assert (known.accepted, known.replayed) == (0, COUNT)
            await until(lambda: sum(c.smsc.counters.settled for c in carriers) >= COUNT, timeout_s=20)
    submits = Counter(row.destination for carrier in carriers for row in carrier.smsc.ledger.submits)
    assert len(submits) == COUNT
    assert set(submits.values()) == {1}
    with result.open(newline="", encoding="utf-8") as stream:
        found = {row["line"]: row for row in csv.DictReader(stream)}
    assert found["402"]["code"] == "invalid_number"
    assert (found["403"]["status"], found["403"]["field"]) == ("bad_row", "to")
    assert found["404"]["field"] == "text"
