"""A channel that lists signatures, against a simulated SMSC: its source address, and what it will not send."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import SignatureNotCarried
from gateway.settings import SignatureSettings
from gateway.simulator.ledger import Submit
from gateway.smpp.channel import Outbound
from tests.support.channel import Heard, bound_channel, outbound
from tests.support.scenario import carrier
from tests.support.until import until

SIGNATURES = (SignatureSettings("Acme", "01"), SignatureSettings("Bank"))
LONG = "【Acme】" + "长" * 150


async def seen(*outs: Outbound, **settings: Any) -> list[Submit]:
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard, signatures=SIGNATURES, **settings) as channel:
        parts = sum(channel.submit(out, i).bit_count() for i, out in enumerate(outs))
        await until(lambda: len(smsc.ledger.submits) == parts)
        return list(smsc.ledger.submits)


def ucs2(text: str, **more: Any) -> Outbound:
    return outbound(text, encoding="ucs2", **more)


async def test_access_number_extension_and_the_applications_digits() -> None:
    rows = await seen(
        ucs2("【Acme】x"),
        ucs2("x【Bank】"),
        ucs2("【Ａcme】x", sender="Letters", ext="77"),
        ucs2("【Acme】x", ext="12345678901"),  # no room: left out whole
        access_number="10690000",
    )
    assert [row.source for row in rows] == ["1069000001", "10690000", "106900000177", "1069000001"]
    # the usual rule by kind: eight digits alone are a short code, more from 10… an access number
    assert [(row.source_ton, row.source_npi) for row in rows] == [(0, 0), (3, 0), (0, 0), (0, 0)]


async def test_without_access_number_the_sender_stands_there() -> None:
    rows = await seen(ucs2("【Acme】x"), ucs2("【Acme】x", sender="Other"), source=(("Other", "Letters"),))
    assert [row.source for row in rows] == ["106901", "Letters"]


@pytest.mark.parametrize("long", ["udh", "sar"])
async def test_every_part_of_a_long_message_has_it(long: str) -> None:
    rows = await seen(ucs2(LONG), access_number="10690000", long=long)
    assert [row.source for row in rows] == ["1069000001"] * 3


async def test_what_is_not_registered_is_never_sent() -> None:
    heard = Heard()
    async with (
        carrier() as smsc,
        bound_channel(smsc, heard, signatures=SIGNATURES, access_number="10690000") as channel,
    ):
        for text in ("【Other】x", "x", "【】Acme", "x【Other】", "【acme】x"):
            for _ in range(2):  # also when it is known
                with pytest.raises(SignatureNotCarried, match="does not carry") as caught:
                    channel.submit(ucs2(text), None)
                assert "Other" not in str(caught.value)
        assert channel.submit(ucs2("【Acme】x"), None) == 1
        await until(lambda: len(heard.answers) == 1)
        assert len(smsc.ledger.submits) == 1
