"""The console's page and its files, as the package brings them: read once at the start, answered from memory.

Owns names, content types, validators and the version of files: the page names them as `static/VERSION/…`, which
browsers keep for good, so that a second visit asks for the page alone; after an upgrade it names others. A request
names a key of a table and never a path, so nothing outside `static/` can be asked for. Refuses to know who asks: the
page and its files are the same for everybody.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.errors import RequestError

FOLDER: Final = Path(__file__).parent / "static"
PAGE: Final = "index.html"
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}
"""A file of another ending is not served."""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str


class Files:
    """The files of one folder, by their path below it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in _TYPES)
        self._files = {path.relative_to(folder).as_posix(): _read(path) for path in found}
        every = hashlib.sha256("".join(name + file.etag for name, file in self._files.items()).encode())
        self.version = every.hexdigest()[:16]
        """Names this set of files: another as soon as one of them is."""
        page = self._files.get(PAGE)
        self._page = page.body.replace(b'="static/', f'="static/{self.version}/'.encode()) if page is not None else b""

    def names(self) -> list[str]:
        """Return what there is."""
        return list(self._files)

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints of the page and of its files."""
        return [
            web.get("/console", self.get_console),
            web.get("/console/", self.get_page),
            web.get("/console/static/{path:.+}", self.get_file),
        ]

    async def get_console(self, request: web.Request) -> web.Response:
        """Lead to the page, whose own paths are relative to it."""
        del request
        return web.Response(status=308, headers={"Location": "/console/"})

    async def get_page(self, request: web.Request) -> web.Response:
        """Answer the page."""
        del request
        return web.Response(body=self._page, headers={"Content-Type": _TYPES[".html"]})

    async def get_file(self, request: web.Request) -> web.Response:
        """Answer one file of the page. Of another version there is none: no page runs with files of two."""
        version, slash, name = request.match_info["path"].partition("/")
        versioned = bool(slash) and version == self.version
        file = self._files.get(name if versioned else request.match_info["path"])
        if file is None:
            raise RequestError("not_found", "there is no such thing here", status=404)
        kept = _FOR_GOOD if versioned else "no-cache"
        headers = {"Content-Type": file.content_type, "Cache-Control": kept, "ETag": file.etag}
        tags = request.headers.get("If-None-Match", "").split(",")
        if file.etag in {tag.strip().removeprefix("W/") for tag in tags}:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers=headers)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:20]}"')
