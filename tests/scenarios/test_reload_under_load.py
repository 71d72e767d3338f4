"""F80: fifty reloads while messages are accepted and sent: channels come, go and are bound anew; routes, rates and
accounts change. Nothing is lost, nothing goes twice; what was sent through a channel that left is finished there.
They are twenty in `make test`: each form of the files twice and more.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator.smsc import Smsc
from tests.support.gateway_process import AuditedGateway, Traffic
from tests.support.scenario import carrier
from tests.support.size import size
from tests.support.until import until

pytestmark = pytest.mark.long

RELOADS = size(20, 50)
ACCEPTED_BETWEEN = 20


class Forms:
    """What the files say in turn; each differs from the one before in something that matters."""

    def __init__(self, gateway: AuditedGateway) -> None:
        names = ("gateway", "channels", "routes", "accounts")
        self._files = {name: gateway.config_dir / f"{name}.toml" for name in names}
        self._plain = {name: path.read_text() for name, path in self._files.items()}

    def write(self, turn: int) -> None:
        """Write the files as they are in this turn, the last of them as at the beginning."""
        text = dict(self._plain)
        both, first, second = '{ id = "cm-a", rank = 0 }, { id = "cm-b", rank = 1 }', "cm-a", "cm-b"
        assert both in text["routes"]
        match turn % 8:
            case 1:  # the primary leaves
                text["channels"] = (
                    '[[channel]]\nid = "cm-b"' + text["channels"].partition('[[channel]]\nid = "cm-b"')[2]
                )
                text["routes"] = text["routes"].replace(both, f'{{ id = "{second}", rank = 0 }}')
            case 2:  # other rates
                text["channels"] = text["channels"].replace("window = 20", "window = 20\nmax_tps = 900")
            case 3:  # other credentials: bound anew
                text["channels"] = text["channels"].replace("window = 20", f'window = 20\nsystem_type = "t{turn}"')
            case 4:  # the backup leaves, under another route id
                text["channels"] = text["channels"].partition('[[channel]]\nid = "cm-b"')[0]
                text["routes"] = text["routes"].replace(both, f'{{ id = "{first}", rank = 0 }}')
                text["routes"] = text["routes"].replace('"cn"', '"renamed"')
            case 5:  # the two share a rank, with another window
                text["routes"] = text["routes"].replace("rank = 1", "rank = 0")
                text["channels"] = text["channels"].replace("window = 20", "window = 7")
            case 6:  # another account, other limits, other rules
                text["accounts"] += f'\n[[account]]\nid = "other"\nkey_hashes = ["sha256:{"0" * 64}"]\nmax_per_s = 5\n'
                rules = "[categories.verification]"
                text["gateway"] = text["gateway"].replace(rules, f"{rules}\nttl_s = 299")
            case 7:  # fewer and more sessions
                text["channels"] = text["channels"].replace("binds = 2", "binds = 1")
        for name, path in self._files.items():
            path.write_text(text[name])


async def reload(gateway: AuditedGateway, note: str) -> dict[str, Any]:
    """Ask for a reload and return what the admin listener answers."""
    status, body = await gateway.admin("POST", "/admin/v1/config/reload", {"note": note})
    assert status == 200, body
    return dict(body)


async def test_reloads_under_load(tmp_path: Path) -> None:
    channel = "binds = 2\nwindow = 20"
    async with (
        carrier(latency_s=0.01) as first,
        carrier(latency_s=0.01) as second,
        AuditedGateway(
            tmp_path, {"cm-a": first.port, "cm-b": second.port}, channel=channel, api_workers=2, dispatch_workers=2
        ) as gateway,
    ):
        forms = Forms(gateway)
        took: list[float] = []
        async with gateway.traffic(clients=2) as traffic:
            for turn in range(1, RELOADS + 1):
                forms.write(turn if turn < RELOADS else 0)
                began = time.monotonic()
                await reload(gateway, f"turn {turn}")
                took.append(time.monotonic() - began)
                await until(partial(_more, traffic, traffic.accepted + ACCEPTED_BETWEEN))
        print(
            f"reloads took {sum(took) / len(took):.2f} s each, at most {max(took):.2f} s; {traffic.accepted} accepted"
        )
        assert set(await gateway.until_final(timeout_s=60)) == {"delivered"}
        assert {status for status, _ in traffic.answers} == {202}, traffic.answers
        report = await gateway.audit([first, second], copies_allowed=0)
        assert report.accepted > RELOADS * ACCEPTED_BETWEEN
        assert await gateway.metric("smsgw_config_reload_success") == 1
        await until(partial(_runs, gateway, RELOADS + 1))
        await until(lambda: _bound(first) == 2 and _bound(second) == 2)


async def _runs(gateway: AuditedGateway, revision: int) -> bool:
    """Whether every worker runs this revision, as metrics know it a second later."""
    return await gateway.metric("smsgw_config_revision") == revision


def _more(traffic: Traffic, wanted: int) -> bool:
    return traffic.accepted >= wanted


def _bound(smsc: Smsc) -> int:
    return len(smsc.links)
