"""The keys that belong to a machine and not to the configuration all machines share.

Owns which they are: where this machine's store, listeners and how many processes it runs. They come from the machine's
own files always, no revision changes them, and a running process keeps those it was started with. Pure.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from gateway.settings.values import Settings

WHOLE_SECTIONS: Final = ("store",)
SINGLE_KEYS: Final = (
    ("api", "listen"),
    ("api", "workers"),
    ("admin", "listen"),
    ("dispatch", "workers"),
    ("webhooks", "workers"),
)


def without_local(tree: dict[str, Any]) -> dict[str, Any]:
    """Return gateway.toml's tree without a machine's keys; a section that held nothing else is gone."""
    shared: dict[str, Any] = {}
    for section, body in tree.items():
        if section in WHOLE_SECTIONS:
            continue
        if isinstance(body, dict):
            body = {key: value for key, value in body.items() if (section, key) not in SINGLE_KEYS}  # noqa: PLW2901
            if not body:
                continue
        shared[section] = body
    return shared


def only_local(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the part of gateway.toml's tree that `without_local` leaves out."""
    own: dict[str, Any] = {}
    for section, body in tree.items():
        if section in WHOLE_SECTIONS:
            own[section] = body
        elif isinstance(body, dict) and (
            found := {key: value for key, value in body.items() if (section, key) in SINGLE_KEYS}
        ):
            own[section] = found
    return own


def with_local(new: Settings, running: Settings) -> Settings:
    """Return `new` with the machine's keys of `running`."""
    return dataclasses.replace(
        new,
        store=running.store,
        api=dataclasses.replace(new.api, host=running.api.host, port=running.api.port, workers=running.api.workers),
        admin=dataclasses.replace(new.admin, host=running.admin.host, port=running.admin.port),
        dispatch=dataclasses.replace(new.dispatch, workers=running.dispatch.workers),
        webhooks=dataclasses.replace(new.webhooks, workers=running.webhooks.workers),
    )


def needs_restart(files: Settings, running: Settings) -> list[str]:
    """Return the machine's keys whose value in the files is not the one that runs."""
    names = [f"store.{f.name}" for f in dataclasses.fields(files.store) if _differ(files.store, running.store, f.name)]
    for section in ("api", "admin"):
        mine, theirs = getattr(files, section), getattr(running, section)
        if (mine.host, mine.port) != (theirs.host, theirs.port):
            names.append(f"{section}.listen")
    for section in ("api", "dispatch", "webhooks"):
        if _differ(getattr(files, section), getattr(running, section), "workers"):
            names.append(f"{section}.workers")
    return sorted(names)


def _differ(one: object, other: object, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))
