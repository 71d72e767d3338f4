"""What is shown of a change: ids and keys, lines, and no secret that was typed in clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.reload.changes import changes, masked, unified
from gateway.settings.bundle import Bundle
from tests.support.config import ACCOUNTS, CHANNELS, GATEWAY, ROUTES, write_config


def bundle(folder: Path, **files: str) -> Bundle:
    return Bundle.read(write_config(folder, **files))


def test_what_changed_is_told_by_ids_and_keys(tmp_path: Path) -> None:
    old = bundle(tmp_path)
    channels = CHANNELS.replace('id = "b"', 'id = "c"').replace("port = 2775", "port = 9")
    new = bundle(
        tmp_path,
        channels=channels,
        routes=ROUTES.replace('"b"', '"c"'),
        gateway=GATEWAY.replace("127.0.0.1:0", "127.0.0.1:1")
        + "[categories.marketing]\nttl_s = 9\n[quality]\nstep = 0.1\n",
        accounts=ACCOUNTS + '[[account]]\nid = "bank"\n',
    )
    assert changes(old, new) == {
        "channels added": ["c"],
        "channels removed": ["b"],
        "channels changed": ["a"],
        "routes changed": ["cn"],
        "accounts added": ["bank"],
        "settings changed": ["categories.marketing.ttl_s", "quality.step"],
    }
    assert changes(new, new) == {}
    assert "channels added" in changes(Bundle({}), new)


SECRET = "correct-horse"
WEBHOOK = '[[account]]\nid = "shop"\n[account.webhook]\nurl = "https://shop.example/in"\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("channels.toml", f'[[channel]]\npassword = "{SECRET}"  # of the carrier\n'),
        ("channels.toml", f"[[channel]]\n\"password\"='{SECRET}'\n"),
        ("channels.toml", f'[[channel]]\noutbind_password = """{SECRET}\nsecond line"""\n'),
        ("channels.toml", f'channel = [{{ id = "a", password = "{SECRET}" }}]\n'),
        ("channels.toml", f'[[channel]]\npassword = "a-{SECRET}-${{env:HALF}}-of-it"\n'),
        ("channels.toml", '[[channel]]\npassword = "correct\\u002dhorse"\n'),
        ("accounts.toml", f'{WEBHOOK}secret = ["${{env:OLD}}", "{SECRET}"]\n'),
        ("accounts.toml", f'{WEBHOOK}secret = [\n  "{SECRET}", # the new one\n  "${{env:OLD}}",\n]\n'),
        ("accounts.toml", WEBHOOK.replace("/in", f"/{SECRET}") + 'secret = "${env:S}"\n'),
        ("accounts.toml", WEBHOOK.replace("//shop", f"//me:{SECRET}@shop") + 'secret = "file:s"\n'),
        ("accounts.toml", f'account = [{{ id = "shop", webhook.secret = "{SECRET}" }}]\n'),
        ("accounts.toml", f'account = [{{ id = "shop", webhook."sec\\u0072et" = "{SECRET}" }}]\n'),
        ("gateway.toml", f'[admin]\ntoken = "{SECRET}"\n'),
        ("gateway.toml", f'[store]\nurl = "redis://:{SECRET}@host:6379/0"\n'),
        ("gateway.toml", f'[tracing]\nheaders = {{ "X-Key" = "{SECRET}", "Y" = "${{env:Y}}" }}\n'),
        ("gateway.toml", f'[tracing.headers]\n"X-Key" = "{SECRET}"\n'),
        ("gateway.toml", f'admin.token = "{SECRET}"\n'),
        ("gateway.toml", f'[admin]\ntoken = "{SECRET}'),  # half a file
    ],
)
def test_a_secret_in_clear_is_never_shown(name: str, text: str) -> None:
    shown = masked(name, text)
    assert SECRET not in shown
    assert "horse" not in shown
    lines = unified(Bundle({}), Bundle({name: text.encode()}), ("old", "new"))
    assert SECRET not in "\n".join(lines)
    lines = unified(Bundle({name: text.replace("horse", "house").encode()}), Bundle({name: text.encode()}), ("a", "b"))
    assert SECRET not in "\n".join(lines)


def test_references_and_all_the_rest_are_shown_as_written() -> None:
    for name, text in (
        ("channels.toml", CHANNELS),
        ("channels.toml", '[[channel]]\npassword = "file:/run/secrets/a"\n'),
        ("accounts.toml", f'{WEBHOOK}secret = "${{env:S}}"\n'.replace("/in", "")),
        ("gateway.toml", '[store]\nurl = "redis://:${env:P}@host:6379/0"\n[admin]\ntoken = "${env:T}"\n'),
        ("number_segments/cn.csv", "prefix,carrier\n138,china-mobile\n"),
        ("gateway.toml", '[tracing]\nheaders = { "X-Api-Key" = "${env:KEY}" }\n'),
    ):
        assert masked(name, text) == text


def test_the_difference_names_files_and_shows_that_a_secret_changed(tmp_path: Path) -> None:
    clear = CHANNELS.replace("${env:A_PASSWORD}", "correct-horse")
    old = bundle(tmp_path, channels=clear)
    new = bundle(tmp_path, channels=clear.replace("correct", "battery").replace("port = 2776", "port = 2777"))
    assert unified(old, new, ("revision 1", "files here")) == [
        "--- revision 1/channels.toml",
        "+++ files here/channels.toml",
        "@@ -4,11 +4,11 @@",
        ' host = "127.0.0.1"',
        " port = 2775",
        ' system_id = "esme"',
        '-password = "***"',
        '+password = "***"',
        " ",
        " [[channel]]",
        ' id = "b"',
        ' host = "127.0.0.1"',
        "-port = 2776",
        "+port = 2777",
        ' system_id = "esme"',
        ' password = "${env:B_PASSWORD}"',
    ]


def test_a_file_that_is_no_toml_is_compared_line_by_line(tmp_path: Path) -> None:
    sound = CHANNELS.replace("${env:A_PASSWORD}", SECRET)
    broken = sound.replace("port = 2776", "port = 27x6").replace(SECRET, f"{SECRET}-2")
    names = ("revision 1", "files here")
    lines = unified(bundle(tmp_path, channels=sound), Bundle({"channels.toml": broken.encode()}), names)
    lines = lines[lines.index("--- revision 1/channels.toml") :][:30]
    assert lines[2].startswith("(files here: not valid TOML")
    assert [one for one in lines[3:] if one[0] in "+-"][:4] == [
        '-password = "***"',
        "+password = ***",
        "-port = 2776",
        "+port = 27x6",
    ]
    assert SECRET not in "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        f'password = "{SECRET}"\n[[broken\n',
        f'[[channel]]\npassword = "{SECRET}\n',
        f'[[channel]]\npassword =\n  "{SECRET}"\n=\n',
        f'[[channel]]\npassword: "{SECRET}"\n',
        f'[[channel]]\nid = "a" password = "{SECRET}"\n',
        f'[[channel]]\n"sec\\u0072et" = "{SECRET}"\n=\n',
        f'secret = [\n  "${{env:S}}",\n  "{SECRET}",\n',
        f'channel = [{{ id = "a", password = "{SECRET}" }}\n',
        f'[tracing.headers]\nX-Key = "{SECRET}"\n"Y" = "{SECRET}"\n=\n',
        f'[tracing]\nheaders = {{ "X" = "{SECRET}" }}\n=\n',
        f'[account.webhook]\nurl = "https://shop.example/{SECRET}"\n=\n',
        f'password = """\nid = "{SECRET}"\n# {SECRET}\n"""\n=\n',
        f"# password = {SECRET}\n=\n",
        f"{SECRET}\n",
        f"[{SECRET}\n=",
    ],
)
def test_a_file_that_is_no_toml_shows_no_secret(text: str) -> None:
    for old in ("", text.replace("horse", "house"), '[[channel]]\nid = "a"\n'):
        bundles = (Bundle({"accounts.toml": old.encode()}), Bundle({"accounts.toml": text.encode()}))
        for pair in (bundles, bundles[::-1]):
            assert SECRET not in "\n".join(unified(*pair, ("a", "b")))
