"""The endpoints that an operator's commands and the console ask: queues, messages, accounts, routes, a gate's preview.

Owns which there are. Refuses to know what they answer. Stands between `app` and the endpoint files.
"""

from __future__ import annotations

from aiohttp import web

from gateway.admin.accounts_v1 import AccountsApi
from gateway.admin.gates_v1 import GatePreview
from gateway.admin.messages_v1 import MessagesApi
from gateway.admin.queues_v1 import QueuesApi
from gateway.admin.routes_v1 import RoutesApi
from gateway.admin.webhooks_v1 import WebhookRoutes
from gateway.settings import Settings
from gateway.store.audit import Audit
from gateway.store.gates import GateSweeps
from gateway.store.outbox import Outbox
from gateway.store.store import Store


def operators_routes(settings: Settings, store: Store, audit: Audit) -> list[web.RouteDef]:
    """Return the endpoints over one configuration and store, for the admin server to add."""
    return [
        *QueuesApi(settings, store).routes(),
        *MessagesApi(store, audit).routes(),
        *AccountsApi(settings, store, WebhookRoutes(settings, Outbox(store))).routes(),
        *RoutesApi(settings, store).routes(),
        *GatePreview(settings, GateSweeps(store)).routes(),
    ]
