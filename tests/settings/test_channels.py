"""Keys of channels.toml for SMPP as carriers ask for it: what they become, and what is told of wrong ones."""

from __future__ import annotations

import dataclasses
import subprocess
import tomllib
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings import ChannelSettings, Settings, load, packaged_config_dir
from gateway.settings.schema import ChannelEntry
from tests.support.certificates import Authority, Pair
from tests.support.config import CHANNELS, ENV, write_config


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("esme", "DNS:gateway.example")


def read(folder: Path, lines: str, env: dict[str, str] = ENV) -> Settings:
    return load(write_config(folder, channels=CHANNELS.replace("port = 2775", f"port = 2775\n{lines}", 1)), env)


def channel(folder: Path, lines: str, env: dict[str, str] = ENV) -> ChannelSettings:
    return read(folder, lines, env).channels[0]


def told(folder: Path, lines: str, env: dict[str, str] = ENV) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, lines, env)
    return [str(problem) for problem in caught.value.problems]


def test_what_every_key_becomes(tmp_path: Path) -> None:
    got = channel(
        tmp_path,
        """
        interface_version = 0x50
        service_type = "VMA"
        protocol_id = 64
        priority = { verification = 3, marketing = 1 }
        validity = "none"
        tlvs = { "0x1400" = "1101", "0x14aF" = "0x00ff" }
        long = "sar"
        data_coding = { gsm7 = 1, ucs2 = 24 }
        source = { "Acme" = "10690001", "*" = "" }
        source_types = { alphanumeric = [5, 1], short = [0, 1] }
        registered_delivery = "failure"
        """,
    )
    assert (got.interface_version, got.service_type, got.protocol_id) == (0x50, "VMA", 64)
    assert (got.priority, got.validity, got.long) == ((3, 0, 1), "none", "sar")
    assert got.tlvs == ((0x1400, b"1101"), (0x14AF, b"\x00\xff"))
    assert got.data_coding == (("gsm7", 1), ("ucs2", 24))
    assert got.source == (("Acme", "10690001"), ("*", ""))
    assert got.source_types == (("alphanumeric", (5, 1)), ("short", (0, 1)))
    assert got.registered_delivery == "failure"


@pytest.mark.parametrize(("written", "kept"), [("true", "final"), ("false", "none"), ('"final"', "final")])
def test_registered_delivery_may_still_be_a_bool(tmp_path: Path, written: str, kept: str) -> None:
    assert channel(tmp_path, f"registered_delivery = {written}").registered_delivery == kept


def test_one_priority_for_all(tmp_path: Path) -> None:
    assert channel(tmp_path, "priority = 2").priority == (2, 2, 2)


def test_where_the_smsc_calls_us(tmp_path: Path) -> None:
    lines = 'outbind_listen = "0.0.0.0:2799"\noutbind_system_id = "theirs"\noutbind_password = "${env:A_PASSWORD}"'
    got = channel(tmp_path, lines)
    assert (got.outbind_listen, got.outbind_system_id) == (("0.0.0.0", 2799), "theirs")
    assert got.outbind_password is not None
    assert got.outbind_password.reveal() == "pa"
    assert "pa" not in repr(got.outbind_password)
    assert channel(tmp_path, 'outbind_listen = ""\noutbind_password = ""').outbind_listen is None
    warnings = [str(w) for w in read(tmp_path, 'outbind_listen = "0.0.0.0:2799"').warnings]
    assert any("channel[a].outbind_password: whoever reaches outbind_listen is sent" in w for w in warnings)
    both = CHANNELS.replace("[[channel]]\n", '[[channel]]\noutbind_listen = "0.0.0.0:2799"\n')
    with pytest.raises(ConfigError) as caught:
        load(write_config(tmp_path / "both", channels=both), ENV)
    assert [p.key for p in caught.value.problems] == ["channel[a].outbind_listen", "channel[b].outbind_listen"]


def test_the_shipped_file_names_every_key_with_its_default() -> None:
    tables = tomllib.loads((packaged_config_dir() / "channels.toml").read_text(encoding="utf-8"))["channel"]
    commented = {"source_ton", "source_npi", "outcomes", "signatures"}
    assert set(ChannelEntry.model_fields) - set(tables[0]) <= commented
    needed = {name: tables[0][name] for name in ("id", "host", "port", "system_id", "password")}
    defaults, shipped = ChannelEntry(**needed), ChannelEntry(**tables[0])
    theirs = {"binds", "max_tps", "price"}  # of the example's contract
    for name in set(ChannelEntry.model_fields) - theirs:
        assert getattr(shipped, name) == getattr(defaults, name), name
    # and the two models of the defaults agree
    values = {field.name: field.default for field in dataclasses.fields(ChannelSettings)}
    for name in (
        "priority",
        "tlvs",
        "long",
        "data_coding",
        "source",
        "source_types",
        "validity",
        "registered_delivery",
    ):
        assert values[name] == getattr(defaults, name), name


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("interface_version = 0x35", "interface_version: 0x33, 0x34 or 0x50 is wanted"),
        ('service_type = "TOOLONG"', "service_type: at most 5 printable"),
        ("protocol_id = 256", "protocol_id: less than or equal to 255"),
        ('outcomes = { "45" = "permanent" }', "outcomes: a command_status is written 0x1 to 0xFFFFFFFF"),
        ('outcomes = { "0x0" = "permanent" }', "outcomes: a command_status is written 0x1 to 0xFFFFFFFF"),
        (
            'outcomes = { "0x45" = "final" }',
            "outcomes: 0x45: one of slow, same, next, permanent, channel, bug is wanted",
        ),
        ("outcomes = 5", "outcomes: a table is wanted"),
        ("priority = 4", "priority: priority_flag (SMPP 3.4 §5.2.14) must be a whole number from 0 to 3"),
        ("priority = true", "priority: priority_flag"),
        ("priority = { otp = 3 }", "priority: a table with keys of verification, notification, marketing is wanted"),
        ("priority = { marketing = -1 }", "priority: marketing must be a whole number from 0 to 3"),
        ('validity = "absolute"', "validity: 'relative' or 'none'"),
        ('long = "both"', "long: 'udh', 'sar' or 'payload'"),
        ('registered_delivery = "all"', 'registered_delivery: "final", "failure" or "none" is wanted'),
        ("registered_delivery = 1", 'registered_delivery: "final", "failure" or "none" is wanted'),
        ('tlvs = { "1400" = "x" }', 'tlvs: a tag is written as "0x1400"'),
        ('tlvs = { "0x1400" = 7 }', "tlvs: 0x1400: text in quotes is wanted"),
        ('tlvs = { "0x1400" = "0x123" }', "tlvs: 0x1400: not an even number of hex digits"),
        ('tlvs = { "0x1400" = "实体" }', "tlvs: 0x1400: printable ASCII characters only"),
        ('tlvs = { "0x0424" = "x" }', "tlvs: 0x0424 is set by the gateway itself"),
        ('tlvs = { "0x14aa" = "x", "0x14AA" = "y" }', "tlvs: 0x14AA stands twice"),
        (f'tlvs = {{ "0x1400" = "{"x" * 256}" }}', "tlvs: 0x1400: more than 255 octets"),
        ('tlvs = ["0x1400"]', "tlvs: a table of at most 32 tags is wanted"),
        ("data_coding = { gsm = 0 }", "data_coding: a table with keys of gsm7, ucs2, latin1 is wanted"),
        ("data_coding = { gsm7 = 256 }", "data_coding: gsm7 must be a whole number from 0 to 255"),
        ('source = { "a name too long" = "1" }', 'source: a key is a sender id, or "*" for all others'),
        ('source = { "Acme" = "+1" }', "source: a value is up to 20 digits"),
        ("source_types = { letters = [5, 0] }", "source_types: a table with keys of alphanumeric, short, access"),
        ("source_types = { short = 3 }", "source_types: short: [TON, NPI] is wanted"),
        ("source_types = { short = [7, 0] }", "source_types: short: TON must be a whole number from 0 to 6"),
        (
            "source_types = { short = [3, 0] }\nsource_ton = 1",
            "source_types: source_ton and source_npi win over it",
        ),
        ('interface_version = 0x33\ntlvs = { "0x1400" = "x" }', "tlvs: interface_version 0x33 has no TLVs"),
        ('interface_version = 0x33\nlong = "sar"', "long: interface_version 0x33 has no TLVs, which sar needs"),
        ('packed = true\nalphabet = "ascii"', 'packed: goes with alphabet = "gsm"'),
        ('packed = true\nlong = "sar"', 'packed: goes with alphabet = "gsm"'),
        ('outbind_listen = "127.0.0.1"', 'outbind_listen: "host:port" is wanted'),
        ('outbind_listen = "127.0.0.1:0"', "outbind_listen: a port that the SMSC knows is wanted, not 0"),
        ('outbind_listen = "127.0.0.1:2775"\ntls = true', "outbind_listen: not with tls = true"),
        ('outbind_system_id = "smsc"', "outbind_system_id: has no effect without outbind_listen"),
        ('outbind_password = "${env:A_PASSWORD}"', "outbind_password: has no effect without outbind_listen"),
        ('outbind_listen = "h:1"\noutbind_password = "${env:NOBODY}"', "outbind_password: environment variable NOBODY"),
        ('outbind_listen = "h:1"\noutbind_system_id = "0123456789abcdef"', "outbind_system_id: at most 15 printable"),
        ('tls_name = "smsc.example"', "tls_name: has no effect without tls = true"),
        ('tls = true\ntls_name = "a b"', "tls_name: neither a host name nor an IP address"),
        ('tls = true\ntls_ca = "none.pem"', "tls_ca: cannot be read: No such file or directory"),
        ('tls = true\ntls_ca = "gateway.toml"', "tls_ca: holds no certificate in PEM form"),
        ('tls = true\ntls_ca = "."', "tls_ca: cannot be read: Is a directory"),
    ],
)
def test_one_wrong_key_is_told_with_its_reason(tmp_path: Path, lines: str, expected: str) -> None:
    lines_told = told(tmp_path, lines)
    assert lines_told[0].startswith(f"channels.toml: channel[a].{expected}"), lines_told


def test_a_password_is_long_only_by_leave(tmp_path: Path) -> None:
    env = {**ENV, "A_PASSWORD": "CANARY-of-18-chars"}
    (problem,) = told(tmp_path, "", env)
    assert problem == (
        "channels.toml: channel[a].password: at most 8 ASCII characters (SMPP 3.4 §5.2.2); "
        "for more set long_password = true"
    )
    assert channel(tmp_path, "long_password = true", env).long_password
    (problem,) = told(tmp_path, "long_password = true", {**ENV, "A_PASSWORD": "x" * 65})
    assert problem.endswith("password: at most 64 ASCII characters, also with long_password")


def test_certificate_files(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    lines = f'tls = true\ntls_ca = "{authority.cert}"\ntls_cert = "{pair.cert}"\ntls_key = "{pair.key}"'
    got = channel(tmp_path, lines)
    assert (got.tls_ca, got.tls_cert, got.tls_key) == (authority.cert, pair.cert, pair.key)
    (tmp_path / "ca.pem").write_bytes(authority.cert.read_bytes())
    assert channel(tmp_path, 'tls = true\ntls_ca = "ca.pem"').tls_ca == tmp_path / "ca.pem"


def test_certificate_files_that_do_not_belong_together(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    (problem,) = told(tmp_path, f'tls = true\ntls_cert = "{pair.cert}"')
    assert problem.endswith("tls_key: missing: a client certificate and its key come together")
    (problem,) = told(tmp_path, f'tls = true\ntls_key = "{pair.key}"')
    assert problem.endswith("tls_cert: missing: a client certificate and its key come together")
    (problem,) = told(tmp_path, f'tls = true\ntls_cert = "{pair.cert}"\ntls_key = "{authority.pair.key}"')
    assert "channel[a].tls_cert: not a certificate in PEM form with its key in tls_key" in problem


def test_an_encrypted_key_is_refused_and_asks_nobody(tmp_path: Path, pair: Pair) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-in", str(pair.key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    (problem,) = told(tmp_path, f'tls = true\ntls_cert = "{pair.cert}"\ntls_key = "{locked}"')
    assert problem.endswith("(a key without passphrase)")


def test_an_open_key_is_warned_of(tmp_path: Path, pair: Pair) -> None:
    key = tmp_path / "open.key"
    key.write_bytes(pair.key.read_bytes())
    key.chmod(0o644)
    settings = read(tmp_path, f'tls = true\ntls_cert = "{pair.cert}"\ntls_key = "{key}"')
    warnings = [str(warning) for warning in settings.warnings]
    assert "channels.toml: channel[a].tls_key: the key's file is open to every user; chmod 600 it" in warnings


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("interface_version = 0x33", "bind"),
        ('long = "payload"', "long"),
    ],
)
def test_what_has_a_price_is_said(tmp_path: Path, lines: str, key: str) -> None:
    assert f"channel[a].{key}" in [warning.key for warning in read(tmp_path, lines).warnings]
    assert f"channel[b].{key}" not in [warning.key for warning in read(tmp_path, lines).warnings]
