"""Nobody listens at the primary, or its name is unknown: the backup serves codes within two seconds, the primary is
asked again at growing intervals, and takes its traffic back when it is there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.audit import audit_line
from tests.support.gateway import free_port
from tests.support.gateway_process import UNCERTAIN, VERIFICATION, AuditedGateway
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import VERIFICATION as CODE
from tests.support.scenario import accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer

CODE_WAITS_MOST_MS = 2_000
WINDOW = 20
DOWN_S = 2.0


async def test_codes_leave_by_the_backup_within_two_seconds(tmp_path: Path) -> None:
    """Refused from the start, then there, then refused again under traffic; with the pauses of production."""
    port = free_port()
    async with (
        carrier() as backup,
        AuditedGateway(tmp_path, {"cm-a": port, "cm-b": backup.port}, channel=f"window = {WINDOW}") as gateway,
    ):
        for _ in range(20):
            assert (await gateway.send(gateway.message(VERIFICATION))).status == 202
        await gateway.until_final()
        assert len(backup.ledger.submits) == 20
        async with carrier(port=port, latency_s=0.02) as primary:
            async with gateway.traffic(every_s=0.02):
                # The next attempt may be a few seconds away: pauses grow while it is refused.
                await until(lambda: len(primary.ledger.submits) > 100, timeout_s=30)
                await primary.stop_listening()
                primary.drop_sessions()
                tried = await gateway.metric("smsgw_binds_total", channel="cm-a", result="unreachable")
                await asyncio.sleep(DOWN_S)  # the length of the failure, not a barrier
                tried = await gateway.metric("smsgw_binds_total", channel="cm-a", result="unreachable") - tried
                seen = len(primary.ledger.submits)
                # From a pause of a quarter of a second on; without growth and a floor it would be thousands.
                assert 1 <= tried <= DOWN_S / 0.25
                await primary.start()
                await until(lambda: len(primary.ledger.submits) > seen + 100, timeout_s=30)
            states = await gateway.until_final(but=[UNCERTAIN])
            report = await gateway.audit([primary, backup], copies_allowed=WINDOW, settled=False)
            assert states["delivered"] + states[UNCERTAIN] == report.accepted
            assert states[UNCERTAIN] <= WINDOW
            first_at: dict[str, int] = {}
            for row in sorted([*primary.ledger.submits, *backup.ledger.submits], key=lambda row: row.at_ms):
                first_at.setdefault(row.destination, row.at_ms)
            codes = [r for r in await gateway.records() if r.category == CODE]
            assert len(codes) > 50
            assert max(first_at[r.msisdn] - r.accepted_at_ms for r in codes) < CODE_WAITS_MOST_MS


@pytest.mark.parametrize("host", ["smsc.invalid", "smsc..invalid", "a" * 64 + ".invalid"])
async def test_a_host_nobody_knows_is_asked_for_again(valkey: ValkeyServer, host: str) -> None:
    """A name that DNS cannot even be asked for (an empty or too long label) is no more than one that does not exist."""
    async with carrier() as backup:
        unknown = channel_to(backup, "a", host=host, session_init_timer_s=0.5)
        async with worker(line_settings([unknown, channel_to(backup, "b")]), valkey, bound=False) as w:
            ms = [message(w.store, category=i % 3) for i in range(30)]
            sids = await accepted(w.store, ms)
            await end_as(w.store, sids, D=30)
            tried = w.metrics.counter("binds_total", channel="a", result="unreachable")
            await until(lambda: tried.n >= 3)
            assert not w.dispatcher.channels["a"].up
            await audit_line(w.store, valkey, ms, [backup])
