"""`smsgw check`: everything `load` proves, and what needs the data tables and the machine besides.

Owns the checks that are too slow or too far up for `settings`: that a route's carrier exists in its country's
number segments, that the tables load, that named programs and folders can be used. Starts nothing and changes
nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gateway.dlr.reasons import load_reasons
from gateway.errors import ConfigError, ConfigProblem
from gateway.policy.optout import load_optout_words
from gateway.policy.policy import load_policy
from gateway.routing.loader import build_codes, build_router, load_all_segments
from gateway.routing.ported_table import PortedTables, ported_folder
from gateway.settings import Settings, load
from gateway.templates.load import load_templates


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found; `settings` is None when the files alone are already wrong."""

    settings: Settings | None
    problems: tuple[ConfigProblem, ...]
    warnings: tuple[ConfigProblem, ...]


def check(config_dir: Path, env: Mapping[str, str] = os.environ) -> CheckReport:
    """Return every problem and warning of a configuration folder; never raises ConfigError."""
    try:
        settings = load(config_dir, env)
    except ConfigError as exc:
        return CheckReport(None, tuple(exc.problems), ())
    problems = table_problems(settings) + _store_problems(settings)
    warnings = list(settings.warnings) + _token_warnings(settings) + _telling_warnings(settings)
    return CheckReport(settings, tuple(problems), tuple(warnings))


def require_admin_token(settings: Settings) -> None:
    """Refuse to serve the admin listener without a token.

    Raises:
        ConfigError: it is not set.
    """
    if settings.admin.token is None:
        reason = "not set; put it in the environment variable that gateway.toml names (SMSGW_ADMIN_TOKEN)"
        raise ConfigError([ConfigProblem("gateway.toml", "admin.token", reason)])


def _telling_warnings(settings: Settings) -> list[ConfigProblem]:
    """Say what logs and traces lack here; the gateway runs without them."""
    found = []
    file = settings.log.file
    if file is not None and not os.access(file if file.exists() else file.parent, os.W_OK):
        found.append(ConfigProblem("gateway.toml", "log.file", "cannot be written: standard error will take its place"))
    if settings.tracing.sample and find_spec("opentelemetry") is None:
        reason = 'the packages are missing (pip install "smsgw[otel]"): nothing will be traced'
        found.append(ConfigProblem("gateway.toml", "tracing.sample", reason))
    return found


def _token_warnings(settings: Settings) -> list[ConfigProblem]:
    if settings.admin.token is not None:
        return []
    return [ConfigProblem("gateway.toml", "admin.token", "not set: `smsgw run` will refuse to start")]


def table_problems(settings: Settings) -> list[ConfigProblem]:
    """Compile the routes with the number segments, as a worker would at its start, and look at what was imported."""
    problems: list[ConfigProblem] = []
    try:
        build_router(settings)
    except ConfigError as exc:
        return list(exc.problems)
    try:
        build_codes(settings)
        load_reasons(settings.failure_codes_file, settings.channels)
        problems += _channel_carriers(settings)
    except ConfigError as exc:
        problems += exc.problems
    try:
        load_optout_words(settings.optout_words_file)
    except ConfigError as exc:
        problems += exc.problems
    try:
        load_policy(settings)
    except ConfigError as exc:
        problems += exc.problems
    try:
        load_templates(settings)
    except ConfigError as exc:
        problems += exc.problems
    return problems + PortedTables(ported_folder(settings.store.data_dir)).problems()


def _channel_carriers(settings: Settings) -> list[ConfigProblem]:
    """Return the channels whose carrier no number segment belongs to: their codes would be read as nobody's."""
    tables = load_all_segments(settings.number_segments_files)
    known = {name for table in tables.values() for name in table.carriers}
    return [
        ConfigProblem("channels.toml", f"channel[{channel.id}].carrier", "no number segment belongs to it")
        for channel in settings.channels
        if channel.carrier and channel.carrier not in known
    ]


def _store_problems(settings: Settings) -> list[ConfigProblem]:
    store = settings.store
    if store.url:
        return []
    problems = []
    if store.binary and shutil.which(store.binary) is None:
        reason = "no such program, or it may not be executed"
        problems.append(ConfigProblem("gateway.toml", "store.binary", reason))
    folder = store.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        problems.append(ConfigProblem("gateway.toml", "store.data_dir", "cannot be written to"))
    return problems
