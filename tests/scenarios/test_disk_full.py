"""The store's disk runs full: its server ends, every post is a 503, and with room again everything accepted is there.

A file system of 64 MiB of its own; intake closes while there is still room for a rewrite, so the rest is filled from
outside, as another program on that disk would do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

SIZE_MIB = 64


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(place)], check=True, timeout=10)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=10)


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
async def test_a_full_disk_costs_answers_and_no_message(tmp_path: Path, small_disk: Path) -> None:
    options = {"data_dir": small_disk / "var", "store": "check_every_s = 0.5"}
    async with (
        carrier(redeliver_s=0.2) as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, **options) as gateway,
    ):
        async with gateway.traffic(every_s=0.02) as traffic:
            await until(lambda: traffic.accepted > 100)
            filler = _fill(small_disk)
            # No room: the server ends when it cannot write; the one started in its place ends at the next heartbeat.
            await until(lambda: len(gateway.events("store ended unexpectedly")) >= 2)
            await until(lambda: _refused(gateway))
            filler.unlink()
            before = traffic.accepted
            await until(lambda: traffic.accepted > before + 100, timeout_s=30)
        states = await gateway.until_final(timeout_s=45)
        report = await gateway.audit([smsc])
        assert states == {"delivered": states.total()}
        assert report.copies == 0
        await until(lambda: _restarted(gateway))


def _fill(place: Path) -> Path:
    """Write until nothing fits any more."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as out:
        block = b"\0" * 65_536
        while shutil.disk_usage(place).free:
            try:
                out.write(block)
            except OSError:
                break
    return filler


async def _restarted(gateway: AuditedGateway) -> bool:
    return await gateway.metric("smsgw_store_restarts_total") >= 2


async def _refused(gateway: AuditedGateway) -> bool:
    return (await gateway.send(gateway.message())).status == 503
