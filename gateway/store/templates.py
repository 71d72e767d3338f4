"""Templates that came by the admin API, as the store keeps them: immutable versions in one hash, and its revision.

Owns the fields of that hash (see `lua/template_put.lua`). Refuses to know what a template means: contents are JSON that
`gateway.templates` wrote. Stands beside `store`; followers ask for the revision and read all when it moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.store import keys
from gateway.store.store import Store

MOST_FIELDS: Final = 30_000
"""Three or four a version: some 8,000 versions, which every worker reads whole at its start."""
_US: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version as it was put."""

    id: str
    version: int
    content: bytes
    at_ms: int
    retired_at_ms: int  # 0: in use


class TemplateStore:
    """Reads and writes templates of one store."""

    def __init__(self, store: Store) -> None:
        self._client = store.client

    async def revision(self) -> int:
        """Return a number that moves with every change."""
        return int(await self._client.execute("HGET", keys.TEMPLATES, "rev") or 0)

    async def all(self) -> tuple[int, list[StoredVersion]]:
        """Return the revision and every version, retired ones too, by id and version."""
        flat = await self._client.execute("HGETALL", keys.TEMPLATES)
        fields = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
        found = []
        for name, content in fields.items():
            template, _, version = name.partition(_US)
            if version.isdigit():
                at, retired = (int(fields.get(f"{what}{_US}{name}", 0)) for what in ("at", "retired"))
                found.append(StoredVersion(template, int(version), content, at, retired))
        return int(fields.get("rev", 0)), sorted(found, key=lambda one: (one.id, one.version))

    async def put(self, template: str, content: bytes, version: int = 0) -> tuple[str, int]:
        """Keep a new version (0: whichever is next); returns put, same, conflict or full, and the version.

        Raises:
            StoreUnavailable: it may have been kept; the same call again says which version it is.
        """
        args: list[Any] = [template, version or "", content, MOST_FIELDS]
        word, number = await self._client.call("template_put", [keys.TEMPLATES], args)
        return word.decode(), int(number)

    async def retire(self, template: str, version: int = 0) -> int:
        """Take one version, or all there are (0), out of use; returns how many were in use, -1 for an unknown one."""
        return int(await self._client.call("template_retire", [keys.TEMPLATES], [template, version or ""]))
