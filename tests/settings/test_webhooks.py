"""`[account.webhook]` and `[webhooks]`: what is read, what is refused and why, what the scripts are told."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings import Settings, load, packaged_config_dir
from gateway.settings.values import WebhookSettings
from tests.support.config import ACCOUNTS, ENV, GATEWAY, write_config

OLD, NEW = ("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
HOOK = '[account.webhook]\nurl = "https://shop.example/sms"\nsecret = "${env:NEW}"\n'


def read(folder: Path, webhook: str, gateway: str = GATEWAY) -> Settings:
    write_config(folder, accounts=ACCOUNTS + webhook, gateway=gateway)
    return load(folder, {**ENV, "OLD": OLD, "NEW": NEW, "BAD": "hunter2"})


def problem(folder: Path, webhook: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read(folder, webhook)
    (found,) = refused.value.problems
    assert "hunter2" not in str(found)
    assert NEW not in str(found)
    return str(found)


def test_the_defaults_are_those_of_the_values(tmp_path: Path) -> None:
    settings = read(tmp_path, HOOK)
    webhook = settings.accounts[0].webhook
    assert webhook is not None
    assert webhook == WebhookSettings("https://shop.example/sms", webhook.secrets)
    assert settings.consumers == {"shop": "fcio"}
    assert settings.webhooks.workers == 1
    assert not [w for w in settings.warnings if "webhook" in w.key]


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "old").write_text(OLD + "\n")
    (tmp_path / "old").chmod(0o600)
    settings = read(
        tmp_path,
        '[account.webhook]\nurl = "http://10.0.0.7:9000/sms"\nsecret = ["${env:NEW}", "file:old"]\n'
        'events = ["message.submitted", "message.delivered"]\nbatch = 100\nconcurrency = 2\ntimeout_s = 5.0\n'
        "include_text = true\nfull_number = true\nallow_insecure = true\nallow_private = true\nallow_ports = [9000]\n",
        GATEWAY + "[webhooks]\nworkers = 3\n",
    )
    webhook = settings.accounts[0].webhook
    assert webhook is not None
    assert [secret.reveal() for secret in webhook.secrets] == [NEW, OLD]
    assert (webhook.batch, webhook.concurrency, webhook.timeout_s) == (100, 2, 5.0)
    assert webhook.allow_ports == {9000}
    assert settings.consumers == {"shop": "sfT"}
    assert settings.webhooks.workers == 3
    assert {w.key.rpartition(".")[2] for w in settings.warnings if "webhook" in w.key} == {
        "secret", "allow_insecure", "allow_private",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("${env:NEW}", "${env:BAD}"), 'webhook.secret: "whsec_" and base64 are wanted'),
        (('"${env:NEW}"', '["${env:NEW}", "${env:NEW}"]'), "webhook.secret: the same secret twice"),
        (('"${env:NEW}"', "[]"), "webhook.secret: one secret is wanted"),
        (('"${env:NEW}"', '["a", "b", "c"]'), "webhook.secret: one secret is wanted"),
        (("${env:NEW}", "${env:NOT_SET}"), "environment variable NOT_SET is not set"),
        (("https://shop.example", "https://127.0.0.1"), "url: a host name is wanted, not an address"),
        (("https://shop.example", "https://0x7f000001"), "url: a host name is wanted, not an address"),
        (("https://shop.example", "https://shop.example:2375"), "url: port 2375 is not one of 443 and 8443"),
        (("https://shop.example", "https://u:p@shop.example"), "url: no user name or password"),
        (('sms"', 'sms"\nbatch = 101'), "webhook.batch"),
        (('sms"', 'sms"\nevents = ["message.read"]'), "webhook.events: an array of some of message.submitted"),
        (('sms"', 'sms"\nevents = [["message.failed"]]'), "webhook.events: an array of some of message.submitted"),
        (('sms"', 'sms"\nevents = []'), "webhook.events: an array of some of message.submitted"),
        (('sms"', 'sms"\ntls_ca = "missing.pem"'), "webhook.tls_ca: cannot be read"),
        (('sms"', 'sms"\nretries = 3'), "webhook.retries: unknown key"),
    ],
)
def test_what_is_refused_says_why(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    assert reason in problem(tmp_path, HOOK.replace(*change))


def test_the_shipped_example_is_sound(tmp_path: Path) -> None:
    """The commented lines of accounts.toml, uncommented, are what the defaults say."""
    text = (packaged_config_dir() / "accounts.toml").read_text(encoding="utf-8")
    lines = text[text.index("# [account.webhook]") :].splitlines()
    example = [line[2:] for line in lines if line.startswith(("# [", "# url =", "# secret =", "# tls_ca ="))] + [
        line[2:]
        for line in lines
        if line.startswith("# ") and " = " in line and line[2:].partition(" = ")[0].replace("_", "").isalpha()
        and not line.startswith(("# [", "# url =", "# secret =", "# tls_ca ="))
    ]  # fmt: skip
    webhook = read(tmp_path, "\n".join(example).replace("SHOP_WEBHOOK_SECRET", "NEW") + "\n").accounts[0].webhook
    assert webhook is not None
    assert webhook == WebhookSettings("https://shop.example/sms", webhook.secrets)
    assert {"batch", "concurrency", "timeout_s", "events"} <= {line.partition(" = ")[0] for line in example}
