"""Typed configuration: what the TOML files under `--config` say, checked as a whole and frozen.

`load` reads `gateway.toml`, `channels.toml`, `routes.toml` and `accounts.toml` and answers a `Settings` value
or raises `ConfigError` with every problem found. The other layers read attributes; nobody else opens a
configuration file.
"""

from gateway.settings.loading import load, load_admin, load_local, load_without_secrets
from gateway.settings.packaged import packaged_config_dir
from gateway.settings.values import (
    AccountSettings,
    AdminSettings,
    ApiSettings,
    CategorySettings,
    ChannelSettings,
    ConfigSettings,
    ConsoleSettings,
    DispatchSettings,
    InboundSettings,
    KeywordSettings,
    LogSettings,
    OperatorSettings,
    PortedSettings,
    QualitySettings,
    RankedChannel,
    ReceiptsSettings,
    RouteMatch,
    RouteSettings,
    Settings,
    SignatureSettings,
    StoreSettings,
    TracingSettings,
    WebhookSettings,
    WebhooksSettings,
)

__all__ = [
    "AccountSettings",
    "AdminSettings",
    "ApiSettings",
    "CategorySettings",
    "ChannelSettings",
    "ConfigSettings",
    "ConsoleSettings",
    "DispatchSettings",
    "InboundSettings",
    "KeywordSettings",
    "LogSettings",
    "OperatorSettings",
    "PortedSettings",
    "QualitySettings",
    "RankedChannel",
    "ReceiptsSettings",
    "RouteMatch",
    "RouteSettings",
    "Settings",
    "SignatureSettings",
    "StoreSettings",
    "TracingSettings",
    "WebhookSettings",
    "WebhooksSettings",
    "load",
    "load_admin",
    "load_local",
    "load_without_secrets",
    "packaged_config_dir",
]
