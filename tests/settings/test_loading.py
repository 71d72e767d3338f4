"""`load`: what a sound folder becomes; every problem is told with file, key and reason, and no secret."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.model import Category, Secret
from gateway.settings import RankedChannel, RouteMatch, Settings, load, load_admin, packaged_config_dir
from gateway.settings.values import default_categories
from tests.support.config import ACCOUNTS, CHANNELS, ENV, GATEWAY, ROUTES, write_config


def problems_of(folder: Path, env: dict[str, str] = ENV) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, env)
    return [str(problem) for problem in caught.value.problems]


def read(folder: Path, env: dict[str, str] = ENV, **files: str) -> Settings:
    return load(write_config(folder, **files), env)


def test_logs_traces_and_operators(tmp_path: Path) -> None:
    text = (
        GATEWAY + '[[admin.operator]]\nname = "li"\ntoken = "${env:LI}"\nrole = "viewer"\n'
        '[log]\nformat = "json"\nlevels = { smpp = "debug" }\nfile = "gateway.log"\nmessages = "all"\n'
        '[tracing]\nsample = 0.5\nheaders = { X-Key = "${env:KEY}" }\n'
    )
    settings = read(tmp_path, {**ENV, "LI": "l" * 16, "KEY": "a-key"}, gateway=text)
    [li] = settings.admin.operators
    assert (li.name, li.token.reveal(), li.role) == ("li", "l" * 16, "viewer")
    assert (settings.log.levels, settings.log.file) == ((("smpp", "debug"),), Path("gateway.log"))
    assert (settings.tracing.sample, settings.tracing.headers[0][1].reveal()) == (0.5, "a-key")
    assert "a-key" not in repr(settings)
    assert load_admin(tmp_path, ENV).operators == ()  # who asks has their own token alone


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[log]\nformat = "xml"\n', "log.format"),
        ('[log]\nlevels = { smp = "debug" }\n', "log.levels"),
        ('[log]\nlevels = { smpp = "loud" }\n', "log.levels"),
        ("[log]\nmessages_sample = 2.0\n", "log.messages_sample"),
        ('[tracing]\nendpoint = "collector:4318"\n', "tracing.endpoint"),
        ('[tracing]\nendpoint = "http://me:secret@host/v1/traces"\n', "tracing.endpoint"),
        ('[tracing]\nheaders = { X-Key = "in-clear" }\n', "tracing.headers"),
        ('[[admin.operator]]\nname = "li"\ntoken = "${env:SHORT}"\n', "admin.operator[li].token"),
        ('[[admin.operator]]\nname = "admin"\ntoken = "${env:LONG}"\n', "admin.operator[admin].name"),
        ('[[admin.operator]]\nname = "li"\ntoken = "${env:LONG}"\n' * 2, "admin.operator"),
        ('[[admin.operator]]\nname = "li"\ntoken = "${env:LONG}"\nrole = "king"\n', "admin.operator"),
    ],
)
def test_logs_traces_and_operators_that_cannot_be(tmp_path: Path, text: str, key: str) -> None:
    env = {**ENV, "SHORT": "short", "LONG": "l" * 16}
    found = problems_of(write_config(tmp_path, gateway=GATEWAY + text), env)
    assert any(problem.startswith(f"gateway.toml: {key}") for problem in found), found
    assert not any("in-clear" in problem or "secret" in problem for problem in found)


def said(settings: Settings) -> list[str]:
    return [str(warning) for warning in settings.warnings]


def test_an_admin_token_that_can_be_guessed_is_said(tmp_path: Path) -> None:
    (warning,) = read(tmp_path, {**ENV, "TOKEN": "t" * 15}).warnings
    assert warning.key == "admin.token"
    assert "t" * 15 not in str(warning)
    assert read(tmp_path, {**ENV, "TOKEN": "t" * 16}).warnings == ()


def test_what_is_not_acted_on_is_said(tmp_path: Path) -> None:
    text = GATEWAY + "[categories.notification]\nmin_share = 0.1\n"
    keys = [warning.key for warning in read(tmp_path, gateway=text).warnings]
    assert keys == ["categories.notification.min_share"]


def test_a_sound_folder_becomes_settings(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.config_dir == tmp_path
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 0)
    assert [channel.id for channel in settings.channels] == ["a", "b"]
    assert settings.channels[0].password.reveal() == "pa"
    assert settings.routes[0].match == RouteMatch(country="CN")
    assert settings.routes[0].channels == (RankedChannel("a", 0), RankedChannel("b", 1))
    assert settings.admin.token is not None
    assert settings.admin.token.reveal() == ENV["TOKEN"]
    assert settings.categories == default_categories()
    assert said(settings) == []


def test_the_shipped_folder_is_sound_and_says_the_defaults() -> None:
    folder = packaged_config_dir()
    names = ["CM_A", "CM_B", "CU_A", "CU_B", "CT_A", "CT_B", "INTL_A"]
    settings = load(folder, {f"{name}_PASSWORD": "x" for name in names})
    assert settings.categories == default_categories()
    assert settings.store == dataclasses.replace(Settings(folder).store)
    assert settings.api == Settings(folder).api
    assert settings.admin == Settings(folder).admin
    assert settings.dispatch == Settings(folder).dispatch
    carriers = {route.match.carrier for route in settings.routes}
    assert carriers >= {"china-mobile", "china-unicom", "china-telecom", "china-broadnet"}
    assert settings.number_segments_files["CN"] == folder / "number_segments" / "cn.csv"


def test_categories_lie_over_their_defaults(tmp_path: Path) -> None:
    text = GATEWAY + (
        '[categories.marketing]\nper_number = ["2/1h", "3/7d"]\nsend_hours = "09:30-24:00"\n'
        '[categories.verification]\nper_number = []\nsend_hours = ""\nttl_s = 60\n'
    )
    categories = read(tmp_path, gateway=text).categories
    assert categories[Category.MARKETING].per_number == ((2, 3600), (3, 604_800))
    assert categories[Category.MARKETING].send_hours == (570, 1440)
    assert categories[Category.MARKETING].on_uncertain == "hold"
    assert categories[Category.VERIFICATION].per_number == ()
    assert categories[Category.VERIFICATION].send_hours == (0, 1440)
    assert categories[Category.VERIFICATION].max_attempts == 3
    assert categories[Category.NOTIFICATION] == default_categories()[Category.NOTIFICATION]


def test_the_revision_follows_the_content(tmp_path: Path) -> None:
    first = read(tmp_path).revision
    assert read(tmp_path).revision == first
    assert read(tmp_path, routes=ROUTES + "# a comment\n").revision != first


def test_number_segments_of_the_folder_replace_the_shipped(tmp_path: Path) -> None:
    table = tmp_path / "number_segments" / "cn.csv"
    table.parent.mkdir()
    table.write_text("anything")
    assert read(tmp_path).number_segments_files["CN"] == table
    (table.parent / "china.csv").write_text("")
    assert "number_segments/china.csv: the name must be a country's two letters, as in cn.csv" in problems_of(tmp_path)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    write_config(
        tmp_path,
        gateway='[store]\nshards = 0\n[spelling]\nx = 1\n[api]\nlisten = "nowhere"\n',
        channels=CHANNELS.replace("port = 2776", 'port = "2776"'),
        routes="[[route]\n",
        accounts=ACCOUNTS.replace("sha256:0", "sha256:x"),
    )
    told = problems_of(tmp_path)
    assert any(line.startswith("gateway.toml: store.shards: ") for line in told)
    assert "gateway.toml: spelling: unknown key" in told
    assert any(line.startswith('gateway.toml: api.listen: "host:port" is wanted') for line in told)
    assert "channels.toml: channel[b].port: a whole number is wanted" in told
    assert any(line.startswith("routes.toml: not valid TOML: ") and "line 1" in line for line in told)
    assert any(line.startswith("accounts.toml: account[shop].key_hashes[1]: ") for line in told)
    assert len(told) == 6


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "channels",
            'id = "b"',
            'id = "a"',
            "channels.toml: channel[a]: the id stands 2 times; ids must be unique",
        ),
        ("channels", 'id = "a"', 'id = "a:1"', "channels.toml: channel[1].id: 1 to 32 characters"),
        (
            "channels",
            "port = 2775",
            "port = 70000",
            "channels.toml: channel[a].port: less than or equal to 65535",
        ),
        (
            "channels",
            "port = 2775",
            "port = 2775\nwindow = 0",
            "channels.toml: channel[a].window: greater than",
        ),
        ("channels", "port = 2775", "prot = 2775", "channels.toml: channel[a].prot: unknown key"),
        ("channels", "port = 2775", "", "channels.toml: channel[a].port: missing"),
        (
            "channels",
            "port = 2775",
            'port = 2775\nbind = "both"',
            "channels.toml: channel[a].bind: 'transceiver' or",
        ),
        ("channels", "port = 2775", "port = 2775\ntsl = true", "channels.toml: channel[a].tsl: unknown key"),
        (
            "channels",
            "port = 2775",
            "port = 2775\nreference_bits = 16",
            "routes.toml: route[cn].channels: these channels",
        ),
        (
            "channels",
            'system_id = "esme"',
            'system_id = "sixteen-letters!"',
            "channels.toml: channel[a].system_id: at most",
        ),
        (
            "channels",
            "port = 2775",
            'port = 2775\ncategories = ["notification"]',
            "routes.toml: route[cn].channels: chan",
        ),
        (
            "routes",
            'id = "b", rank = 1',
            'id = "c", rank = 1',
            "routes.toml: route[cn].channels: no channel c in",
        ),
        (
            "routes",
            'id = "b", rank = 1',
            'id = "b", rank = 2',
            "routes.toml: route[cn].channels: ranks must run",
        ),
        (
            "routes",
            'id = "b", rank = 1',
            'id = "a", rank = 1',
            "routes.toml: route[cn].channels: channel a is listed 2",
        ),
        (
            "routes",
            'country = "CN"',
            'country = "cn"',
            "routes.toml: route[cn].match.country: two capital letters",
        ),
        (
            "routes",
            'country = "CN"',
            'prefix = "44"',
            'routes.toml: route[cn].match.prefix: "+" and 1 to 15 digits',
        ),
        (
            "routes",
            'country = "CN"',
            'account = "x"',
            "routes.toml: route[cn].match.account: no account x in",
        ),
        (
            "routes",
            "channels = [",
            "channels = [] # [",
            "routes.toml: route[cn].channels: list should have at least",
        ),
        ("accounts", "sha256:0", "SHA256:0", 'accounts.toml: account[shop].key_hashes[1]: "sha256:" and 64'),
        (
            "accounts",
            '0"]',
            '0"]\ncategories = ["otp"]',
            "accounts.toml: account[shop].categories[1]: verification,",
        ),
        (
            "accounts",
            '0"]',
            '0"]\nsenders = ["a name too long"]',
            "accounts.toml: account[shop].senders[1]: up to 20",
        ),
        ("gateway", "[api]", "[store2]\n[api]", "gateway.toml: store2: unknown key"),
        ("gateway", '"var"', '"var"\nurl = "http://x"', "gateway.toml: store.url: empty, redis://"),
        (
            "gateway",
            '"var"',
            '"var"\nurl = "redis+cluster://x"',
            "gateway.toml: store.url: Sentinel and Cluster",
        ),
        (
            "gateway",
            '"var"',
            '"var"\ndurability = "replicated"',
            "gateway.toml: store.durability: replicated needs",
        ),
        (
            "gateway",
            '"var"',
            '"var"\nmax_queued = true',
            "gateway.toml: store.max_queued: a whole number is wanted",
        ),
        (
            "gateway",
            "[api]",
            "[categories.marketing]\nwindow_reserve = 0.1\n[api]",
            "gateway.toml: categories: window_re",
        ),
        (
            "gateway",
            "[api]",
            '[categories.marketing]\nsend_hours = "20:00-08:00"\n[api]',
            "gateway.toml: categories.market",
        ),
        (
            "gateway",
            "[api]",
            '[categories.marketing]\nper_number = ["1/1y"]\n[api]',
            "gateway.toml: categories.marketing.per",
        ),
        (
            "gateway",
            "[api]",
            '[categories.marketing]\nper_number = ["1/60s", "2/1m"]\n[api]',
            "gateway.toml: categories.m",
        ),
        ("gateway", "[api]", "[categories.urgent]\n[api]", "gateway.toml: categories.urgent: unknown key"),
    ],
)
def test_one_fault_is_told_with_file_key_and_reason(
    tmp_path: Path, file: str, old: str, new: str, expected: str
) -> None:
    text = {"gateway": GATEWAY, "channels": CHANNELS, "routes": ROUTES, "accounts": ACCOUNTS}[file]
    assert old in text
    write_config(tmp_path, **{file: text.replace(old, new, 1)})
    told = problems_of(tmp_path)
    assert any(line.startswith(expected) for line in told), told


def test_a_category_may_have_a_route_of_its_own_channels(tmp_path: Path) -> None:
    channels = CHANNELS.replace("port = 2775", 'port = 2775\ncategories = ["marketing"]').replace(
        "port = 2776", 'port = 2776\ncategories = ["verification", "notification"]'
    )
    routes = (
        '[[route]]\nid = "ads"\nmatch = { country = "CN", category = "marketing" }\n'
        'channels = [{ id = "a", rank = 0 }]\n'
        '[[route]]\nid = "cn"\nmatch = { country = "CN" }\nchannels = [{ id = "b", rank = 0 }]\n'
    )
    settings = read(tmp_path, channels=channels, routes=routes)
    assert settings.routes[0].match.category is Category.MARKETING
    assert settings.channels[0].categories == frozenset({Category.MARKETING})


@pytest.mark.parametrize("name", ["gateway", "channels", "routes", "accounts"])
def test_files_that_cannot_be_taken(tmp_path: Path, name: str) -> None:
    write_config(tmp_path)
    path = tmp_path / f"{name}.toml"
    path.write_bytes(b"# " + b"x" * (1 << 20))
    assert problems_of(tmp_path) == [f"{name}.toml: larger than 1 MiB"]
    path.write_bytes(b'\n\nx = "\xff"')
    assert problems_of(tmp_path) == [f"{name}.toml: not UTF-8 text (line 3)"]
    path.write_text("x = " + "[" * 5000 + "]" * 5000)
    assert problems_of(tmp_path) == [f"{name}.toml: nested deeper than 16 levels"]
    path.write_text("x = " + "[" * 17 + "]" * 17)
    assert problems_of(tmp_path) == [f"{name}.toml: nested deeper than 16 levels"]
    path.unlink()
    assert problems_of(tmp_path) == [f"{name}.toml: cannot be read: No such file or directory"]
    path.mkdir()
    assert problems_of(tmp_path) == [f"{name}.toml: cannot be read: Is a directory"]


class TestSecrets:
    """Where secrets come from, and that none is ever shown."""

    def test_from_environment_and_file(self, tmp_path: Path) -> None:
        secret = tmp_path / "b.secret"
        secret.write_text("fromfile\n")
        secret.chmod(0o600)
        channels = CHANNELS.replace("${env:B_PASSWORD}", "file:b.secret")
        gateway = GATEWAY.replace("[api]", 'url = "redis://:${env:P}@h"\n[api]')
        settings = read(tmp_path, channels=channels, gateway=gateway, env={**ENV, "P": "r3dis"})
        assert settings.channels[1].password.reveal() == "fromfile"
        assert settings.store.url == "redis://:r3dis@h"
        assert said(settings) == []
        assert "r3dis" not in repr(settings)
        assert "fromfile" not in repr(settings)

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        write_config(tmp_path, channels=CHANNELS.replace("${env:B_PASSWORD}", "file:none"))
        assert problems_of(tmp_path, {}) == [
            "channels.toml: channel[a].password: environment variable A_PASSWORD is not set",
            "channels.toml: channel[b].password: the secret's file cannot be read: No such file or directory",
        ]

    def test_an_unset_token_is_left_to_the_command(self, tmp_path: Path) -> None:
        env = {name: value for name, value in ENV.items() if name != "TOKEN"}
        assert read(tmp_path, env).admin.token is None
        assert read(tmp_path, {**ENV, "TOKEN": ""}).admin.token is None

    def test_a_literal_is_taken_with_a_warning(self, tmp_path: Path) -> None:
        settings = read(tmp_path, channels=CHANNELS.replace("${env:B_PASSWORD}", "literal"))
        assert settings.channels[1].password == Secret("literal")
        assert said(settings) == [
            "channels.toml: channel[b].password: a literal secret stands in this file; use ${env:NAME} or file:PATH"
        ]

    def test_an_open_secret_file_is_warned_of(self, tmp_path: Path) -> None:
        (tmp_path / "b.secret").write_text("open")
        (tmp_path / "b.secret").chmod(0o644)
        settings = read(tmp_path, channels=CHANNELS.replace("${env:B_PASSWORD}", "file:b.secret"))
        assert "open to every user" in said(settings)[0]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"${env:B_PASSWORD}"', '"CANARY-much-too-long"'),
            ('"${env:B_PASSWORD}"', '["CANARY"]'),
            ('"${env:B_PASSWORD}"', "CANARY"),
            ('"${env:B_PASSWORD}"', '"CANARY'),
            ('"${env:B_PASSWORD}"', '{ value = "CANARY" }'),
            ('"${env:B_PASSWORD}"', '"CANARY\\q"'),
            ('password = "${env:B_PASSWORD}"', 'password = "CANARY" CANARY'),
        ],
    )
    def test_no_problem_repeats_a_secret(self, tmp_path: Path, old: str, new: str) -> None:
        write_config(tmp_path, channels=CHANNELS.replace(old, new))
        told = problems_of(tmp_path)
        assert told
        assert "CANARY" not in "\n".join(told)

    def test_an_http_webhook_must_be_wanted(self, tmp_path: Path) -> None:
        webhook = '[account.webhook]\nurl = "http://shop.example/sms"\nsecret = "${env:HOOK}"\n'
        write_config(tmp_path, accounts=ACCOUNTS + webhook)
        assert problems_of(tmp_path) == [
            "accounts.toml: account[shop].webhook: url: http sends bodies in the clear; "
            "use https or set allow_insecure = true"
        ]
        secret = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
        write_config(tmp_path, accounts=ACCOUNTS + webhook + "allow_insecure = true\n")
        settings = load(tmp_path, {**ENV, "HOOK": secret})
        assert settings.accounts[0].webhook is not None
        assert [found.reveal() for found in settings.accounts[0].webhook.secrets] == [secret]
