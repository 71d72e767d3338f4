"""`/admin/v1/failure-codes` over HTTP on a real store: what nobody knows, what a code means, wrong queries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.model import Secret
from gateway.settings import AdminSettings, ChannelSettings, Settings
from gateway.store.receipt_notes import ReceiptNotes
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


def channel(name: str, **changes: Any) -> ChannelSettings:
    return ChannelSettings(id=name, host="h", port=1, system_id="s", password=Secret("p"), **changes)


@pytest.fixture
async def base(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[str]:
    own = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        failure_codes_file=Path("config/failure_codes.csv"),
        channels=(
            channel("plain"),
            channel("unicom", carrier="china-unicom", failure_codes=(("NEW:1", "blacklisted", None),)),
        ),
    )
    async with admin_listener(own, store, tmp_path) as address:
        yield f"http://{address}/admin/v1/failure-codes"


async def ask(base: str, token: str = TOKEN, **query: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(base, params=query, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_codes_are_explained_as_a_channel_reads_them(base: str) -> None:
    status, found = await ask(base, code="mk0001", channel="plain")
    assert status == 200
    assert found == {
        "code": "mk0001",
        "spelling": "MK:0001",
        "channel": "plain",
        "carrier": None,
        "known": True,
        "found_as": "code",
        "decided_by": "mk0001",
        "reason": "invalid-number",
        "permanent": True,
        "passes_elsewhere": False,
        "suppress": True,
        "detail": found["detail"],
        "source": found["source"],
    }
    assert found["detail"]
    assert (await ask(base, code="12", channel="unicom"))[1]["reason"] == "invalid-number"
    assert (await ask(base, code="12"))[1]["reason"] == "out-of-service"  # of MAP
    assert (await ask(base, code="gsm:27"))[1]["found_as"] == "number"
    assert (await ask(base, code="NEW:1", channel="unicom"))[1]["found_as"] == "override"
    assert (await ask(base, code="000", stat="MBBLACK"))[1]["reason"] == "blacklisted"
    unknown = (await ask(base, code="QQ:9"))[1]
    assert (unknown["known"], unknown["reason"], unknown["permanent"]) == (False, "unknown", False)


async def test_what_nobody_knows_is_listed_until_somebody_does(base: str, store: Store) -> None:
    assert await ask(base) == (200, {"unknown": [], "most": 1000})
    seen = {
        ("plain", "QQ:9"): 2,
        ("unicom", "QQ:9"): 7,
        ("unicom", "NEW:1"): 3,
        ("plain", "NEW:1"): 1,
        ("gone", "Z"): 1,
    }
    await ReceiptNotes(store).add(1, seen, {})
    status, found = await ask(base)
    assert status == 200
    listed = [(one["channel"], one["code"], one["count"]) for one in found["unknown"]]
    assert listed == [("unicom", "QQ:9", 7), ("plain", "QQ:9", 2), ("gone", "Z", 1), ("plain", "NEW:1", 1)]
    assert found["unknown"][0]["last_seen"].endswith("Z")
    assert len((await ask(base, channel="plain"))[1]["unknown"]) == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"code": "MK:0001", "channel": "nobody"}, "channel"),
        ({"channel": "nobody"}, "channel"),
        ({"code": ""}, "code"),
        ({"code": "x" * 65}, "code"),
        ({"code": "a\nb"}, "code"),
        ({"code": "MK:0001", "stat": "y" * 65}, "stat"),
        ({"stat": "UNDELIV"}, "stat"),
        ({"cod": "MK:0001"}, "cod"),
    ],
)
async def test_wrong_queries_name_their_field(base: str, query: dict[str, str], field: str) -> None:
    status, found = await ask(base, **query)
    assert (status, found["field"]) == (422, field)


async def test_only_who_has_the_token_may_ask(base: str) -> None:
    assert (await ask(base, token="wrong"))[0] == 401
