"""Does the store keep the promise of a 202? Its settings and state, compared with what the mode needs.

Owns the table of settings by durability mode, the limits above which intake stops (memory, disk), and the
check that runs at start and every 30 s. The decisions are pure functions over what CONFIG GET and INFO said;
only `inspect` talks to a server. Refuses to change a setting: a mismatch is named, and the gateway is not
ready until the operator has put it right. Stands beside the path: intake asks for the last verdict only.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from gateway.errors import StoreUnavailable

CHECK_EVERY_S: Final = 30.0
RECHECK_EVERY_S: Final = 1.0
"""Period while something is wrong, so that a store that came back is used within a second."""

MIN_VERSION: Final = (7, 0)
MIN_VERSION_REPLICATED: Final = (7, 2)
"""WAITAOF came with Redis 7.2; `strict` does not need it."""

MEMORY_LIMIT: Final = 0.80
MEMORY_LIMIT_VERIFICATION: Final = 0.90
"""Share of `maxmemory` above which intake stops. What is left finishes messages: settling frees memory."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why the store cannot keep the promise; `setting` names a Redis setting or INFO field."""

    setting: str
    detail: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Health:
    """What one check found.

    `problems` empty: the promise holds. `intake` is `open`, `verification` (only that category is accepted,
    from its reserve) or `closed`; `pressure` says why it is not open.
    """

    problems: tuple[Problem, ...]
    intake: str = "open"
    pressure: tuple[str, ...] = ()
    used_memory_bytes: int = 0
    max_memory_bytes: int = 0
    aof_bytes: int = 0
    server: str = ""  # e.g. "valkey 9.1.2"


# --- the settings a mode needs


@dataclass(frozen=True, slots=True)
class _Rule:
    setting: str
    wanted: str  # for people
    holds: Callable[[str], bool]


def _one_of(setting: str, *values: str) -> _Rule:
    return _Rule(setting, " or ".join(values), lambda found: found.casefold() in values)


def _number(setting: str, wanted: str, holds: Callable[[int], bool]) -> _Rule:
    return _Rule(setting, wanted, lambda found: found.isascii() and found.isdigit() and holds(int(found)))


_COMMON: Final = (
    _one_of("appendonly", "yes"),
    # While a rewrite runs, `yes` would stop fsyncing: acknowledged messages would wait in the page cache.
    _one_of("no-appendfsync-on-rewrite", "no"),
    _one_of("aof-use-rdb-preamble", "yes"),
    _one_of("maxmemory-policy", "noeviction"),
    _number("maxmemory", "a limit (bytes)", lambda n: n > 0),
)
_ALWAYS: Final = _one_of("appendfsync", "always")
_REPLICATION: Final = (
    # Without it a primary that lost its replicas goes on accepting what the next failover destroys.
    _number("min-replicas-to-write", "at least 1", lambda n: n >= 1),
    _number("min-replicas-max-lag", "1 to 5", lambda n: 1 <= n <= 5),
    _number("repl-diskless-sync-delay", "0 or 1", lambda n: n <= 1),
)
RULES: Final[dict[str, tuple[_Rule, ...]]] = {
    "strict": (*_COMMON, _ALWAYS),
    "replicated": (*_COMMON, _ALWAYS, *_REPLICATION),
    "relaxed": (*_COMMON, _one_of("appendfsync", "always", "everysec")),
}


def check_settings(durability: str, config: Mapping[str, str]) -> list[Problem]:
    """Compare CONFIG GET's answer with the mode; a setting that is missing counts as weaker.

    `config` maps names to values as text. Returns one Problem a setting, in the table's order.
    """
    problems = []
    for rule in RULES[durability]:
        found = config.get(rule.setting)
        if found is None:
            problems.append(Problem(rule.setting, f"cannot be read; {durability} needs {rule.wanted}"))
        elif not rule.holds(found):
            problems.append(Problem(rule.setting, f"is {found or 'empty'}; {durability} needs {rule.wanted}"))
    return problems


def setting_names(durability: str) -> list[str]:
    """Return the settings to ask CONFIG GET for."""
    return [rule.setting for rule in RULES[durability]]


# --- the server's own state


def check_server(durability: str, info: Mapping[str, Any]) -> list[Problem]:
    """Judge INFO: version floor, role, loading, and whether the last write of the AOF succeeded."""
    problems = []
    name, version = server_version(info)
    floor = MIN_VERSION_REPLICATED if durability == "replicated" else MIN_VERSION
    if version < floor:
        found = ".".join(map(str, version)) or "unknown"
        problems.append(Problem("version", f"{name} {found}; {durability} needs {floor[0]}.{floor[1]} or later"))
    if _flag(info, "loading"):
        problems.append(Problem("loading", "the server is reading its data"))
    if info.get("role", "master") != "master":
        problems.append(Problem("role", f"is {info['role']}; writes need the primary"))
    if "aof_enabled" in info and not _flag(info, "aof_enabled"):
        # `appendonly yes` can be set while the AOF could not be opened.
        problems.append(Problem("aof_enabled", "the append-only file is not in use"))
    status = info.get("aof_last_write_status", "ok")
    if status != "ok":
        problems.append(Problem("aof_last_write_status", f"is {status}; the disk may be full or failing"))
    return problems


def server_version(info: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Return name and the version that counts for the floor.

    Valkey also reports the Redis version it is compatible with (7.2.4), which is what scripts see.
    """
    name = "valkey" if "valkey_version" in info else "redis"
    numbers = re.findall(r"\d+", str(info.get("redis_version", "")))
    return name, tuple(int(n) for n in numbers[:3])


def judge_intake(
    *,
    used_memory: int,
    max_memory: int,
    disk_free: int | None = None,
    disk_total: int = 0,
    aof_bytes: int = 0,
) -> tuple[str, tuple[str, ...]]:
    """Decide what may still be accepted: (`open` | `verification` | `closed`, reasons).

    The disk needs room for a rewrite: max(10 %, 2 × AOF); below half of that verification stops too.
    `disk_free` is None when the store is on another machine.
    """
    level, reasons = 0, []
    if max_memory > 0:
        share = used_memory / max_memory
        if share > MEMORY_LIMIT:
            level = 2 if share > MEMORY_LIMIT_VERIFICATION else 1
            reasons.append(f"store memory at {share:.0%} of its limit")
    if disk_free is not None:
        wanted = max(disk_total // 10, 2 * aof_bytes)
        if disk_free < wanted:
            level = max(level, 2 if disk_free < wanted // 2 else 1)
            reasons.append(f"disk space low: {disk_free >> 20} MiB free, {wanted >> 20} MiB wanted")
    return ("open", "verification", "closed")[level], tuple(reasons)


def _flag(info: Mapping[str, Any], field: str) -> bool:
    return str(info.get(field, "0")) not in ("0", "no", "")


# --- asking a server


Execute = Callable[..., Awaitable[Any]]
"""Runs one command, as `Client.execute` or redis-py's `execute_command`; both shapes of answer are read."""


async def inspect(execute: Execute, durability: str, data_dir: Path | None = None) -> Health:
    """Ask one server and judge it; never raises: an unreachable server is a Problem too.

    `data_dir` is the embedded server's directory, whose disk is looked at; None for a server by URL.
    """
    try:
        info = parse_info(await execute("INFO"))
        problems = check_server(durability, info)
        problems += await _check_config(execute, durability)
    except (StoreUnavailable, TimeoutError, RedisError, OSError) as exc:
        detail = str(exc) if isinstance(exc, StoreUnavailable) else type(exc).__name__
        return Health((Problem("connection", detail),), "closed", ("store unreachable",))
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    aof = int(info.get("aof_current_size", 0))
    free, total = _disk(data_dir)
    intake, pressure = judge_intake(used_memory=used, max_memory=limit, disk_free=free, disk_total=total, aof_bytes=aof)
    name, _ = server_version(info)
    server = f"{name} {info.get('valkey_version', info.get('redis_version', ''))}".strip()
    return Health(tuple(problems), intake, pressure, used, limit, aof, server)


async def _check_config(execute: Execute, durability: str) -> list[Problem]:
    try:
        answer = await execute("CONFIG", "GET", *setting_names(durability))
    except ResponseError as exc:
        # Managed servers forbid CONFIG; what cannot be checked cannot be promised.
        return [_unreadable(durability, allowed=not isinstance(exc, NoPermissionError))]
    except StoreUnavailable as exc:
        if isinstance(exc.__cause__, NoPermissionError) or getattr(exc.__cause__, "word", "") == "NOPERM":
            return [_unreadable(durability, allowed=False)]
        raise
    return check_settings(durability, _pairs(answer))


def _unreadable(durability: str, *, allowed: bool) -> Problem:
    reason = "not answered by this server" if allowed else "not allowed for this user"
    return Problem("config|get", f"{reason}: the settings behind {durability} cannot be checked")


def parse_info(answer: Any) -> dict[str, Any]:
    """Return INFO as a mapping, from the server's text or from what redis-py made of it."""
    if isinstance(answer, Mapping):
        return dict(answer)
    lines = (line.partition(":") for line in _text(answer).splitlines())
    return {name: value for name, colon, value in lines if colon}


def _pairs(answer: Any) -> dict[str, str]:
    """Return CONFIG GET as a mapping: RESP3 answers a map, RESP2 a flat list."""
    if isinstance(answer, Mapping):
        return {_text(k): _text(v) for k, v in answer.items()}
    return {_text(k): _text(v) for k, v in zip(answer[::2], answer[1::2], strict=True)}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _disk(data_dir: Path | None) -> tuple[int | None, int]:
    if data_dir is None:
        return None, 0
    try:
        usage = shutil.disk_usage(data_dir)
    except OSError:
        return None, 0
    return usage.free, usage.total


async def watch(
    execute: Execute,
    durability: str,
    on_health: Callable[[Health], Awaitable[None] | None],
    data_dir: Path | None = None,
    *,
    every_s: float = CHECK_EVERY_S,
    recheck_s: float = RECHECK_EVERY_S,
) -> None:
    """Inspect for ever, each Health to `on_health`: every 30 s, each second while something is wrong."""
    while True:
        health = await inspect(execute, durability, data_dir)
        result = on_health(health)
        if result is not None:
            await result
        await asyncio.sleep(every_s if not health.problems and health.intake == "open" else recheck_s)
