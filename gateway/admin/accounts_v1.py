"""`/admin/v1/accounts`: what each account may do, what it did today, how its webhook is, and a new key for it.

    GET ?account=shop → {"accounts": [{id, keys, key_list, categories, senders, signatures, default_country, max_per_s,
        daily_quota, quota_used, quota_reserved, today, day_ends_at, per_number, when_capped, consent_required,
        link_domains, optout_scope, optout_categories, webhook}]}
    POST …/{id}/key {} → {"account", "key", "key_hash", "key_id", "line", "keys"}

`keys` is how many it has, `key_list` what tells them apart: [{hash (its first digits), id, last_used_at}], both None
until a key was used. `today` counts what was accepted since midnight UTC by category, test messages left out;
`quota_used` is their sum, `quota_reserved` what else of the quota is gone: workers draw it in advance, and test
messages spend it too. Both are None without a quota. A new key is answered once and kept nowhere; `line` is what its
account then has in accounts.toml. Owns the shapes; refuses to know how limits are drawn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, no_fields, noted, read_object
from gateway.admin.webhooks_v1 import WebhookRoutes
from gateway.apikey import key_id, new_key
from gateway.errors import RequestError
from gateway.model import CATEGORY_LABELS, iso
from gateway.settings import AccountSettings, Settings
from gateway.store.audit import Audit
from gateway.store.key_uses import KeyUses
from gateway.store.statistics import Statistics
from gateway.store.stats_table import PATH, US, Table
from gateway.store.store import Store

MAX_KEYS: Final = 16
"""As many as accounts.toml takes for an account."""
_HASH_SHOWN: Final = 8
_CATEGORY: Final = 5  # among the labels of a table of statistics
_ACCEPTED: Final = f"accepted{US}"
_DAY_S: Final = 86_400


@dataclass
class AccountsApi:
    """What the endpoints work on; `settings` may be replaced."""

    settings: Settings
    store: Store
    webhooks: WebhookRoutes
    audit: Audit | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        return [web.get("/admin/v1/accounts", self.get), web.post("/admin/v1/accounts/{id}/key", self.make_key)]

    async def get(self, request: web.Request) -> web.Response:
        """List the configured accounts, or the one that is asked for."""
        only = request.query.get("account", "")
        accounts = [a for a in self.settings.accounts if only in ("", a.id)]
        if only and not accounts:
            raise RequestError("not_found", "no such account is configured", field="account", status=404)
        entries = await self.webhooks.entries([a.id for a in accounts if a.webhook is not None])
        by_account = {entry["account"]: entry for entry in entries}
        day = int(time.time()) // _DAY_S
        today = await accepted_on(Statistics(self.store), day, [only] if only else None)
        return json_answer({"accounts": [await self._view(a, by_account.get(a.id), day, today) for a in accounts]})

    async def make_key(self, request: web.Request) -> web.Response:
        """Make a new key for an account; it is shown once and kept nowhere.

        Raises:
            RequestError: there is no such account (404), or it has as many keys as it may (409).
        """
        no_fields(await read_object(request))
        account = next((a for a in self.settings.accounts if a.id == request.match_info["id"]), None)
        if account is None:
            raise RequestError("not_found", "no such account is configured", field="id", status=404)
        if len(account.key_hashes) >= MAX_KEYS:
            detail = f"it has {MAX_KEYS} keys, and no more are taken: remove one that is not used from accounts.toml"
            raise RequestError("too_many_keys", detail, status=409)
        key, key_hash = new_key()
        hashes = [*account.key_hashes, key_hash]
        if self.audit is not None:
            noted(request)
            await self.audit.note(actor_of(request), "account.key", account.id, key=key_id(key))
        return json_answer(
            {
                "account": account.id,
                "key": key,
                "key_hash": key_hash,
                "key_id": key_id(key),
                "line": "key_hashes = [" + ", ".join(f'"{one}"' for one in hashes) + "]",
                "keys": len(hashes),
            }
        )

    async def _view(
        self, a: AccountSettings, webhook: dict[str, Any] | None, day: int, today: dict[str, dict[str, int]]
    ) -> dict[str, Any]:
        accepted = {c.label: today.get(a.id, {}).get(c.label, 0) for c in sorted(a.categories)}
        accepted |= today.get(a.id, {})  # also of a category that it may no longer send
        used = sum(accepted.values())
        drawn = await self.store.quota_drawn(a.id, day) if a.daily_quota else 0
        return {
            "id": a.id,
            "keys": len(a.key_hashes),
            "key_list": await self._keys(a),
            "categories": [c.label for c in sorted(a.categories)],
            "senders": list(a.senders),
            "signatures": list(a.signatures),
            "default_country": a.default_country,
            "max_per_s": a.max_per_s,
            "daily_quota": a.daily_quota,
            "quota_used": used if a.daily_quota else None,
            "quota_reserved": max(0, drawn - used) if a.daily_quota else None,
            "today": accepted,
            "day_ends_at": iso((day + 1) * _DAY_S * 1000),
            "per_number": {c.label: [f"{n}/{s}s" for n, s in limits] for c, limits in a.per_number},
            "when_capped": a.when_capped,
            "consent_required": a.consent_required,
            "link_domains": None if a.link_domains is None else list(a.link_domains),
            "optout_scope": a.optout_scope,
            "optout_categories": [c.label for c in sorted(a.optout_categories)],
            "webhook": webhook,
        }

    async def _keys(self, account: AccountSettings) -> list[dict[str, Any]]:
        uses = await KeyUses(self.store).of(account.id) if account.key_hashes else {}
        found = []
        for key_hash in account.key_hashes:
            digest = key_hash.removeprefix("sha256:")
            use = uses.get(digest)
            at = iso(use.at_s * 1000) if use else None
            found.append(
                {"hash": digest[:_HASH_SHOWN], "id": (use.key_id or None) if use else None, "last_used_at": at}
            )
        return found


async def accepted_on(statistics: Statistics, day: int, accounts: list[str] | None) -> dict[str, dict[str, int]]:
    """Return how many messages were accepted on a day (epoch days): account → category → number.

    Raises:
        StoreUnavailable: as `Statistics.read`.
    """
    found: dict[str, dict[str, int]] = {}

    def add(account: str, table: Table) -> None:
        categories = [label.split(US)[_CATEGORY] for label in table.labels]
        sums = found.setdefault(account, {})
        for columns in table.slots.values():
            for measure, places, numbers in columns:
                if table.measures[measure] != _ACCEPTED:
                    continue
                for place, n in zip(places, numbers, strict=True):
                    label = CATEGORY_LABELS[int(categories[place])]
                    sums[label] = sums.get(label, 0) + n

    await statistics.read([(day, False)], accounts, add, PATH)
    return found
