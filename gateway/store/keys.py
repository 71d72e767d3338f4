"""The only file that builds a Redis key, and the home of message ids and shard numbers.

Every key of a message carries the tag `{sNN}` of its home shard, so that each atomic move touches one slot. A script
gets the prefix `gw:{sNN}:` as KEYS[1] and appends the families named in `docs/life_of_a_message.md`; keys that belong
to a channel or an account carry a tag of their own.
"""

from __future__ import annotations

import os
import time
from zlib import crc32

META = "gw:meta"
HEALTH = "gw:health"
SESSIONS = "gw:{gw:health}:sessions"
"""What workers say of their sessions; in the cluster slot of HEALTH, as CHANGES is: one move writes two of them."""
CHANGES = "gw:{gw:health}:changes"
"""What changed by itself lately: breakers, channels lost and back, workers (`store/changes.py`)."""
SHARES = "gw:shares"
TEMPLATES = "gw:templates"
SHARES_TURN = "gw:shares:turn"
STATISTICS_TURN = "gw:statistics:turn"
GATES_TURN = "gw:gates:turn"
HOOKS = "gw:{hooks}:"
"""What every key begins with that all webhooks share: who serves whom, what endpoints are like, replays."""
CONFIG = "gw:{config}:"
"""What every key of the configuration's revisions begins with (`store/revisions.py`)."""
CONSOLE = "gw:{console}:"
"""What every key of the console begins with: its users, their sessions, tries to sign in (`store/console_users.py`)."""
WAKE_CHANNEL = "gw:wake"
SHARD_DIGITS = 7


def prefix(shard: int) -> str:
    """Return the prefix that every key of a shard begins with."""
    return f"gw:{{s{shard:02d}}}:"


def names_a_shard(word: bytes) -> bool:
    """Tell whether a word on the wake channel is a shard's prefix: its queues got work."""
    return word.startswith(b"gw:{s")


def channel_key(channel: str, family: str) -> str:
    """Return a key of a channel: its rate bucket or its bind slots."""
    return f"gw:{{ch:{channel}}}:{family}"


def account_key(account: str, family: str) -> str:
    """Return a key of an account: its rate and quota counters."""
    return f"gw:{{a:{account}}}:{family}"


def shard_of(msisdn: str, shards: int) -> int:
    """Return the home shard of a recipient: crc32 over the last seven of its digits.

    The last ones only, because a receipt must find its message's shard by its address, and carriers write that with or
    without the country code or a trunk zero.
    """
    return crc32(msisdn[-SHARD_DIGITS:].encode()) % shards if shards > 1 else 0


_POOL_IDS = 512
_LOW_4_BITS = bytes(b & 0x0F for b in range(256))
_VARIANT = bytes(0x80 | (b & 0x3F) for b in range(256))
_tails: dict[int, list[bytes]] = {}


def new_id(shard: int) -> bytes:
    """Return a new message id in the store's spelling: UUIDv7 with the shard number in rand_a bits 11..4.

    The ten bytes behind the time are made for 512 ids at once (a system call for each costs 1 µs).
    """
    tails = _tails.get(shard) or _make_tails(shard)
    return (time.time_ns() // 1_000_000).to_bytes(6, "big") + tails.pop()


def _make_tails(shard: int) -> list[bytes]:
    """Fill the shard's pool with the last ten bytes of new ids."""
    raw = bytearray(os.urandom(10 * _POOL_IDS))
    raw[0::10] = bytes((0x70 | shard >> 4,)) * _POOL_IDS  # version 7 (RFC 9562 §5.7), high half of the shard
    low = (shard & 0x0F) << 4
    raw[1::10] = raw[1::10].translate(bytes(low | b for b in _LOW_4_BITS))
    raw[2::10] = raw[2::10].translate(_VARIANT)
    tails = _tails[shard] = [bytes(raw[i : i + 10]) for i in range(0, len(raw), 10)]
    return tails
