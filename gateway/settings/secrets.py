"""Which of the settings are secrets: for the logs to mask, and to see that one was replaced.

Owns the list. Refuses to know where they come from (`references`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.settings.values import Settings


def secrets_of(settings: Settings) -> Iterator[str]:
    """Yield every secret of the configuration, in its order."""
    if settings.admin.token is not None:
        yield settings.admin.token
    yield from (operator.token for operator in settings.admin.operators)
    yield from (header for _, header in settings.tracing.headers)
    for channel in settings.channels:
        yield channel.password
        if channel.outbind_password is not None:
            yield channel.outbind_password
    for account in settings.accounts:
        if account.webhook is not None:
            yield from account.webhook.secrets
    userinfo = settings.store.url.rpartition("@")[0]
    if password := userinfo.rpartition(":")[2]:
        yield password


def same_secrets(one: Settings, other: Settings) -> bool:
    """Tell whether two settings of one configuration have the same secrets: what a reference stands for may change."""
    return list(secrets_of(one)) == list(secrets_of(other))
