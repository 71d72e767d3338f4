"""gateway.policy.caps: which limits hold for a message, how the store is told, and when they allow one more."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Category
from gateway.policy.caps import Cap, CategoryCaps, allowed_again_s, full, read, written
from gateway.settings import AccountSettings, CategorySettings

M = Category.MARKETING
RULES = CategorySettings(
    ttl_s=60,
    on_uncertain="hold",
    max_attempts=3,
    per_number=((1, 60), (5, 3600)),
    per_number_all=((20, 86_400),),
    per_signature=((2, 600),),
    per_tag=(("login", ((1, 30),)), ("free", ())),
)
SHOP = AccountSettings("shop")


def names(caps: tuple[Cap, ...]) -> list[tuple[str, str]]:
    return [(cap.name, cap.about) for cap in caps]


def test_every_limit_that_holds() -> None:
    caps = CategoryCaps(SHOP, M, RULES)
    everybody = [("shop", "per_number"), ("*", "per_number_all")]
    assert names(caps.of("", ())) == everybody
    assert names(caps.of("Acme", ("x", "login", "login", "free"))) == [
        *everybody,
        ("shop#s:Acme", "per_signature"),
        ("shop#t:login", "per_tag"),
    ]
    assert caps.of("Acme", ("login",), test=True) == ()
    assert CategoryCaps(SHOP, M, CategorySettings(60, "hold", 3)).of("Acme", ("login",)) == ()


def test_an_accounts_own_limits_replace_the_categorys() -> None:
    own = replace(SHOP, per_number=((M, ((3, 86_400),)), (Category.VERIFICATION, ())))
    assert CategoryCaps(own, M, RULES).of("", ())[0] == Cap("shop", ((3, 86_400),))
    assert names(CategoryCaps(own, Category.VERIFICATION, RULES).of("", ())) == [("*", "per_number_all")]
    assert CategoryCaps(own, Category.NOTIFICATION, RULES).of("", ())[0] == Cap("shop", RULES.per_number)


def test_as_the_store_reads_them() -> None:
    caps = (Cap("shop", ((1, 60), (5, 3600))), Cap("shop#s:【x】", ((2, 600),)))
    assert written(caps) == "\x1eshop\x1f1,60;5,3600\x1eshop#s:【x】\x1f2,600"
    assert read(written(caps)) == caps
    assert (written(()), read("")) == ("", ())


def test_when_one_more_is_allowed() -> None:
    caps = CategoryCaps(SHOP, M, RULES).of("Acme", ())
    now = 1_000_000
    assert allowed_again_s(caps, {}, now) == 0
    assert allowed_again_s(caps, {"shop": [now - 60]}, now) == 0
    assert allowed_again_s(caps, {"shop": [now - 59]}, now) == now + 1
    # Five in the hour: the oldest of them decides; and the last of several caps.
    five = [now - 3000, now - 2000, now - 1000, now - 500, now - 100]
    assert allowed_again_s(caps, {"shop": five}, now) == now + 600
    assert allowed_again_s(caps, {"shop": five, "shop#s:Acme": [now - 2, now - 1]}, now) == now + 600
    assert full(caps[0], five, now) == [(now + 600, 5, 5, 3600)]


@given(
    st.lists(st.integers(0, 10_000), max_size=12).map(sorted),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5_000)), min_size=1, max_size=3),
)
def test_it_is_the_first_second_at_which_all_limits_hold(times: list[int], limits: list[tuple[int, int]]) -> None:
    """Against the definition: with one more message no window of any limit holds more than it may."""
    now = 10_000

    def allowed(at: int) -> bool:
        return all(sum(at - window_s < sent for sent in times) < most for most, window_s in limits)

    again = allowed_again_s([Cap("shop", tuple(limits))], {"shop": times}, now)
    first = next(at for at in range(now, now + 6_000) if allowed(at))
    assert (again or now) == first
