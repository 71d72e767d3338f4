"""The only file that builds a Redis key, and the home of message ids and shard numbers.

Every key of a message carries the tag `{sNN}` of its home shard, so that each atomic move touches one slot. A script
gets the prefix `gw:{sNN}:` as KEYS[1] and appends the families named in `docs/life_of_a_message.md`; keys that belong
to a channel or an account carry a tag of their own.
"""

from __future__ import annotations

import base64
import os
import time
from zlib import crc32

META = "gw:meta"
WAKE_CHANNEL = "gw:wake"


def prefix(shard: int) -> str:
    """Return the prefix that every key of a shard begins with."""
    return f"gw:{{s{shard:02d}}}:"


def channel_key(channel: str, family: str) -> str:
    """Return a key of a channel: its rate bucket or its bind slots."""
    return f"gw:{{ch:{channel}}}:{family}"


def account_key(account: str, family: str) -> str:
    """Return a key of an account: its rate and quota counters."""
    return f"gw:{{a:{account}}}:{family}"


def shard_of(msisdn: str, shards: int) -> int:
    """Return the home shard of a recipient: crc32 over its E.164 digits."""
    return crc32(msisdn.encode()) % shards if shards > 1 else 0


def shard_of_smsc_id(channel: str, smsc_id: str, shards: int) -> int:
    """Return the shard that holds the correlation of one SMSC id on one channel."""
    return crc32(f"{channel}:{smsc_id}".encode()) % shards if shards > 1 else 0


_POOL_IDS = 512
_random = bytearray()
_offset = 0


def new_id(shard: int) -> str:
    """Return a new message id in the store's spelling: UUIDv7 with the shard number in rand_a bits 11..4.

    Randomness is read from the kernel for 512 ids at a time: one system call an id would cost more than the rest.
    """
    global _random, _offset
    if _offset >= len(_random):
        _random = bytearray(os.urandom(10 * _POOL_IDS))
        _offset = 0
    r = _random[_offset : _offset + 10]
    _offset += 10
    r[0] = 0x70 | (shard >> 4)
    r[1] = ((shard & 0x0F) << 4) | (r[1] & 0x0F)
    r[2] = 0x80 | (r[2] & 0x3F)
    raw = (time.time_ns() // 1_000_000).to_bytes(6, "big") + r
    return base64.urlsafe_b64encode(raw)[:22].decode()
