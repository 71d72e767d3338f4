"""The configuration's revisions in the store: which one is in force, the history, the one proposal, who runs what.

Owns the moves `config_*` and the keys under `gw:{config}:` (their fields: `lua/config_propose.lua`). Refuses to know
what a configuration says: a revision is a text and its digest. Stands beside `store`; `gateway.reload` goes through the
protocol with it: propose, every member votes, commit or withdraw. All times are the store's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from gateway.store import keys
from gateway.store.client import Client

LAPSE_S: Final = 30.0
"""After so long a proposal ends by itself: whoever made it is gone."""
GONE_S: Final = 5.0
"""Without a beat for so long, a member counts as gone."""
FORGET_S: Final = 60.0
MOST_REVISIONS: Final = 100
MOST_HISTORY_BYTES: Final = 32 << 20
_US, _RS = b"\x1f", b"\x1e"


class WithClient(Protocol):
    """What is needed of a store."""

    client: Client


@dataclass(frozen=True, slots=True)
class State:
    """The revision in force (number 0: none was ever published), and the token of an open proposal ('': none)."""

    number: int = 0
    digest: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """One entry of the history; its text is read apart."""

    number: int
    digest: str
    at_ms: int
    by: str
    machine: str
    note: str
    size_bytes: int  # as it is kept


@dataclass(frozen=True, slots=True)
class Member:
    """A worker process that follows the configuration, as it told of itself."""

    incarnation: str
    machine: str
    role: str
    number: int  # among the machine's workers of that role
    revision: int  # in force there; 0: files that are not published yet
    digest: str
    files: str  # effective digest of its machine's files; '': they cannot be read
    problem: str  # why it does not run the revision in force, where it does not
    silent_s: float = 0.0

    @property
    def lives(self) -> bool:
        return self.silent_s < GONE_S

    @property
    def name(self) -> str:
        """How problems and people name it."""
        return f"{self.machine}, {self.role} {self.number}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What members are asked about."""

    token: str
    base: int
    digest: str
    text: bytes
    required: frozenset[str]  # incarnations that must agree


@dataclass(frozen=True, slots=True)
class Proposed:
    """What became of a proposal's first step. `word` is ok, busy (`about` says who, `age_s` since when) or moved."""

    word: str
    required: tuple[str, ...] = ()
    about: str = ""
    age_s: float = 0.0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """How the vote stands: committed (`number`), agreed, waiting (`waiting`), refused (`problems`) or lapsed."""

    word: str
    number: int = 0
    waiting: tuple[str, ...] = ()
    problems: tuple[tuple[str, list[dict[str, str]]], ...] = ()  # (incarnation, its problems)


class Revisions:
    """The revisions of one store."""

    def __init__(self, store: WithClient) -> None:
        self._client = store.client

    # --- looking

    async def state(self) -> State:
        """Return what is in force and whether something is proposed: one small key, read several times a second."""
        number, digest, token = await self._client.execute("HMGET", f"{keys.CONFIG}state", "number", "digest", "token")
        return State(int(number or 0), (digest or b"").decode(), (token or b"").decode())

    async def history(self) -> list[Revision]:
        """Return the revisions that are kept, the newest first."""
        flat = await self._client.execute("HGETALL", f"{keys.CONFIG}revisions")
        found = [_revision(int(flat[i]), flat[i + 1]) for i in range(0, len(flat), 2)]
        return sorted(found, key=lambda one: -one.number)

    async def revision(self, number: int) -> Revision | None:
        """Return one entry of the history, None where it is not kept."""
        raw = await self._client.execute("HGET", f"{keys.CONFIG}revisions", number)
        return _revision(number, raw) if raw is not None else None

    async def text(self, number: int) -> bytes | None:
        """Return a revision's text as it was proposed, None where it is not kept."""
        raw = await self._client.execute("HGET", f"{keys.CONFIG}texts", number)
        return bytes(raw) if raw is not None else None

    async def members(self) -> list[Member]:
        """Return every member heard of within the last minute, by machine, role and number."""
        flat = await self._client.execute("HGETALL", f"{keys.CONFIG}members")
        seconds, micros = await self._client.execute("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        found = [_member(flat[i], flat[i + 1], now_ms) for i in range(0, len(flat), 2)]
        return sorted(found, key=lambda one: (one.machine, one.role, one.number, one.incarnation))

    async def proposal(self, token: str) -> Proposal | None:
        """Return the open proposal, None where `token` is over."""
        names = ("token", "base", "digest", "text", "required")
        found, base, digest, text, required = await self._client.execute("HMGET", f"{keys.CONFIG}proposal", *names)
        if found is None or found.decode() != token:
            return None
        who = frozenset(one.decode() for one in required.split(_RS) if one)
        return Proposal(token, int(base), digest.decode(), bytes(text), who)

    # --- the protocol's moves

    async def beat(self, incarnation: str, said: Member) -> None:
        """Say that a member lives, and what it runs."""
        about = {
            name: getattr(said, name)
            for name in ("machine", "role", "number", "revision", "digest", "files", "problem")
        }
        await self._call("config_beat", incarnation, orjson.dumps(about), int(FORGET_S * 1000))

    async def leave(self, incarnation: str) -> None:
        """Say that a member ends."""
        await self._call("config_beat", incarnation, "", int(FORGET_S * 1000))

    async def propose(
        self, token: str, base: int, digest: str, text: bytes, *, by: str, machine: str, note: str = ""
    ) -> Proposed:
        """Propose a text as the revision behind `base`.

        Raises:
            StoreUnavailable: it may have been proposed; the same call again tells, `withdraw` ends it.
        """
        about = orjson.dumps({"by": by, "machine": machine, "note": note})
        args = (token, base, digest, text, about, int(LAPSE_S * 1000), int(GONE_S * 1000))
        word, *rest = await self._call("config_propose", *args)
        if word == b"ok":
            return Proposed("ok", tuple(one.decode() for one in rest))
        if word == b"busy":
            who = orjson.loads(rest[0])
            return Proposed("busy", about=f"{who['by']} on {who['machine']}", age_s=max(0, int(rest[1])) / 1000)
        return Proposed("moved", number=int(rest[0]))

    async def vote(self, token: str, incarnation: str, problems: list[dict[str, str]] | None) -> bool:
        """Agree (`problems` None) or say why not; returns False where the proposal is over."""
        vote = b"yes" if problems is None else b"no" + _US + orjson.dumps(problems)
        return bool(await self._call("config_vote", token, incarnation, vote))

    async def commit(self, token: str, *, dry: bool = False) -> Tally:
        """Put a proposal in force where all agreed, else say how the vote stands; `dry` never commits.

        Raises:
            StoreUnavailable: it may be in force; the same call again tells.
        """
        args = (token, int(GONE_S * 1000), MOST_REVISIONS, MOST_HISTORY_BYTES, "dry" if dry else "")
        word, *rest = await self._call("config_commit", *args)
        match word:
            case b"committed":
                return Tally("committed", number=int(rest[0]))
            case b"waiting":
                return Tally("waiting", waiting=tuple(one.decode() for one in rest))
            case b"refused":
                pairs = ((rest[i].decode(), orjson.loads(rest[i + 1])) for i in range(0, len(rest), 2))
                return Tally("refused", problems=tuple(pairs))
            case _:
                return Tally(word.decode())

    async def withdraw(self, token: str) -> None:
        """End a proposal without putting it in force."""
        await self._call("config_withdraw", token)

    async def _call(self, move: str, *args: Any) -> Any:
        return await self._client.call(move, [keys.CONFIG], args)


def _revision(number: int, raw: bytes) -> Revision:
    about, digest, at, size, _ = raw.rsplit(_US, 4)
    told = orjson.loads(about)
    return Revision(number, digest.decode(), int(at), told["by"], told["machine"], told["note"], int(size))


def _member(incarnation: bytes, raw: bytes, now_ms: int) -> Member:
    at, _, about = raw.partition(_US)
    return Member(incarnation.decode(), **orjson.loads(about), silent_s=max(0, now_ms - int(at)) / 1000)
