"""`/admin/v1/accounts`: what each account may do, what it did today, how its webhook is. No key and no secret.

    GET → {"accounts": [{id, keys, categories, senders, signatures, default_country, max_per_s, daily_quota,
        quota_used, per_number, when_capped, consent_required, link_domains, optout_scope, optout_categories, webhook}]}

`keys` is how many it has; `quota_used` what of today's quota (UTC) is spent or drawn by workers, None without a quota;
`webhook` is None or the entry of /admin/v1/webhooks. Owns the shape; refuses to know how limits are drawn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.webhooks_v1 import WebhookRoutes
from gateway.settings import AccountSettings, Settings
from gateway.store import keys
from gateway.store.store import Store


@dataclass
class AccountsApi:
    """What the endpoint works on; `settings` may be replaced."""

    settings: Settings
    store: Store
    webhooks: WebhookRoutes

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.get("/admin/v1/accounts", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """List the configured accounts."""
        del request
        accounts = self.settings.accounts
        entries = await self.webhooks.entries([a.id for a in accounts if a.webhook is not None])
        by_account = {entry["account"]: entry for entry in entries}
        return json_answer({"accounts": [await self._view(a, by_account.get(a.id)) for a in accounts]})

    async def _view(self, a: AccountSettings, webhook: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "id": a.id,
            "keys": len(a.key_hashes),
            "categories": [c.label for c in sorted(a.categories)],
            "senders": list(a.senders),
            "signatures": list(a.signatures),
            "default_country": a.default_country,
            "max_per_s": a.max_per_s,
            "daily_quota": a.daily_quota,
            "quota_used": await self._used(a) if a.daily_quota else None,
            "per_number": {c.label: [f"{n}/{s}s" for n, s in limits] for c, limits in a.per_number},
            "when_capped": a.when_capped,
            "consent_required": a.consent_required,
            "link_domains": None if a.link_domains is None else list(a.link_domains),
            "optout_scope": a.optout_scope,
            "optout_categories": [c.label for c in sorted(a.optout_categories)],
            "webhook": webhook,
        }

    async def _used(self, account: AccountSettings) -> int:
        day, used = await self.store.client.execute("HMGET", keys.account_key(account.id, "limit"), "day", "used")
        return int(used) if day is not None and int(day) == int(time.time()) // 86_400 else 0
