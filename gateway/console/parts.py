"""What the console is made of, once for a process: files, passwords, sessions, users and the audit; and its settings.

Owns nothing but their coming together. A reload makes another `Desk` over the same parts, so that sessions live on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.console.files import Files
from gateway.console.passwords import Passwords
from gateway.console.sessions import Sessions
from gateway.console.setup_token import SetupToken
from gateway.settings import ConsoleSettings
from gateway.store.audit import Audit
from gateway.store.console_sessions import ConsoleSessions, Limits
from gateway.store.console_users import ConsoleUsers
from gateway.store.store import Store


@dataclass(frozen=True)
class Parts:
    """The parts that outlive a configuration."""

    files: Files
    passwords: Passwords
    sessions: Sessions
    users: ConsoleUsers
    audit: Audit
    token: SetupToken

    @classmethod
    def over(cls, store: Store, audit: Audit, data_dir: Path, passwords: Passwords | None = None) -> Parts:
        """Return the parts over one store; the set-up token's file stands in `data_dir`."""
        users, sessions = ConsoleUsers(store), Sessions(ConsoleSessions(store))
        return cls(Files(), passwords or Passwords(), sessions, users, audit, SetupToken(users, data_dir))


def limits_of(settings: ConsoleSettings) -> Limits:
    """Return how long a session lives by this configuration."""
    return Limits(settings.idle_s * 1000, settings.session_s * 1000)
