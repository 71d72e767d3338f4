"""Templates of the store in several workers: who sees which version when, and what a message gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.errors import RequestError
from gateway.model import Category, ValidMessage
from gateway.store.store import Store
from gateway.store.templates import TemplateStore
from gateway.templates import registry
from gateway.templates.load import read_template
from gateway.templates.model import Param, Template
from gateway.templates.registry import Templates
from tests.support.until import until


def content(text: str, **more: Any) -> bytes:
    body = {"id": "t", "category": "verification", "text": text, "params": {"code": {"type": "code"}}, **more}
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def item(template: str = "t", version: int = 0, **params: Any) -> ValidMessage:
    given = {"to": "+8613800138000", "category": "verification", "template": template, "params": params}
    return ValidMessage({**given, "template_version": version} if version else given)


def refusal(templates: Templates, one: ValidMessage, account: str = "shop") -> tuple[str, str | None]:
    with pytest.raises(RequestError) as refused:
        templates.render(account, one)
    return refused.value.code, refused.value.field


@pytest.fixture
def kept(store: Store) -> TemplateStore:
    return TemplateStore(store)


@pytest.fixture
async def worker(kept: TemplateStore) -> AsyncIterator[Templates]:
    """One worker's registry, following the store as it does in production."""
    templates = Templates((), kept)
    await templates.refresh()
    task = asyncio.create_task(templates.run())
    yield templates
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_put_version_is_used_within_a_second_and_known_to_dispatch_before(
    kept: TemplateStore, worker: Templates
) -> None:
    other = Templates((), kept)  # a dispatch worker: its TLVs need no waiting
    await other.refresh()
    loop = asyncio.get_running_loop()
    put_at = loop.time()
    tlvs = [{"tlvs": {"0x1401": "approved-1"}}]
    assert await kept.put("t", content("Code {{ code }}", registration=tlvs)) == ("put", 1)
    await other.refresh()
    assert other.tlvs(b"shop\x1fcm\x1fr\x1ft\x1f\x1f", b'{"t":1}', "a") == ((0x1401, b"approved-1"),)

    def usable() -> bool:
        try:
            return worker.render("shop", item(code="4829")).text == "Code 4829"
        except RequestError:
            return False

    await until(usable, timeout_s=3)
    assert registry.HOLD_S <= loop.time() - put_at < 1.5  # 0.8 s, and a busy machine


async def test_versions_stand_side_by_side(kept: TemplateStore) -> None:
    await kept.put("t", content("one {{ code }}"))
    await kept.put("t", content("two {{ code }}", accounts=["shop"]))
    templates = Templates((), kept)
    await templates.refresh()
    latest = templates.render("shop", item(code="4829"))
    assert (latest.text, latest.template_version) == ("two 4829", 2)
    assert templates.render("shop", item(version=1, code="4829")).text == "one 4829"
    assert templates.render("bank", item(code="4829")).text == "one 4829"
    assert refusal(templates, item(version=2, code="4829"), "bank") == ("unknown_template", "template_version")
    assert refusal(templates, item(version=3, code="4829")) == ("unknown_template", "template_version")
    assert refusal(templates, item("u", code="4829")) == ("unknown_template", "template")
    # What a repeat is compared by is what was asked, not which version it got.
    await kept.put("t", content("three {{ code }}"))
    later = Templates((), kept)
    await later.refresh()
    again = later.render("shop", item(code="4829"))
    assert (again.template_version, again.asked) == (3, latest.asked)
    assert later.render("shop", item(version=3, code="4829")).asked != again.asked
    assert later.render("shop", item(code="4820")).asked != again.asked


async def test_retired_ones_make_no_new_messages_and_keep_their_tlvs(kept: TemplateStore) -> None:
    entry = [{"channels": ["a"], "tlvs": {"0x1400": "entity"}}]
    for text in ("one {{ code }}", "two {{ code }}"):
        await kept.put("t", content(text, registration=entry))
    templates = Templates((), kept)
    await templates.refresh()
    assert await kept.retire("t", 2) == 1
    await templates.refresh()
    assert templates.render("shop", item(code="4829")).text == "one 4829"
    assert refusal(templates, item(version=2, code="4829")) == ("template_retired", "template")
    assert await kept.retire("t") == 1
    await templates.refresh()
    assert refusal(templates, item(code="4829")) == ("template_retired", "template")
    dims = b"shop\x1fcm\x1fr\x1ft\x1f\x1f"
    assert templates.tlvs(dims, b'{"t":2}', "a") == ((0x1400, b"entity"),)
    assert templates.tlvs(dims, b'{"t":2}', "b") == ()
    assert templates.tlvs(dims, b'{"t":9}', "a") == ()
    assert templates.tlvs(b"shop\x1fcm\x1fr\x1f\x1f\x1f", b'{"o":{}}', "a") == ()
    assert await kept.retire("nobody") == -1


async def test_puts_at_the_same_time_get_numbers_of_their_own(kept: TemplateStore) -> None:
    answers = await asyncio.gather(*(kept.put("t", content(f"{i} {{{{ code }}}}")) for i in range(20)))
    assert sorted(number for _, number in answers) == list(range(1, 21))
    wanted = await asyncio.gather(*(kept.put("t", content(f"x{i} {{{{ code }}}}"), 21) for i in range(5)))
    assert sorted(word for word, _ in wanted) == ["conflict"] * 4 + ["put"]
    _, versions = await kept.all()
    texts = [read_template(orjson.loads(one.content)).text for one in versions]
    assert len(set(texts)) == 21


async def test_an_id_may_be_any_name(kept: TemplateStore, worker: Templates) -> None:
    """The names of the hash's other fields too."""
    for name in ("latest", "at", "retired", "rev", "1"):
        assert await kept.put(name, content("{{ code }}", id=name)) == ("put", 1)
        assert await kept.put(name, content("2 {{ code }}", id=name)) == ("put", 2)
        assert await kept.retire(name, 1) == 1
    _, versions = await kept.all()
    assert [(one.id, one.version) for one in versions] == [
        (name, version) for name in ("1", "at", "latest", "retired", "rev") for version in (1, 2)
    ]


async def test_the_file_wins_and_a_content_nobody_can_use_is_left_out(kept: TemplateStore) -> None:
    await kept.put("t", content("of the store {{ code }}"))
    await kept.put("broken", b'{"id": "broken", "of": "another version"}')
    of_file = Template("t", 4, Category.VERIFICATION, "of the file {{ code }}", (Param("code", "code"),))
    templates = Templates([of_file], kept)
    assert templates.render("shop", item(code="4829")).text == "of the file 4829"
    await templates.refresh()
    assert templates.render("shop", item(code="4829")).text == "of the file 4829"
    assert refusal(templates, item(version=1, code="4829")) == ("unknown_template", "template_version")
    assert [(k.template.id, k.template.version) for k in templates.known()] == [("t", 4)]


async def test_a_message_of_another_category(kept: TemplateStore) -> None:
    await kept.put("t", content("{{ code }}", category="marketing"))
    templates = Templates((), kept)
    await templates.refresh()
    assert refusal(templates, item(code="4829")) == ("category_not_allowed", "category")
