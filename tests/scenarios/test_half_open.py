"""The SMSC's process is frozen: its kernel takes every octet and nobody answers. The link timer finds out."""

from __future__ import annotations

import time
from pathlib import Path

from loadtests.check import check
from tests.support.gateway_process import UNCERTAIN, VERIFICATION, AuditedGateway, carrier_rows, row_of
from tests.support.scenario import carrier
from tests.support.simulator_process import SimulatorProcess
from tests.support.until import until

WINDOW = 20
ENQUIRE_S, RESPONSE_S, INIT_S = 1.0, 1.0, 1.0
CHANNEL = (
    f"window = {WINDOW}\nenquire_link_s = {ENQUIRE_S}\nresponse_timer_s = {RESPONSE_S}\nsession_init_timer_s = {INIT_S}"
)
SLACK_S = 1.5
"""Metrics are written once a second, and these two cores are busy."""


async def test_a_frozen_smsc_is_left_within_its_timers_and_taken_back(tmp_path: Path) -> None:
    async with (
        SimulatorProcess(tmp_path, latency_s=0.05) as primary,
        carrier() as backup,
        AuditedGateway(tmp_path, {"cm-a": primary.port, "cm-b": backup.port}, channel=CHANNEL) as gateway,
    ):

        async def up() -> bool:
            return await gateway.metric("smsgw_channel_up", channel="cm-a") == 1

        async def down() -> bool:
            return not await up()

        async with gateway.traffic(every_s=0.02):
            await until(lambda: primary.counter("submits") > 100, timeout_s=20)
            assert not backup.ledger.submits
            primary.freeze()
            began = time.monotonic()
            await until(down)
            assert time.monotonic() - began <= ENQUIRE_S + RESPONSE_S + SLACK_S
            # The kernel goes on to accept connections; a bind without an answer is given up each time.
            seen = len(backup.ledger.submits)
            await until(lambda: len(backup.ledger.submits) > seen + 200)
            code = await gateway.send(gateway.message(VERIFICATION))
            number = gateway.client[-1].to.lstrip("+")
            posted = time.monotonic()
            assert code.status == 202
            await until(lambda: backup.ledger.to(number))
            assert time.monotonic() - posted < 2.0
            primary.thaw()
            await until(up, timeout_s=30)
            seen = primary.counter("submits")
            await until(lambda: primary.counter("submits") > seen + 100)
        states = await gateway.until_final(but=[UNCERTAIN])
        # What had waited in the kernel for the frozen process is a copy, if policy sent it again.
        submits, receipts = await primary.stop()
        more_submits, more_receipts = carrier_rows([backup])
        report = check(
            gateway.client,
            [*submits, *more_submits],
            [row_of(r) for r in await gateway.records()],
            [*receipts, *more_receipts],
            copies_allowed=WINDOW,
            settled=False,
        )
        assert report.ok, report.text()
        assert states["delivered"] + states[UNCERTAIN] == report.accepted == report.final + report.live
        assert states[UNCERTAIN] <= WINDOW
        assert 0 < sum(r.possible_duplicate for r in await gateway.records()) <= WINDOW
