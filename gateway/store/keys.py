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
_CLEAR = bytes(_POOL_IDS)
_LOW_4_BITS = bytes(b & 0x0F for b in range(256))
_VARIANT = bytes(0x80 | (b & 0x3F) for b in range(256))
_tails: dict[int, list[str]] = {}
_heads: dict[int, str] = {}


def new_id(shard: int) -> str:
    """Return a new message id in the store's spelling: UUIDv7 with the shard number in rand_a bits 11..4.

    The 48-bit time is exactly eight characters; the other fourteen are made for 512 ids at a time (0.5 µs an
    id, where a system call and an encoding for each cost 2 µs).
    """
    tails = _tails.get(shard) or _make_tails(shard)
    ms = time.time_ns() // 1_000_000
    head = _heads.get(ms)
    if head is None:
        _heads.clear()  # it only holds the current millisecond
        head = _heads[ms] = base64.urlsafe_b64encode(ms.to_bytes(6, "big")).decode()
    return head + tails.pop()


def _make_tails(shard: int) -> list[str]:
    """Fill the shard's pool with the last 10 bytes of new ids, each as 14 characters."""
    # Twelve bytes an id, the last two zero: sixteen characters, of which the first fourteen say it all.
    raw = bytearray(os.urandom(12 * _POOL_IDS))
    raw[0::12] = bytes((0x70 | shard >> 4,)) * _POOL_IDS  # version 7 (RFC 9562 §5.7), high half of the shard
    low = (shard & 0x0F) << 4
    raw[1::12] = raw[1::12].translate(bytes(low | b for b in _LOW_4_BITS))
    raw[2::12] = raw[2::12].translate(_VARIANT)
    raw[10::12] = _CLEAR
    raw[11::12] = _CLEAR
    text = base64.urlsafe_b64encode(raw).decode()
    tails = [text[i : i + 14] for i in range(0, len(text), 16)]
    _tails[shard] = tails
    return tails
