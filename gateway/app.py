"""Runs one worker process: its configuration, its metrics and log, and the role it was started for.

Owns the names of the roles, and that a process imports only its own: an api worker does not carry the dispatcher's
memory. Refuses to know what a role does (`roles`) and how a worker lives (`worker`). Stands above both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Final

import uvloop

from gateway import journal, logs
from gateway.metrics import Metrics
from gateway.reload import Start, begin, resume
from gateway.reload.machine import ENV_STARTED
from gateway.settings.secrets import secrets_of
from gateway.worker import Launch, StoppedEarly, Worker, revision_in_force
from gateway.zeros import begin_at_zero

log = logging.getLogger(__name__)

ROLES: Final = ("api", "dispatch", "events", "admin")
"""Each a module of `gateway.roles` with a `run(worker)`."""


def run_worker(role: str, config_dir: Path) -> int:
    """Run one worker until SIGTERM, or until its supervisor is gone; returns the exit code.

    Raises:
        ConfigError: the configuration cannot be used, or no store is to be found.
    """
    start = _start(config_dir)
    settings = start.settings
    launch = Launch.from_environment(settings)
    metrics = Metrics(role, str(launch.number), launch.incarnation)
    begin_at_zero(metrics, role, settings)
    journal.configure(settings, role, str(launch.number), metrics)
    logs.protect(secrets_of(settings))
    for warning in start.warnings:
        log.warning("configuration: %s", warning)
    worker = Worker(role, settings, launch, metrics, config_dir=config_dir, start=start)
    run = import_module(f"gateway.roles.{role}").run
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.suppress(StoppedEarly):
        runner.run(run(worker))
    journal.close()
    return worker.exit_code


def _start(config_dir: Path) -> Start:
    """Return what a worker starts with: under a supervisor what this machine runs, alone what it decides itself."""
    if started := os.environ.get(ENV_STARTED):
        return resume(config_dir, Path(started))
    return begin(config_dir, ask=revision_in_force)
