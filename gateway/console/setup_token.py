"""The token that makes the console's first user: made while there is none, shown in a file that only we may read.

Owns the file `console-setup-token` of the data directory and the token's form. Refuses to know who uses it. The store
has its hash; no log has it, only the file's path.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.store.console_users import ConsoleUsers

log = logging.getLogger(__name__)

FILE: Final = "console-setup-token"
VALID_S: Final = 86_400.0
_RETRY_S: Final = 1.0


@dataclass
class SetupToken:
    """The set-up token of one machine."""

    users: ConsoleUsers
    data_dir: Path

    @property
    def path(self) -> Path:
        """Where it stands while it counts."""
        return self.data_dir / FILE

    async def at_start(self) -> bool:
        """Make one where there is no user, unless this machine's still counts; remove the file where there are users.

        Returns whether the store answered.
        """
        try:
            await self._at_start()
        except StoreUnavailable:
            return False
        except OSError as exc:
            log.warning("console: the set-up token cannot be written: %s", exc.strerror)
        return True

    async def later(self) -> None:
        """Do the same once the store answers."""
        while True:
            await asyncio.sleep(_RETRY_S)
            if await self.at_start():
                return

    async def _at_start(self) -> None:
        known = await asyncio.to_thread(self.read)
        if known:
            match await self.users.token_counts(digest_of(known)):
                case "ok":
                    log.info("console: nobody can sign in yet; the set-up token stands in %s", self.path)
                    return
                case "late":
                    await self.remove()
                    return
        if await self.make() is not None:
            log.info("console: nobody can sign in yet; a set-up token stands in %s for 24 hours", self.path)

    async def make(self) -> tuple[str, int] | None:
        """Make a new token and write its file; returns it and until when it counts (epoch ms), None with users there.

        Raises:
            StoreUnavailable: as for every call.
            OSError: the file cannot be written; the token counts.
        """
        token = secrets.token_urlsafe(32)
        until_ms = await self.users.take_token(digest_of(token), VALID_S)
        if not until_ms:
            await self.remove()
            return None
        await asyncio.to_thread(self._write, token)
        return token, until_ms

    async def remove(self) -> None:
        """Remove the file: its token counts no more."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.path.unlink, missing_ok=True)

    def read(self) -> str:
        """Return the file's token, '' where there is none."""
        return read_token(self.data_dir)

    def _write(self, token: str) -> None:
        new = self.path.with_name(f"{FILE}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
                stream.write(token + "\n")
            new.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise


def read_token(data_dir: Path) -> str:
    """Return the set-up token of a data directory, '' where there is none."""
    try:
        return (data_dir / FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def digest_of(token: str) -> str:
    """Return what the store knows a token by."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
