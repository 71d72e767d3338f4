"""gateway.routing.learned, ported_codes and the router: what receipts taught adds up, lapses, and decides a carrier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.routing.learned import ALL_NUMBERS, FORGOTTEN, Fact, Knowledge, Learned
from gateway.routing.loader import build_codes, build_router, load_segments
from gateway.routing.number_segments import NumberSegments, Segment
from gateway.routing.ported_codes import PortedCode, load_codes, spelt
from gateway.routing.router import Router
from gateway.routing.table import RouteTable
from gateway.settings import RankedChannel, RouteMatch, RouteSettings, Settings, packaged_config_dir
from tests.routing.test_ported_table import write

CN = load_segments(Path(__file__).parents[2] / "config" / "number_segments" / "cn.csv")
MOBILE, UNICOM, TELECOM, BROADNET = "china-mobile", "china-unicom", "china-telecom", "china-broadnet"
NUMBER = "8613800138000"  # a segment of China Mobile
NOW = 1_800_000_000_000
HEADER = "code,carrier,new_carrier,source\n"


def left(carrier: str) -> Fact:
    return Fact(carrier, "")


def taught(*facts: Fact | tuple[Fact, int], ttl_s: float = 100.0, most: int = 100) -> Learned:
    """Return what a worker knows after these facts about one number, a second apart."""
    learned = Learned(ttl_s, most)
    learned.add([(NUMBER, fact, NOW + 1000 * i) for i, fact in enumerate(facts)], NOW + 1000 * len(facts))  # type: ignore[misc]
    return learned


class Imported(dict[str, str]):
    def get(self, country: str, msisdn: str) -> str | None:  # type: ignore[override]
        return dict.get(self, msisdn)


def router(*carriers: str, learned: Learned | None = None, imported: dict[str, str] | None = None) -> Router:
    """Return one with a route for each carrier and one for the country."""
    ranked = (RankedChannel("a", 0),)
    routes = [RouteSettings(name, RouteMatch(country="CN", carrier=name), ranked) for name in carriers]
    routes.append(RouteSettings("rest", RouteMatch(country="CN"), ranked))
    return Router(RouteTable(routes), {"CN": CN}, Imported(imported or {}), learned)


# --- facts


def test_what_is_forgotten_is_what_came_before() -> None:
    learned = taught(left(MOBILE), Fact("", UNICOM), FORGOTTEN)
    assert learned.get(NUMBER) is None
    assert len(learned) == 0
    learned = taught(left(MOBILE), FORGOTTEN, left(UNICOM))
    assert learned.get(NUMBER) == Knowledge((UNICOM,), "")
    learned.add([(NUMBER, FORGOTTEN, NOW + 1000)], NOW + 4000)  # read once more, as each page's end is
    assert learned.get(NUMBER) == Knowledge((UNICOM,), "")


def test_all_numbers_can_be_forgotten_at_once() -> None:
    learned = Learned(100.0, 100)
    learned.add([(str(n), left(MOBILE), NOW + n) for n in range(10)], NOW + 10)
    learned.add([(ALL_NUMBERS, FORGOTTEN, NOW + 6)], NOW + 10)
    assert [n for n in range(10) if learned.get(str(n)) is not None] == [7, 8, 9]
    assert len(learned) == 3


def test_facts_about_one_number_add_up_in_the_order_of_time() -> None:
    assert taught(left(MOBILE)).get(NUMBER) == Knowledge((MOBILE,), "")
    assert taught(left(MOBILE), left(UNICOM)).get(NUMBER) == Knowledge((MOBILE, UNICOM), "")
    assert taught(left(MOBILE), left(UNICOM), left(MOBILE)).get(NUMBER) == Knowledge((UNICOM, MOBILE), "")
    assert taught(Fact(MOBILE, UNICOM)).get(NUMBER) == Knowledge((MOBILE,), UNICOM)
    assert taught(Fact(MOBILE, UNICOM), left(UNICOM)).get(NUMBER) == Knowledge((MOBILE, UNICOM), "")
    assert taught(left(UNICOM), Fact(MOBILE, UNICOM)).get(NUMBER) == Knowledge((MOBILE,), UNICOM)
    assert taught().get(NUMBER) is None


def test_what_is_read_twice_counts_once() -> None:
    learned = Learned(100.0, 100)
    for _ in range(3):
        learned.add([(NUMBER, left(MOBILE), NOW)], NOW)
    assert (len(learned), learned.get(NUMBER)) == (1, Knowledge((MOBILE,), ""))


def test_each_fact_lapses_by_itself_and_numbers_go() -> None:
    learned = taught(left(MOBILE), left(UNICOM), ttl_s=100.0)  # at NOW and NOW + 1 s
    learned.forget(NOW + 99_999)
    assert learned.get(NUMBER) == Knowledge((MOBILE, UNICOM), "")
    learned.forget(NOW + 100_000)
    assert learned.get(NUMBER) == Knowledge((UNICOM,), "")
    learned.forget(NOW + 101_000)
    assert (learned.get(NUMBER), len(learned)) == (None, 0)
    learned.add([(NUMBER, left(MOBILE), NOW)], NOW + 200_000)
    assert len(learned) == 0, "already lapsed when it was read"


def test_what_lapsed_is_not_used_even_behind_what_has_not() -> None:
    learned = Learned(100.0, 100)
    learned.add([("861", left(MOBILE), NOW + 50_000), (NUMBER, left(MOBILE), NOW)], NOW + 50_000)  # as of two shards
    learned.forget(NOW + 120_000)
    assert learned.get(NUMBER) is None
    assert learned.get("861") is not None


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    learned = Learned(100.0, 3)
    learned.add([(f"86{n}", left(MOBILE), NOW + n) for n in range(5)], NOW + 5)
    assert [learned.get(f"86{n}") is not None for n in range(5)] == [False, False, True, True, True]
    learned.add([("862", left(UNICOM), NOW + 6), ("867", left(MOBILE), NOW + 7)], NOW + 7)
    assert [learned.get(f"86{n}") is not None for n in (2, 3, 7)] == [True, False, True]
    assert (len(learned), learned.evicted) == (3, 3)


# --- the carrier


def test_learned_goes_before_imported_and_imported_before_the_segment() -> None:
    routes = (MOBILE, UNICOM, TELECOM)
    assert router(*routes).carrier_of(NUMBER) == (MOBILE, "segment")
    assert router(*routes, imported={NUMBER: TELECOM}).carrier_of(NUMBER) == (TELECOM, "imported")
    known = taught(Fact(MOBILE, UNICOM))
    assert router(*routes, learned=known, imported={NUMBER: TELECOM}).carrier_of(NUMBER, "CN") == (UNICOM, "learned")
    # "Not with China Mobile" does not contradict a table that says China Telecom.
    known = taught(left(MOBILE))
    assert router(*routes, learned=known, imported={NUMBER: TELECOM}).carrier_of(NUMBER) == (TELECOM, "imported")
    assert router(*routes, learned=known, imported={NUMBER: MOBILE}).carrier_of(NUMBER) == (UNICOM, "learned")
    # The table was wrong, and the segment's carrier is not excluded.
    known = taught(left(TELECOM))
    assert router(*routes, learned=known, imported={NUMBER: TELECOM}).carrier_of(NUMBER) == (MOBILE, "segment")


def test_one_network_after_the_other_is_tried_until_one_is_left() -> None:
    tried = []
    facts: list[Fact] = []
    for _ in range(5):
        carrier, origin = router(TELECOM, UNICOM, MOBILE, learned=taught(*facts)).carrier_of(NUMBER)
        tried.append((carrier, origin))
        facts.append(left(carrier))
    # In the order of the routes; Broadnet has none, so it is the last; then what was learned first counts no more.
    assert tried == [
        (MOBILE, "segment"), (TELECOM, "learned"), (UNICOM, "learned"), (BROADNET, "learned"), (MOBILE, "learned"),
    ]  # fmt: skip


def test_a_country_of_two_networks_needs_no_guess() -> None:
    own = NumberSegments("852", [Segment("6", "east", "normal", True), Segment("9", "west", "normal", True)])
    known = Learned(100.0, 10)
    known.add([("85260000000", left("east"), NOW)], NOW)
    assert Router(RouteTable([]), {"HK": own}, None, known).carrier_of("85260000000") == ("west", "learned")


def test_a_route_for_ported_numbers_takes_them() -> None:
    known = taught(left(MOBILE))
    with_route = router(MOBILE, UNICOM, "ported", learned=known)
    assert with_route.carrier_of(NUMBER) == ("ported", "learned")
    decision = with_route.route(NUMBER, "CN", 1, "shop", "106")
    assert decision is not None
    assert (decision.route.id, decision.carrier, decision.origin) == ("ported", "ported", "learned")
    assert [route.id for route in with_route.explain(NUMBER, "CN", 1, "shop", "106")] == ["ported", "rest"]
    # Without any route that names a network left, the general one takes it.
    decision = router(MOBILE, learned=known).route(NUMBER, "CN", 1, "shop", "106")
    assert decision is not None
    assert (decision.route.id, decision.carrier) == ("rest", "ported")


def test_the_route_follows_what_is_learned_while_the_router_lives() -> None:
    known = Learned(100.0, 10)
    routes = router(MOBILE, UNICOM, learned=known)

    def taken(number: str) -> tuple[str, str]:
        decision = routes.route(number, "CN", 1, "shop", "106")
        assert decision is not None
        return decision.route.id, decision.origin

    assert taken(NUMBER) == (MOBILE, "segment")
    known.add([(NUMBER, left(MOBILE), NOW)], NOW)
    assert (taken(NUMBER), taken("8613800138001")) == ((UNICOM, "learned"), (MOBILE, "segment"))
    known.forget(NOW + 100_000)
    assert taken(NUMBER) == (MOBILE, "segment")


def test_a_country_without_segments_has_no_carrier() -> None:
    known = Learned(100.0, 10)
    known.add([("442079460000", left("vodafone"), NOW)], NOW)
    routes = router(MOBILE, learned=known)
    assert routes.carrier_of("442079460000", "GB") == routes.carrier_of("442079460000") == ("", "segment")
    assert routes.route("442079460000", "GB", 1, "shop", "106") is None


def test_build_router_maps_the_table_and_goes_on_without_a_damaged_one(tmp_path: Path) -> None:
    base = Settings(config_dir=tmp_path, number_segments_files={"CN": packaged_config_dir() / "number_segments/cn.csv"})
    settings = replace(base, store=replace(base.store, data_dir=tmp_path))
    write(tmp_path / "ported" / "cn.bin", {int(NUMBER): 3})
    assert build_router(settings).carrier_of(NUMBER) == (UNICOM, "imported")
    (tmp_path / "ported" / "cn.bin").write_bytes(b"x")
    assert build_router(settings).carrier_of(NUMBER) == (MOBILE, "segment")


# --- codes


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("MH:0007", "MH:0007"), ("mh:0007", "MH:0007"), ("MH0007", "MH:0007"), ("MH00007", "MH:0007"),
        ("MH：0007", "MH:0007"), (" MB:1049 ", "MB:1049"), ("DB00144", "DB:0144"), ("MC:0055_006", "MC:0055"),
        ("LT:11", "LT:11"), ("-9000", "-9000"), ("000", "000"), ("", ""), ("IB:0000", "IB:0000"),
    ],
)  # fmt: skip
def test_spellings(word: str, code: str) -> None:
    assert spelt(word) == code


def test_the_shipped_codes() -> None:
    codes = load_codes(packaged_config_dir() / "ported_codes.csv", CN.carriers)
    mobiles = (MOBILE, BROADNET)
    assert codes.get("mh0007") == codes.get("MB:1049") == PortedCode(mobiles, "")
    assert codes.get("NP:1243") == PortedCode((), UNICOM)
    assert codes.get("NE:0106") == codes.get("-9000") == PortedCode((), "")
    for other in ("000", "MK:0001", "MB:1048", "ID:0009", "9999", "1243", "UNDELIV", ""):
        assert codes.get(other) is None
    assert len(codes) == 20


def test_a_wrong_table_of_codes_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "ported_codes.csv"
    rows = ["MH:0007,any,,me", "mh0007,any,,me", "X,any,,me", "A B,any,,me", "AA,,,me", "AB,cmcc,,me", "AC,any,cmcc,me",
            "AD,any,,", "AE,any", "# a comment", "AF,any,china-unicom,me"]  # fmt: skip
    path.write_text(HEADER + "\n".join(rows))
    with pytest.raises(ConfigError) as refused:
        load_codes(path, CN.carriers)
    assert {p.file for p in refused.value.problems} == {"ported_codes.csv"}
    assert [p.key for p in refused.value.problems] == [f"line {n}" for n in range(3, 11)]
    assert "stands twice" in refused.value.problems[0].reason
    path.write_text("code\n")
    with pytest.raises(ConfigError, match="line 1: the first line must be"):
        load_codes(path, CN.carriers)
    assert len(load_codes(None, CN.carriers)) == 0


def test_build_codes_reads_the_folders_own(tmp_path: Path) -> None:
    path = tmp_path / "ported_codes.csv"
    path.write_text(HEADER + "X1,any,,me\n")
    files = {"CN": packaged_config_dir() / "number_segments/cn.csv"}
    codes = build_codes(Settings(config_dir=tmp_path, number_segments_files=files, ported_codes_file=path))
    assert codes.get("x1") == PortedCode((), "")
