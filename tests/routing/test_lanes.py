"""gateway.routing.table: a route whose channels list signatures is cut into lanes, one for each set of carriers."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Secret, route_name
from gateway.routing.table import Route, RouteTable, Serves
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, SignatureSettings
from gateway.signature import ANY

NAMES = ("A", "B", "C", "D")


def channel(name: str, *signatures: str) -> ChannelSettings:
    listed = tuple(SignatureSettings(one) for one in signatures)
    return ChannelSettings(name, "127.0.0.1", 2775, "acme", Secret("x"), signatures=listed)


def route(*channels: tuple[str, int] | tuple[str, int, int], name: str = "r") -> RouteSettings:
    return RouteSettings(name, RouteMatch(country="CN"), tuple(RankedChannel(*one) for one in channels))


def lane(table: RouteTable, signature: str, name: str = "r") -> Route | None:
    return table.lane(table.routes[name], signature)


def carriers(table: RouteTable, signature: str) -> list[tuple[str, int]] | None:
    found = lane(table, signature)
    return [(ranked.id, ranked.rank) for ranked in found.channels] if found is not None else None


def test_a_route_whose_channels_list_nothing_is_its_own_lane() -> None:
    table = RouteTable([route(("a", 0), ("b", 1))], [channel("a"), channel("b")])
    whole = table.routes["r"]
    assert not table.by_signature
    assert not table.is_cut(whole)
    assert table.lanes == {"r": whole}
    assert [table.lane(whole, signature) for signature in ("A", "")] == [whole, whole]
    assert (whole.name, table.get("r")) == ("r", whole)


def test_each_set_of_carriers_is_a_lane() -> None:
    table = RouteTable(
        [route(("a", 0), ("b", 1), ("c", 1, 5)), route(("d", 0), name="plain")],
        [channel("a", "A", "B"), channel("b", "A", "B", "C"), channel("c", "A", "C"), channel("d")],
    )
    assert table.by_signature
    assert carriers(table, "A") == [("a", 0), ("b", 1), ("c", 1)]
    assert carriers(table, "B") == [("a", 0), ("b", 1)]
    assert carriers(table, "C") == [
        ("b", 0),
        ("c", 0),
    ]  # the best that is left is the primary: messages enter at rank 0
    assert carriers(table, "D") is None
    assert carriers(table, "") is None
    c = lane(table, "C")
    assert c is not None
    assert (c.ranks, c.name, c.channels[1].weight) == ((0,), "r", 5)
    assert c.id.startswith("r~")
    assert route_name(c.id) == "r"
    assert len(table.lanes) == 4
    assert table.get("r") is None  # nothing may wait under the plain id: nobody could tell who may send it
    assert table.get(c.id) is c
    assert table.get("plain") is table.routes["plain"]
    assert sorted(table.serving("c")) == sorted([Serves(lane(table, "A").id, 1, 5), Serves(c.id, 0, 5)])  # type: ignore[union-attr]
    assert table.serving("d") == (Serves("plain", 0, 1),)


def test_signatures_with_the_same_carriers_share_a_lane() -> None:
    table = RouteTable([route(("a", 0), ("b", 1))], [channel("a", "A", "B", "C"), channel("b", "A", "B")])
    assert lane(table, "A") is lane(table, "B") is not lane(table, "C")
    assert len(table.lanes) == 2


def test_any_other_and_channels_without_a_list() -> None:
    table = RouteTable([route(("a", 0), ("b", 1), ("c", 2))], [channel("a", "A"), channel("b", ANY), channel("c")])
    assert carriers(table, "A") == [("a", 0), ("b", 1), ("c", 2)]
    assert carriers(table, "never heard of") == [("b", 0), ("c", 1)]
    assert carriers(table, "") == [("c", 0)]


def test_a_lanes_name_stands_for_what_may_wait_in_it() -> None:
    a, b = channel("a", "A", "B"), channel("b", "A", "B")
    before = RouteTable([route(("a", 0), ("b", 1))], [a, b])
    same = RouteTable([route(("a", 0), ("b", 1))], [channel("a", "B", "A"), b])
    assert before.lanes.keys() == same.lanes.keys()
    # B leaves one channel: nothing of before may be served under its old name, or B would go there.
    after = RouteTable([route(("a", 0), ("b", 1))], [a, channel("b", "A")])
    assert not before.lanes.keys() & after.lanes.keys()
    # and it is never the name of another route's lane
    other = RouteTable([route(("a", 0), ("b", 1), name="r2")], [a, b])
    assert not before.lanes.keys() & other.lanes.keys()


lists = st.lists(st.sets(st.sampled_from((*NAMES, ANY))), min_size=1, max_size=4)


@given(lists, lists)
def test_no_lane_ever_serves_a_signature_on_a_channel_that_does_not_list_it(
    first: list[set[str]], second: list[set[str]]
) -> None:
    """Whatever the lists are, before and after a change: what waits in a lane may go to each channel that serves it."""
    tables = []
    for listed in (first, second):
        channels = [channel(str(i), *sorted(names)) for i, names in enumerate(listed)]
        tables.append((RouteTable([route(*((c.id, i) for i, c in enumerate(channels)))], channels), channels))
    for before, _ in tables:
        for after, channels in tables:
            known = {c.id: c for c in channels}
            for signature in (*NAMES, "unknown", ""):
                queue = lane(before, signature)
                served = after.get(queue.id) if queue is not None else None
                if served is None:
                    continue
                if served.id == "r":  # a route that lists nothing takes everything
                    assert not after.by_signature
                    continue
                assert all(known[ranked.id].carries(signature) for ranked in served.channels)
                assert served.ranks == tuple(range(len(served.ranks)))


def test_two_lanes_of_a_table_never_share_a_name() -> None:
    """A collision of the hashes is avoided, not hoped against."""
    from gateway.routing import table as module

    table = RouteTable([route(("a", 0), ("b", 0))], [channel("a", "A", "B"), channel("b", "A")])
    a, b = lane(table, "A"), lane(table, "B")
    assert a is not None
    assert b is not None
    taken = {a.id: a}
    again = module._lane(table.routes["r"], ("a", "b"), ["A"], taken)
    assert again.id != a.id
    assert replace(again, id=a.id).channels == a.channels
