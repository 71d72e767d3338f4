"""gateway.routing.table and router: ranks, what a channel serves, and which of several routes is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.errors import ConfigError, RequestError
from gateway.model import Category, Secret
from gateway.routing.loader import build_router
from gateway.routing.number_segments import NumberSegments, Segment
from gateway.routing.router import Router
from gateway.routing.table import RouteTable, Serves
from gateway.settings.values import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings

CN_FILE = Path(__file__).parents[2] / "config" / "number_segments" / "cn.csv"
V, N, M = Category.VERIFICATION, Category.NOTIFICATION, Category.MARKETING
MOBILE, UNICOM, IOT, NOBODYS = "8613800138000", "8613000138000", "8614400138000", "8615400138000"
SEGMENTS = NumberSegments(
    "86",
    [
        Segment("138", "china-mobile", "normal", True),
        Segment("130", "china-unicom", "normal", True),
        Segment("1440", "china-mobile", "iot", False),
    ],
)


def channel(name: str, **more: object) -> ChannelSettings:
    return ChannelSettings(id=name, host="127.0.0.1", port=2775, system_id="acme", password=Secret("x"), **more)  # type: ignore[arg-type]


def route(name: str, *channels: tuple[str, int], **match: object) -> RouteSettings:
    ranked = tuple(RankedChannel(id=channel, rank=rank) for channel, rank in channels or (("a", 0),))
    return RouteSettings(id=name, match=RouteMatch(**match), channels=ranked)  # type: ignore[arg-type]


def router(*routes: RouteSettings) -> Router:
    return Router(RouteTable(routes, [channel("a")]), {"CN": SEGMENTS})


def taken(
    routes: Router,
    msisdn: str = MOBILE,
    country: str = "CN",
    category: int = N,
    account: str = "shop",
    sender: str = "106",
) -> str | None:
    decision = routes.route(msisdn, country, category, account, sender)
    return decision.route.id if decision is not None else None


def test_ranks_and_what_a_channel_serves() -> None:
    table = RouteTable(
        [
            route("mobile", ("a", 0), ("c", 1), ("b", 0), ("d", 2)),
            route("unicom", ("b", 0), ("a", 1)),
        ],
        [channel(name) for name in "abcde"],
    )
    mobile = table.get("mobile")
    assert mobile is not None
    assert mobile.ranks == (0, 1, 2)
    assert [ranked.id for ranked in mobile.channels] == ["a", "b", "c", "d"]
    assert [ranked.id for ranked in mobile.at_rank(0)] == ["a", "b"]
    assert (mobile.rank_of("c"), mobile.rank_of("e")) == (1, None)
    assert table.serving("a") == (Serves("mobile", 0, 1), Serves("unicom", 1, 1))
    assert table.serving("b") == (Serves("mobile", 0, 1), Serves("unicom", 0, 1))
    assert table.serving("e") == table.serving("nobody") == ()
    assert table.get("gone") is None


@pytest.mark.parametrize(
    ("alphabets", "bits", "expected"),
    [
        (["gsm", "gsm"], [8, 8], ("gsm", 8)),
        (["latin1", "latin1"], [16, 16], ("latin1", 16)),
        (["gsm", "latin1"], [8, 16], ("ascii", 16)),  # what settings refuse; every channel could carry this
        ([], [], ("gsm", 8)),
    ],
)
def test_what_parts_are_counted_by(alphabets: list[str], bits: list[int], expected: tuple[str, int]) -> None:
    pairs = zip(alphabets, bits, strict=True)
    channels = [channel(str(n), alphabet=a, reference_bits=b) for n, (a, b) in enumerate(pairs)]
    table = RouteTable([route("r", ("0", 0), ("1", 1))], channels)
    assert (table.routes["r"].alphabet, table.routes["r"].reference_bits) == expected


def test_routes_by_carrier_country_and_prefix() -> None:
    routes = router(
        route("rest"),
        route("cn-mobile", country="CN", carrier="china-mobile"),
        route("cn", country="CN"),
        route("uk", country="GB"),
        route("london", prefix="4420"),
    )
    assert taken(routes, MOBILE) == "cn-mobile"
    assert taken(routes, UNICOM) == "cn"
    assert taken(routes, NOBODYS) == "cn"
    assert taken(routes, "447700900123", "GB") == "uk"
    assert taken(routes, "442071234567", "GB") == "london"
    assert taken(routes, "12025550123", "US") == "rest"
    assert taken(routes, "881612345678", "") == "rest"


def test_the_decision_names_the_carrier() -> None:
    routes = router(route("rest"))
    for msisdn, country, carrier in (
        (MOBILE, "CN", "china-mobile"),
        (NOBODYS, "CN", ""),
        ("447700900123", "GB", ""),
    ):
        decision = routes.route(msisdn, country, V, "shop", "")
        assert decision is not None
        assert decision.carrier == carrier


def test_a_ported_number_goes_by_its_present_carrier() -> None:
    routes = router(route("m", carrier="china-mobile"), route("u", carrier="china-unicom"))
    decision = routes.route(MOBILE, "CN", V, "shop", "", carrier="china-unicom")
    assert decision is not None
    assert (decision.route.id, decision.carrier) == ("u", "china-unicom")


def test_no_route() -> None:
    routes = router(route("cn-mobile", country="CN", carrier="china-mobile", category=V))
    assert taken(routes, category=V) == "cn-mobile"
    assert taken(routes, category=M) is None
    assert taken(routes, UNICOM, category=V) is None
    assert taken(router(), MOBILE) is None


def test_a_segment_without_messages_is_an_invalid_number() -> None:
    with pytest.raises(RequestError) as caught:
        taken(router(route("rest")), IOT)
    assert (caught.value.code, caught.value.field) == ("invalid_number", "to")
    assert IOT[2:] not in str(caught.value)


# In the documented order: each beats all that follow it, even taken together.
KEYS: list[dict[str, object]] = [
    {"account": "shop"},
    {"sender": "106"},
    {"category": N},
    {"prefix": "86138"},
    {"prefix": "86"},
    {"carrier": "china-mobile"},
    {"country": "CN"},
    {},
]


@pytest.mark.parametrize("place", range(len(KEYS) - 1))
def test_a_more_particular_key_beats_all_later_ones_together(place: int) -> None:
    later = {key: value for keys in reversed(KEYS[place + 1 :]) for key, value in keys.items()}
    for key in KEYS[place]:
        if key != "prefix":
            later.pop(key, None)
    first, second = route("one-key", **KEYS[place]), route("all-later", **later)
    assert taken(router(first, second)) == "one-key"
    assert taken(router(second, first)) == "one-key"


def test_among_equals_the_first_in_the_file() -> None:
    assert taken(router(route("one", country="CN"), route("two", country="CN"))) == "one"


def test_explain_lists_every_route_that_fits() -> None:
    routes = router(route("rest"), route("cn", country="CN"), route("uk", country="GB"), route("otp", category=V))
    assert [one.id for one in routes.explain(MOBILE, "CN", V, "shop", "")] == ["otp", "cn", "rest"]
    assert [one.id for one in routes.explain(MOBILE, "CN", M, "shop", "")] == ["cn", "rest"]


def test_kept_answers_are_bounded_by_the_configuration() -> None:
    routes = router(route("rest"), route("vip", account="vip"), route("own", sender="106"))
    for number in range(2000):
        taken(routes, f"86138{number:08}", account=f"a{number}", sender=f"s{number}")
    assert len(routes._decisions) == 1


_MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "country": st.sampled_from(["CN", "GB"]),
        "carrier": st.sampled_from(["china-mobile", "china-unicom"]),
        "category": st.sampled_from([V, M]),
        "account": st.sampled_from(["shop", "bank"]),
        "sender": st.sampled_from(["106", "Acme"]),
        "prefix": st.sampled_from(["86", "861", "86138", "44", "4420"]),
    },
)
_MESSAGES = st.tuples(
    st.sampled_from(
        [
            (MOBILE, "CN", "china-mobile"),
            (UNICOM, "CN", "china-unicom"),
            (NOBODYS, "CN", ""),
            ("442071234567", "GB", ""),
            ("447700900123", "GB", ""),
            ("12025550123", "US", ""),
        ]
    ),
    st.sampled_from(Category),
    st.sampled_from(["shop", "bank", "other"]),
    st.sampled_from(["106", "Acme", "other", ""]),
)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(_MATCHES, max_size=10), st.lists(_MESSAGES, min_size=1, max_size=20))
def test_as_the_rule_reads_word_by_word(matches: list[dict[str, object]], messages: list[tuple]) -> None:  # type: ignore[type-arg]
    """Compare with the rule written the slow way, over one router so that kept answers are met too."""
    routes = router(*(route(str(number), **match) for number, match in enumerate(matches)))
    for (msisdn, country, carrier), category, account, sender in messages:
        facts = {
            "country": country,
            "carrier": carrier,
            "category": category,
            "account": account,
            "sender": sender,
        }
        fitting = [
            number
            for number, match in enumerate(matches)
            if all(facts[key] == value for key, value in match.items() if key != "prefix")
            and msisdn.startswith(str(match.get("prefix", "")))
        ]
        for key in ("account", "sender", "category", "prefix", "carrier", "country"):
            weight = {n: len(str(matches[n].get(key, ""))) if key == "prefix" else key in matches[n] for n in fitting}
            fitting = [number for number in fitting if weight[number] == max(weight.values())]
        expected = str(fitting[0]) if fitting else None
        assert taken(routes, msisdn, country, category, account, sender) == expected
        explained = routes.explain(msisdn, country, category, account, sender)
        assert (explained[0].id if explained else None) == expected


def test_built_from_settings() -> None:
    settings = Settings(
        config_dir=Path("config"),
        channels=(channel("cm-a"), channel("cm-b")),
        routes=(route("cn-mobile", ("cm-a", 0), ("cm-b", 1), country="CN", carrier="china-mobile"),),
        number_segments_files={"CN": CN_FILE},
    )
    routes = build_router(settings)
    decision = routes.route("8613800138000", "CN", V, "shop", "")
    assert decision is not None
    assert (decision.route.id, decision.carrier) == ("cn-mobile", "china-mobile")


def test_an_unknown_carrier_is_a_problem_of_the_configuration() -> None:
    settings = Settings(
        config_dir=Path("config"),
        channels=(channel("a"),),
        routes=(route("typo", country="CN", carrier="china-mobil"), route("uk", country="GB", carrier="ee")),
        number_segments_files={"CN": CN_FILE},
    )
    with pytest.raises(ConfigError) as caught:
        build_router(settings)
    assert [problem.key for problem in caught.value.problems] == [
        "route[typo].match.carrier",
        "route[uk].match.carrier",
    ]
