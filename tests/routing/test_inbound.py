"""gateway.routing.inbound: whose a reply is, from the number it was sent to."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.model import Secret
from gateway.routing.inbound import NOBODY, Owner, ReturnRoutes
from gateway.settings import AccountSettings, ChannelSettings, Settings, SignatureSettings
from gateway.smpp.address import extended, signed_source


def channel(name: str, *signatures: SignatureSettings, **more: object) -> ChannelSettings:
    return ChannelSettings(name, "127.0.0.1", 2775, "acme", Secret("x"), signatures=signatures, **more)  # type: ignore[arg-type]


ACCOUNTS = (
    AccountSettings("shop", senders=("1069", "Acme"), signature=("【Acme】", "【Both】")),
    AccountSettings("bank", senders=("1068",), signature=("【Bank】", "【Both】")),
)
CHANNELS = (
    channel(
        "a",
        SignatureSettings("Acme", "01"),
        SignatureSettings("Club", "012", "bank"),
        SignatureSettings("Bank", "", "bank"),
        SignatureSettings("Both", "9"),
        SignatureSettings("*", "77", "shop"),
        access_number="10690000",
    ),
    channel("b", SignatureSettings("Acme", "5"), SignatureSettings("Bank"), source=(("1068", "20680000"),)),
    channel("c"),
    channel("d", SignatureSettings("Acme"), SignatureSettings("Both", "", "shop"), SignatureSettings("Bank")),
    channel("e", SignatureSettings("Acme"), SignatureSettings("Club", "", "shop"), access_number="1"),
)
ROUTES = ReturnRoutes(Settings(Path("config"), channels=CHANNELS, accounts=ACCOUNTS))


@pytest.mark.parametrize(
    ("name", "address", "owner"),
    [
        ("a", b"1069000001", Owner("shop", "Acme")),  # the only account that has it
        ("a", b"+1069000001\x00", Owner("shop", "Acme")),
        ("a", b"10690000015", Owner("shop", "Acme")),  # digits of the application's behind it
        ("a", b"10690000012", Owner("bank", "Club")),  # the longest number wins
        ("a", b"10690000", Owner("bank", "Bank")),
        ("a", b"106900004", Owner("bank", "Bank")),
        ("a", b"106900009", Owner("", "Both")),  # two accounts have it and none is named
        ("a", b"1069000077", Owner("shop", "")),
        ("a", b"1069000", NOBODY),
        ("a", b"", NOBODY),
        ("a", b"\xff\xfe", NOBODY),
        ("b", b"10695", Owner("shop", "Acme")),
        ("b", b"206800005", Owner("shop", "Acme")),
        ("b", b"20680000", Owner("bank", "Bank")),
        ("b", b"1068", NOBODY),  # it is never sent: the channel writes another number for it
        ("c", b"1069", NOBODY),  # lists no signatures
        ("d", b"1069", Owner("", "")),  # one number for several, of more than one account
        ("e", b"1", Owner("shop", "")),  # and of one account
        ("nobody", b"1069", NOBODY),
    ],
)
def test_whose_a_reply_is(name: str, address: bytes, owner: Owner) -> None:
    assert ROUTES.of(name, address) == owner


@pytest.mark.parametrize(("sender", "ext"), [("1069", ""), ("1068", ""), ("1069", "88"), ("1068", "123456")])
def test_a_reply_to_what_was_sent_finds_its_signature(sender: str, ext: str) -> None:
    """What `signed_source` writes, `ReturnRoutes` reads back."""
    for one in CHANNELS[:2]:
        for entry in one.signatures:
            if entry.name in ("Acme", "Club"):
                source = signed_source(one, entry.name, sender)
                assert source is not None
                reply = extended(source, ext).encode()
                assert ROUTES.of(one.id, reply).signature == entry.name


@pytest.mark.parametrize(
    ("signature", "sender", "expected"),
    [
        ("Acme", "1069", "10695"),
        ("Bank", "1068", "20680000"),
        ("Acme", "Letters", "Letters"),  # no digits behind a name
        ("Acme", "", ""),  # the SMSC's default
        ("Club", "1069", None),
        ("", "1069", None),
    ],
)
def test_the_source_without_an_access_number(signature: str, sender: str, expected: str | None) -> None:
    assert signed_source(CHANNELS[1], signature, sender) == expected


def test_digits_that_do_not_fit_are_left_out_whole() -> None:
    assert extended("1" * 18, "22") == "1" * 18 + "22"
    assert extended("1" * 18, "222") == "1" * 18
