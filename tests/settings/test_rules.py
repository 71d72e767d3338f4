"""The keys of the category rules: what they become, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.check import check
from gateway.errors import ConfigError
from gateway.model import Category
from gateway.settings import Settings, load
from gateway.settings.values import CHINESE_OPTOUT_TEXTS
from tests.support.config import ACCOUNTS, ENV, GATEWAY, write_config

M, N, V = Category.MARKETING, Category.NOTIFICATION, Category.VERIFICATION


def read(folder: Path, gateway: str = "", account: str = "") -> Settings:
    return load(write_config(folder, gateway=GATEWAY + gateway, accounts=ACCOUNTS + account), ENV)


def problems(folder: Path, gateway: str = "", account: str = "") -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(folder, gateway, account)
    return [str(problem) for problem in refused.value.problems]


def test_the_defaults_follow_chinese_practice(tmp_path: Path) -> None:
    settings = read(tmp_path)
    marketing = settings.categories[M]
    assert (marketing.send_hours, marketing.spread_s, marketing.per_number) == ((480, 1200), 1800, ((1, 604_800),))
    assert marketing.require_signature == {"CN"}
    assert marketing.require_optout_text == (("CN", CHINESE_OPTOUT_TEXTS),)
    for category in (V, N):
        rules = settings.categories[category]
        assert (rules.send_hours, rules.require_signature, rules.require_optout_text) == (None, frozenset(), ())
    (shop,) = settings.accounts
    assert (shop.per_number, shop.when_capped, shop.consent_required, shop.link_domains) == ((), "refuse", False, None)
    assert all((settings.quiet_hours_file, settings.time_zones_file, settings.content_words_file))


def test_what_the_keys_become(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        '[categories.marketing]\nsend_hours = ""\nspread_s = 60\nper_number_all = ["3/1d"]\nper_signature = ["2/1d"]\n'
        'per_tag = { login = ["1/30s", "5/1h"] }\nrequire_signature = ["CN", "TW"]\n'
        'require_optout_text = { CN = ["拒收请回复R"], GB = ["Reply STOP"] }\n',
        'per_number = { marketing = ["1/1d"], verification = [] }\nwhen_capped = "defer"\nconsent_required = true\n'
        'link_domains = ["ACME.example", "例子.中国"]\n',
    )
    marketing = settings.categories[M]
    assert (marketing.send_hours, marketing.spread_s) == ((0, 1440), 60)
    assert (marketing.per_number_all, marketing.per_signature) == (((3, 86_400),), ((2, 86_400),))
    assert marketing.per_tag == (("login", ((1, 30), (5, 3600))),)
    assert marketing.require_signature == {"CN", "TW"}
    assert marketing.require_optout_text == (("CN", ("拒收请回复R",)), ("GB", ("Reply STOP",)))
    (shop,) = settings.accounts
    assert shop.per_number == ((M, ((1, 86_400),)), (V, ()))
    assert (shop.when_capped, shop.consent_required) == ("defer", True)
    assert shop.link_domains == ("acme.example", "xn--fsqu00a.xn--fiqs8s")
    hash(shop)


@pytest.mark.parametrize(
    ("category", "line", "why"),
    [
        ("marketing", "spread_s = -1", "categories.marketing.spread_s: "),
        ("marketing", 'per_number_all = ["1/8d"]', "categories.marketing.per_number_all: the longest window is 7d"),
        ("marketing", 'per_signature = ["1/1h", "2/60m"]', "per_signature: two limits over the same duration"),
        ("marketing", 'per_tag = { x = "1/1h" }', "per_tag: a list of at most 4 limits"),
        ("marketing", 'per_tag = { "" = [] }', "per_tag: a tag is 1 to 64"),
        ("marketing", 'require_signature = ["China"]', "require_signature"),
        ("marketing", "require_optout_text = { CN = [] }", "require_optout_text: 'CN': a list of 1 to"),
        ("marketing", 'require_optout_text = { China = ["xx"] }', "require_optout_text: two capital letters"),
        ("verification", 'send_hours = "08:00-20:00"', "verification.send_hours: a code is sent at any hour"),
    ],
)
def test_wrong_keys_of_a_category(tmp_path: Path, category: str, line: str, why: str) -> None:
    (told,) = problems(tmp_path, f"[categories.{category}]\n{line}\n")
    assert told.startswith("gateway.toml: categories")
    assert why in told


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('per_number = { adverts = ["1/1d"] }', "account[shop].per_number: a table with keys of verification"),
        ('per_number = { marketing = ["1/1y"] }', 'account[shop].per_number: "count/duration" is wanted'),
        ('when_capped = "drop"', "account[shop].when_capped: 'refuse' or 'defer'"),
        ('link_domains = ["https://acme.example"]', "account[shop].link_domains[1]: a domain without scheme"),
        ('link_domains = ["localhost"]', "account[shop].link_domains[1]: a domain without scheme"),
        (
            'categories = ["verification"]\nper_number = { marketing = [] }',
            "account[shop].per_number.marketing: the account may not send marketing",
        ),
    ],
)
def test_wrong_keys_of_an_account(tmp_path: Path, line: str, why: str) -> None:
    (told,) = problems(tmp_path, account=line + "\n")
    assert told.startswith(f"accounts.toml: {why}")


def test_consent_without_marketing_has_no_effect(tmp_path: Path) -> None:
    settings = read(tmp_path, account='categories = ["verification"]\nconsent_required = true\n')
    assert [str(w) for w in settings.warnings] == [
        "accounts.toml: account[shop].consent_required: has no effect: the account may not send marketing"
    ]


@pytest.mark.parametrize(
    ("table", "line"),
    [("quiet_hours.csv", "place,x"), ("time_zones.csv", "place"), ("content_words.csv", "word")],
)
def test_a_folders_own_table_replaces_the_shipped_and_is_checked(tmp_path: Path, table: str, line: str) -> None:
    (tmp_path / table).write_text(line + "\n")
    (told,) = [str(problem) for problem in check(write_config(tmp_path), ENV).problems]
    assert told.startswith(f"{table}: line 1: the first line must be ")
