"""All rules of a configuration in one value, so that a worker reads the tables once and hands them to whoever decides.

Owns which tables there are and that every wrong line of each is told. Refuses to know the rules themselves. Stands
between the settings and intake, dispatch and the admin listener.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import ConfigError, ConfigProblem
from gateway.policy.content import ContentWords, load_content_words
from gateway.policy.send_window import SendWindows, load_send_windows
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be sent, to whom and when, as far as it stands in tables."""

    windows: SendWindows
    words: ContentWords


def load_policy(settings: Settings) -> Policy:
    """Read the tables that `settings` names; one that it does not name is empty.

    Raises:
        ConfigError: with every line of every table that is wrong.
    """
    problems: list[ConfigProblem] = []
    windows, words = SendWindows(), ContentWords()
    try:
        windows = load_send_windows(settings)
    except ConfigError as exc:
        problems += exc.problems
    try:
        words = load_content_words(settings.content_words_file, [account.id for account in settings.accounts])
    except ConfigError as exc:
        problems += exc.problems
    if problems:
        raise ConfigError(problems)
    return Policy(windows, words)
