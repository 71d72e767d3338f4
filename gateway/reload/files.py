"""The machine's files while it runs: whether they changed, and what they say now.

Owns the looking, in a thread (a folder may lie on a slow disk), and reads files only when their times or sizes moved.
Refuses to judge what they say.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError
from gateway.settings.bundle import Bundle, signature


class Files:
    """One configuration folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._one_at_a_time = threading.Lock()  # two looks at once could leave one's digest under the other's signature
        self.signature: Any = None
        self.digest = ""
        """The effective digest; '' where the files cannot be read."""

    async def look(self) -> None:
        """Bring `signature` and `digest` up to date."""
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        with self._one_at_a_time:
            seen = signature(self.folder)
            if seen == self.signature:
                return
            try:
                self.digest = Bundle.read(self.folder).digest
            except ConfigError:
                self.digest = ""
            self.signature = seen
