"""The templates in force in one worker: those of the file, and those of the store as they come and go.

Owns the choice of a version, who may use it, and the rhythm in which workers look for changes. Refuses to know how a
text is made (`render`) and how it is sent. Stands between the store and whoever needs a text (intake) or a template's
TLVs (dispatch).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import orjson

from gateway.errors import ConfigError, RequestError, StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, ValidMessage
from gateway.store.templates import StoredVersion, TemplateStore
from gateway.templates.load import read_template
from gateway.templates.model import Template, latest, registration_tlvs
from gateway.templates.params import check_params
from gateway.templates.render import Compiled, compile_template

logger = logging.getLogger(__name__)

EVERY_S: Final = 0.3
HOLD_S: Final = 0.5
"""How long an api worker waits with a version it has seen. By then every dispatch worker has it too, so that no message
reaches a carrier without the TLVs of its template; both together stay below the second that is promised."""


@dataclass(slots=True)
class _Version:
    compiled: Compiled
    seen_at: float  # monotonic; -inf: usable at once
    at_ms: int = 0  # when it was put; 0: it stands in the file
    retired_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """One version as it is listed."""

    template: Template
    at_ms: int
    retired_at_ms: int


@dataclass(slots=True)
class _Snapshot:
    versions: dict[str, dict[int, _Version]] = field(default_factory=dict)
    revision: int = -1


OfFile = dict[str, dict[int, _Version]]
"""The templates of a file by id and version, compiled."""


class Templates:
    """All templates that one worker knows."""

    def __init__(
        self,
        of_file: Iterable[Template],
        store: TemplateStore | None = None,
        metrics: Metrics | None = None,
        *,
        hold_s: float = HOLD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._hold_s = hold_s
        self._clock = clock
        self._file = compile_all(of_file)
        self._stored: dict[str, dict[int, _Version]] = {}
        self._now = _Snapshot(dict(self._file))
        self._told: set[tuple[str, int]] = set()

    def use(self, of_file: OfFile) -> None:
        """Take another file's templates (`compile_all`) into use, in place of those of the file before."""
        self._file = of_file
        self._now = _Snapshot({**self._stored, **of_file}, self._now.revision)

    # --- what intake asks

    def render(self, account: str, item: ValidMessage) -> ValidMessage:
        """Return the message with the text its template makes of its params, and the version that was taken.

        Raises:
            RequestError: unknown_template (also for one that the account may not use), template_retired,
                category_not_allowed, unknown_param, missing_param, invalid_param, template_failed or text_too_long.
        """
        compiled = self._choose(account, item.template, item.template_version)
        template = compiled.template
        if CATEGORY_LABELS[template.category] != item.category:
            detail = f"template {template.id} is for {CATEGORY_LABELS[template.category]}"
            raise RequestError("category_not_allowed", detail, field="category")
        text = compiled.render(check_params(template, item.params))
        asked = orjson.dumps(
            [item.template, item.template_version, dict(item.params)], option=orjson.OPT_SORT_KEYS
        ).decode()
        return ValidMessage({**item.given, "text": text, "template_version": template.version, "asked": asked})

    def _choose(self, account: str, name: str, version: int) -> Compiled:
        versions = self._now.versions.get(name, {})
        ripe = self._clock() - self._hold_s
        retired = False
        for number in (version,) if version else reversed(versions):
            one = versions.get(number)
            if one is None or one.seen_at > ripe or not _may_use(account, one):
                continue
            if not one.retired_at_ms:
                return one.compiled
            retired = True
        if retired:
            raise RequestError("template_retired", "the template was taken out of use", field="template")
        if version and any(_may_use(account, one) for one in versions.values()):
            raise RequestError("unknown_template", "the template has no such version", field="template_version")
        raise RequestError("unknown_template", "there is no such template for this account", field="template")

    # --- what dispatch asks

    def tlvs(self, dims: bytes, carried: bytes, channel: str) -> tuple[tuple[int, bytes], ...]:
        """Return the TLVs that a claimed message goes with on a channel; its version may be retired by now.

        `dims` and `carried` are the record's: the labels it is counted under, and the JSON that holds the version.
        """
        _, carrier, _, name, _ = dims.split(b"\x1f", 4)
        if not name:
            return ()
        version = int(orjson.loads(carried).get("t", 0))
        one = self._now.versions.get(name.decode(), {}).get(version)
        if one is None:
            place = (name.decode(), version)
            if place not in self._told and len(self._told) < 1000:
                self._told.add(place)
                logger.warning("template %s version %d is not known here: its messages go without TLVs of it", *place)
            return ()
        return registration_tlvs(one.compiled.template, channel, carrier.decode())

    # --- what an operator asks

    def known(self) -> list[Known]:
        """Return every version, those of the file first, by id and version."""
        found = [
            Known(one.compiled.template, one.at_ms, one.retired_at_ms)
            for versions in self._now.versions.values()
            for one in versions.values()
        ]
        return sorted(found, key=lambda k: (k.template.source, k.template.id, k.template.version))

    def in_file(self, name: str) -> bool:
        """Whether the file has this id, which the store may not have then."""
        return name in self._file

    def compiled(self, name: str, version: int = 0) -> Compiled | None:
        """Return a version, the latest in use for 0; None where there is none. Looks at no account."""
        versions = self._now.versions.get(name, {})
        retired = {number for number, one in versions.items() if one.retired_at_ms}
        one = versions.get(version or latest(versions, retired))
        return one.compiled if one is not None else None

    # --- following the store

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.refresh()
            except Exception:
                # The boundary of this task: without it a fault of ours would freeze what is known, silently.
                logger.exception("templates: a refresh failed")

    async def refresh(self) -> None:
        """Take in what changed; a store that does not answer leaves what is known."""
        if self._store is None:
            return
        try:
            if await self._store.revision() == self._now.revision:
                return
            revision, stored = await self._store.all()
        except StoreUnavailable:
            return
        # In a thread: the first template loads the engine, and thousands take their time to compile.
        fresh = await asyncio.to_thread(self._taken_in, stored)
        self._stored = fresh
        self._now = _Snapshot({**fresh, **self._file}, revision)
        if self._metrics is not None:
            self._metrics.gauge("templates").n = sum(len(versions) for versions in self._now.versions.values())

    def _taken_in(self, stored: Iterable[StoredVersion]) -> dict[str, dict[int, _Version]]:
        found: dict[str, dict[int, _Version]] = {}
        first = self._now.revision < 0  # at a start there is nobody to wait for
        for one in stored:
            before = self._now.versions.get(one.id, {}).get(one.version)
            if before is not None and before.at_ms == one.at_ms:
                compiled, seen_at = before.compiled, before.seen_at
            else:
                try:
                    compiled = compile_template(read_template(orjson.loads(one.content), version=one.version))
                except (ConfigError, ValueError) as exc:
                    # Another version of the gateway wrote it. What it is made of is for the operator who put it.
                    logger.error("template %s version %d cannot be used: %s", one.id, one.version, type(exc).__name__)
                    continue
                seen_at = float("-inf") if first else self._clock()
            found.setdefault(one.id, {})[one.version] = _Version(compiled, seen_at, one.at_ms, one.retired_at_ms)
        return found


def compile_all(of_file: Iterable[Template]) -> OfFile:
    """Compile a file's templates; thousands take their time."""
    found: OfFile = {}
    for template in sorted(of_file, key=lambda one: one.version):
        found.setdefault(template.id, {})[template.version] = _Version(compile_template(template), float("-inf"))
    return found


def _may_use(account: str, one: _Version) -> bool:
    accounts = one.compiled.template.accounts
    return not accounts or account in accounts
