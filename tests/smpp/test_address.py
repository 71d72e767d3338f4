"""gateway.smpp.address: type of number and plan by kind of sender id, and whose receipt it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import EncodeError
from gateway.smpp.address import destination, same_recipient, source_address


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("", (0, 0, b"")),
        ("Acme", (5, 0, b"Acme")),
        ("Acme Shop 1", (5, 0, b"Acme Shop 1")),
        ("95588", (3, 0, b"95588")),
        ("12345678", (3, 0, b"12345678")),
        ("106900001", (0, 0, b"106900001")),
        ("10690000112345678901", (0, 0, b"10690000112345678901")),
        ("447700900123", (1, 1, b"447700900123")),
        ("+447700900123", (1, 1, b"447700900123")),
        ("+12025550123", (1, 1, b"12025550123")),
    ],
)
def test_sender_ids(sender: str, expected: tuple[int, int, bytes]) -> None:
    assert source_address(sender) == expected


def test_the_channels_setting_wins() -> None:
    assert source_address("106900001", 1, 1) == (1, 1, b"106900001")
    assert source_address("106900001", npi=1) == (0, 1, b"106900001")
    assert source_address("Acme", ton=0) == (0, 0, b"Acme")


@pytest.mark.parametrize("sender", ["TwelveLetter", "1" * 21, "Äcme", "信", "١٢٣٤٥", "a\0b", "a\nb", "１０６９"])
def test_refused_senders_are_not_shown(sender: str) -> None:
    with pytest.raises(EncodeError) as caught:
        source_address(sender)
    assert sender not in str(caught.value)


@given(st.text(max_size=24))
def test_any_sender_fits_its_field_or_is_refused(sender: str) -> None:
    try:
        ton, npi, octets = source_address(sender)
    except EncodeError:
        return
    assert len(octets) <= 20
    assert b"\0" not in octets
    assert ton in (0, 1, 3, 5)
    assert npi in (0, 1)


def test_recipients() -> None:
    assert destination("8613800138000") == (1, 1, b"8613800138000")
    for bad in ("", "+8613800138000", "86 138", "１３８００", "1" * 21):
        with pytest.raises(EncodeError):
            destination(bad)


@pytest.mark.parametrize(
    ("address", "same"),
    [
        (b"8613800138000", True),
        (b"+8613800138000", True),
        (b"13800138000", True),
        (b"008613800138000\0", True),
        (b"8613800138001", False),
        (b"0138000", False),
        (b"", False),
        (b"\xff" * 13, False),
    ],
)
def test_whose_receipt_it_is(address: bytes, same: bool) -> None:
    assert same_recipient("8613800138000", address) is same


@pytest.mark.parametrize(
    ("sender", "kind"),
    [("Acme", "alphanumeric"), ("12345", "short"), ("106900001", "access"), ("8613800138000", "international")],
)
def test_each_kind_of_sender_can_have_its_own_numbers(sender: str, kind: str) -> None:
    usual = source_address(sender)
    assert source_address(sender, kinds=((kind, (6, 18)),)) == (6, 18, sender.encode())
    others = tuple((name, (6, 18)) for name in ("alphanumeric", "short", "access", "international") if name != kind)
    assert source_address(sender, kinds=others) == usual
    assert source_address(sender, 2, 8, ((kind, (6, 18)),)) == (2, 8, sender.encode())
    assert source_address("", kinds=((kind, (6, 18)),)) == (0, 0, b"")
