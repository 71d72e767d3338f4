"""What tests of messages from handsets share: settings that know opt-out words, and what a store kept of replies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from gateway.settings import AccountSettings, Settings, packaged_config_dir
from gateway.store.inbox import InboundStore
from gateway.store.store import Store

WORDS = packaged_config_dir() / "optout_words.csv"


def with_replies(settings: Settings, *accounts: AccountSettings, **changes: Any) -> Settings:
    """Return settings that know opt-out words and these accounts (else `shop` alone)."""
    return replace(settings, accounts=accounts or (AccountSettings("shop"),), optout_words_file=WORDS, **changes)


async def messages(store: Store, **wanted: Any) -> list[dict[str, Any]]:
    """Return what was kept, the oldest first."""
    return (await InboundStore(store).find(most=10_000, **wanted))[::-1]


async def events(store: Store, account: str = "shop") -> list[tuple[str, dict[str, Any]]]:
    """Return the events about replies that wait for an account: kind, JSON."""
    found = []
    for p in store.prefixes:
        rows = await store.client.execute("LRANGE", f"{p}out:{account}", 0, -1)
        found += [(chr(row[0]), orjson.loads(row[7:])) for row in rows if row[:1] in (b"i", b"o")]
    return found
