"""What the configuration says of replies: keywords, opt-outs, how long they are kept; and what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.model import Category
from gateway.settings import InboundSettings, KeywordSettings, load
from tests.support.config import ACCOUNTS, ENV, GATEWAY, write_config


def test_what_is_written_is_read(tmp_path: Path) -> None:
    gateway = (
        GATEWAY + "[inbound]\nkeep_months = 7\nparts_wait_s = 60\n"
        '[[keyword]]\nkeyword = ["JOIN", "加入"]\nmatch = "starts-with"\nto = "1069"\naccount = "shop"\ntag = "join"\n'
        '[[keyword]]\nkeyword = "help"\naction = "review"\n'
    )
    accounts = ACCOUNTS + 'optout_scope = "sender"\noptout_categories = ["marketing", "notification"]\n'
    settings = load(write_config(tmp_path, gateway=gateway, accounts=accounts), ENV)
    assert settings.inbound == InboundSettings(keep_months=7, parts_wait_s=60)
    assert settings.keywords == (
        KeywordSettings(("JOIN", "加入"), "starts-with", "1069", "shop", "join"),
        KeywordSettings(("help",), action="review"),
    )
    [account] = settings.accounts
    assert account.optout_scope == "sender"
    assert account.optout_categories == {Category.MARKETING, Category.NOTIFICATION}
    assert settings.optout_words_file is not None


def test_silence_means_the_defaults(tmp_path: Path) -> None:
    settings = load(write_config(tmp_path), ENV)
    assert settings.inbound == InboundSettings()
    assert (settings.keywords, settings.accounts[0].optout_scope) == ((), "account")
    assert settings.accounts[0].optout_categories == {Category.MARKETING}


@pytest.mark.parametrize(
    ("gateway", "accounts", "problem"),
    [
        ('[[keyword]]\nkeyword = "A"\naccount = "bank"\n', "", "keyword[1].account: there is no account bank"),
        ('[[keyword]]\nkeyword = "A"\n', "", "keyword[1]: account, tag or action: at least one is wanted"),
        ('[[keyword]]\nkeyword = "!"\ntag = "x"\n', "", "keyword[1].keyword: a word is 1 to 32 characters"),
        ('[[keyword]]\nkeyword = []\ntag = "x"\n', "", "keyword[1].keyword: 1 to 100 words are wanted"),
        (
            '[[keyword]]\nkeyword = ["A"]\ntag = "x"\n[[keyword]]\nkeyword = "a"\ntag = "y"\n',
            "",
            "keyword[2].keyword: the word a stands for the same number at keyword[1] already",
        ),
        ("[inbound]\nkeep_optout_months = 4\n", "", "inbound.keep_optout_months: "),
        (
            "",
            'optout_categories = ["verification"]\n',
            "optout_categories: verification is what its recipient asked for",
        ),
        ("", 'optout_scope = "world"\n', "account[shop].optout_scope: "),
        (
            "",
            'categories = ["marketing"]\noptout_categories = ["marketing", "notification"]\n',
            "account[shop].optout_categories: the account may not send notification",
        ),
        ("", '[[account]]\nid = "global"\n', "account[global].id: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, gateway: str, accounts: str, problem: str) -> None:
    folder = write_config(tmp_path, gateway=GATEWAY + gateway, accounts=ACCOUNTS + accounts)
    with pytest.raises(ConfigError) as refused:
        load(folder, ENV)
    assert problem in str(refused.value)
