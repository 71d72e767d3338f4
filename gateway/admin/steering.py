"""The endpoints of the admin listener, as the admin role serves them: what operators' commands and the console ask.

Owns which there are, so that the tests of roles and audit have the same list as the role. Refuses to know what they
answer. Stands between the role and the endpoint files; what the server brings itself is in `server`.
"""

from __future__ import annotations

from aiohttp import web

from gateway.admin.accounts_v1 import AccountsApi
from gateway.admin.audit_v1 import AuditApi
from gateway.admin.blacklist_v1 import BlacklistApi
from gateway.admin.changes_v1 import ChangesApi
from gateway.admin.config_v1 import ConfigApi
from gateway.admin.erase_v1 import ErasureApi
from gateway.admin.events_v1 import EventStreams
from gateway.admin.gates_v1 import GatePreview
from gateway.admin.inbound_v1 import InboundApi
from gateway.admin.live import Live
from gateway.admin.messages_v1 import MessagesApi
from gateway.admin.overview_v1 import OverviewApi
from gateway.admin.queues_v1 import QueuesApi
from gateway.admin.routes_v1 import RoutesApi
from gateway.admin.templates_v1 import TemplatesApi
from gateway.admin.trial_v1 import TrialApi
from gateway.admin.webhooks_v1 import WebhookRoutes
from gateway.metrics import Metrics
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.store.audit import Audit
from gateway.store.changes import Changes
from gateway.store.gates import GateSweeps
from gateway.store.outbox import Outbox
from gateway.store.store import Store
from gateway.store.templates import TemplateStore
from gateway.templates.registry import Templates


def endpoints(
    settings: Settings,
    store: Store,
    router: Router,
    templates: Templates,
    audit: Audit,
    config: ConfigApi,
    metrics: Metrics | None = None,
) -> list[web.RouteDef]:
    """Return all endpoints of an admin worker but those that the server brings itself; `metrics` are the worker's."""
    return [
        *TemplatesApi(settings, router, templates, TemplateStore(store), audit).routes(),
        *ErasureApi(settings, store, audit).routes(),
        *WebhookRoutes(settings, Outbox(store)).routes(),
        *BlacklistApi(settings, store).routes(),
        *InboundApi(settings, store).routes(),
        *AuditApi(store).routes(),
        *TrialApi(settings, store, router, audit, metrics).routes(),
        *operators_routes(settings, store, audit),
        *config.routes(),
    ]


def operators_routes(settings: Settings, store: Store, audit: Audit) -> list[web.RouteDef]:
    """Return the endpoints over one configuration and store, for the admin server to add."""
    return [
        *QueuesApi(settings, store).routes(),
        *MessagesApi(store, audit, settings).routes(),
        *AccountsApi(settings, store, WebhookRoutes(settings, Outbox(store)), audit).routes(),
        *RoutesApi(settings, store).routes(),
        *GatePreview(settings, GateSweeps(store)).routes(),
    ]


def live_endpoints(live: Live, streams: EventStreams, store: Store, audit: Audit) -> list[web.RouteDef]:
    """Return the endpoints over what an admin worker reads for everybody who looks; they outlive reloads."""
    return [*OverviewApi(live).routes(), *ChangesApi(audit, Changes(store)).routes(), *streams.routes()]
