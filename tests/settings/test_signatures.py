"""`signatures`, `access_number` and an account's `signature`: what they become, and what `smsgw check` says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.check import check
from gateway.errors import ConfigError
from gateway.settings import Settings, SignatureSettings, load, packaged_config_dir
from tests.support.config import ACCOUNTS, CHANNELS, ENV, ROUTES, write_config


def folder_with(folder: Path, a: str = "", b: str = "", account: str = "", routes: str = ROUTES) -> Path:
    channels = CHANNELS.replace("port = 2775", f"port = 2775\n{a}").replace("port = 2776", f"port = 2776\n{b}")
    return write_config(folder, channels=channels, accounts=f"{ACCOUNTS}{account}\n", routes=routes)


def read(folder: Path, *lines: str, **more: str) -> Settings:
    return load(folder_with(folder, *lines, **more), ENV)


def told(folder: Path, *lines: str, **more: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, *lines, **more)
    return [str(problem) for problem in caught.value.problems]


def warned(settings: Settings) -> list[str]:
    return [str(warning) for warning in settings.warnings if "carry" in warning.reason or "extension" in warning.reason]


def test_what_the_keys_become(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        'access_number = "10690000"\n'
        'signatures = { "【Ａcme】" = { extension = "01", mo_account = "shop" }, "Club" = "02", "Bank" = {}, '
        '"*" = "" }',
        account='signature = ["【Acme】", "Club"]',
    )
    a, b = settings.channels
    assert a.access_number == "10690000"
    assert a.signatures == (
        SignatureSettings("Acme", "01", "shop"),
        SignatureSettings("Club", "02"),
        SignatureSettings("Bank"),
        SignatureSettings("*"),
    )
    assert (b.access_number, b.signatures) == ("", ())
    assert settings.accounts[0].signatures == ("Acme", "Club")
    assert warned(settings) == []
    assert read(tmp_path, account='signature = "【Acme】"').accounts[0].signatures == ("Acme",)
    assert read(tmp_path, account='signature = ""').accounts[0].signatures == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("signatures = {}", "signatures: a table of 1 to 1000 signatures is wanted"),
        ('signatures = "Acme"', "signatures: a table of 1 to 1000 signatures is wanted"),
        ('signatures = { "Acme" = "01", "【Acme】" = "02" }', "【Acme】 stands twice"),
        ('signatures = { "【】" = "01" }', "a signature is 1 to 32 printable characters"),
        ('signatures = { "a【b】c" = "01" }', "a signature is 1 to 32 printable characters"),
        ('signatures = { "Acme" = "0x1" }', "【Acme】: extension: up to 20 digits"),
        (
            'signatures = { "Acme" = 1 }',
            'a table with keys of extension, mo_account is wanted, as in { extension = "01"',
        ),
        ('signatures = { "Acme" = { extension = 1 } }', "【Acme】: extension: up to 20 digits"),
        ('signatures = { "Acme" = { number = "1" } }', "a table with keys of extension, mo_account is wanted"),
        (
            'signatures = { "Acme" = { mo_account = "no name" } }',
            "【Acme】: mo_account: the id of an account is wanted",
        ),
        ('signatures = { "Acme" = { mo_account = "nobody" } }', "【Acme】: no account nobody in accounts.toml"),
        ('signatures = { "A" = "1", "B" = "1" }', "【A】 and 【B】 have extension 1: replies could not be told apart"),
        ('signatures = { "A" = "1", "*" = "1" }', "【A】 and any other signature have extension 1"),
        (
            'signatures = { "A" = { mo_account = "shop" }, "B" = "" }',
            "【A】 and 【B】 have no extension: replies could not be told apart",
        ),
        (
            'access_number = "1234567890123456"\nsignatures = { "A" = "12345" }',
            "【A】: access_number and extension have more than 20 digits together",
        ),
        ('access_number = "106A"\nsignatures = { "A" = "1" }', "access_number: up to 20 digits are wanted"),
        ('access_number = "106"', "access_number: has no effect without signatures"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, reason: str) -> None:
    (problem,) = told(tmp_path, line)
    assert problem.startswith("channels.toml: channel[a].")
    assert reason in problem


@pytest.mark.parametrize(
    "line", ['signature = "【】"', 'signature = ["A", 1]', 'signature = "*"', 'signature = ["A", "【A】"]']
)
def test_what_is_wrong_with_an_accounts_signature(tmp_path: Path, line: str) -> None:
    (problem,) = told(tmp_path, account=line)
    assert problem.startswith("accounts.toml: account[shop].signature: ")


def test_a_sender_must_leave_room_for_the_extension(tmp_path: Path) -> None:
    sender = 'senders = ["12345678901234567", "Acme"]'
    (problem,) = told(tmp_path, 'signatures = { "A" = "1234" }', account=sender)
    assert "the longest sender and extension have more than 20 digits together" in problem
    assert (
        read(tmp_path, 'signatures = { "A" = "1234" }\nsource = { "*" = "1069" }', account=sender)
        .channels[0]
        .signatures
    )


def test_several_may_share_the_number_without_extension(tmp_path: Path) -> None:
    assert len(read(tmp_path, 'signatures = { "A" = "", "B" = "", "*" = "" }').channels[0].signatures) == 3


def test_an_extension_that_begins_another_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warned(read(tmp_path, 'signatures = { "A" = "1", "B" = "12", "C" = "2" }'))
    assert warning.startswith("channels.toml: channel[a].signatures: extension 1 begins 12: ")


def test_a_signature_no_channel_of_a_route_carries_is_a_problem(tmp_path: Path) -> None:
    lists = ('signatures = { "A" = "" }', 'signatures = { "B" = "" }')
    problems = told(tmp_path, *lists, account='signature = ["A", "C"]')
    assert problems == [
        "accounts.toml: account[shop].signature: no channel of route cn carries 【C】: "
        "its messages there would be refused"
    ]
    assert warned(read(tmp_path, *lists, account='signature = ["A", "B"]')) == [
        "routes.toml: route[cn].channels: the backup (rank 1) of route cn does not carry 【A】 of account shop",
        "routes.toml: route[cn].channels: the primary of route cn does not carry 【B】 of account shop",
    ]
    assert warned(read(tmp_path, lists[0], account='signature = "A"')) == []  # b has no list: it carries everything
    assert warned(read(tmp_path, *lists)) == []  # the account lists none: its texts are looked at one by one
    report = check(folder_with(tmp_path, *lists, account='signature = "C"'), ENV)
    assert [problem.key for problem in report.problems] == ["account[shop].signature"]


WITH_EXCEPTION = """
[[route]]
id = "cn"
match = { country = "CN" }
channels = [{ id = "a", rank = 0 }]
[[route]]
id = "own"
match = { %s }
channels = [{ id = "b", rank = 0 }]
"""


@pytest.mark.parametrize(
    ("match", "account", "routes_that_fail"),
    [
        # a better route that covers all of the account's numbers keeps its messages from `cn`
        ('country = "CN", account = "shop"', "", []),
        ('account = "shop"', "", []),
        # but not one that covers some of them only
        ('country = "CN", account = "shop", carrier = "china-mobile"', "", ["cn"]),
        ('prefix = "+86138", account = "shop"', "", ["cn"]),
        ('country = "CN", category = "verification"', "", ["cn"]),
        ('country = "CN", category = "verification"', 'categories = ["verification"]', []),
        ('country = "CN", sender = "1069"', "", ["cn"]),
        ('country = "CN", sender = "1069"', 'senders = ["1069"]', []),
        ('country = "CN", sender = "1069"', 'senders = ["1069", "1068"]', ["cn"]),
        ('country = "CN", account = "other"', "", ["cn"]),
    ],
)
def test_only_routes_that_its_messages_can_take_count(
    tmp_path: Path, match: str, account: str, routes_that_fail: list[str]
) -> None:
    """Only channel b carries the account's signature; `cn` goes by channel a."""
    other = '\n[[account]]\nid = "other"\n'
    folder = folder_with(
        tmp_path,
        'signatures = { "B" = "" }',
        'signatures = { "A" = "" }',
        account=f'signature = "A"\n{account}{other}',
        routes=WITH_EXCEPTION % match,
    )
    found = [problem for problem in check(folder, ENV).problems if problem.key.endswith("signature")]
    assert [problem.reason.split(" route ")[1].split()[0] for problem in found] == routes_that_fail


def test_the_worked_example_of_the_shipped_file_is_sound(tmp_path: Path) -> None:
    shipped = packaged_config_dir()
    names = ["CM_A", "CM_B", "CU_A", "CU_B", "CT_A", "CT_B", "INTL_A"]
    files = {
        name: (shipped / f"{name}.toml").read_text("utf-8") for name in ("gateway", "channels", "routes", "accounts")
    }
    channels = files["channels"].replace('access_number = ""\n', "", 1)
    for key in ("access_number", "signatures"):
        assert channels.count(f"\n# {key} = ") == 1
        channels = channels.replace(f"\n# {key} = ", f"\n{key} = ")
    settings = load(
        write_config(tmp_path, **{**files, "channels": channels}), {f"{name}_PASSWORD": "x" for name in names}
    )
    assert settings.channels[0].access_number == "10690000"
    assert settings.channels[0].signatures == (
        SignatureSettings("Acme", "01", "shop"),
        SignatureSettings("Acme Club", "02"),
    )
