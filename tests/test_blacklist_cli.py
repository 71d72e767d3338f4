"""`smsgw blacklist`, `inbound` and `audit` as an operator meets them: over a real admin listener and a real store."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.admin.audit_v1 import AuditApi
from gateway.admin.blacklist_v1 import BlacklistApi
from gateway.admin.inbound_v1 import InboundApi
from gateway.model import Secret, message_id
from gateway.settings import AdminSettings, Settings, load
from gateway.store.audit import Audit
from gateway.store.blacklists import Blacklists
from gateway.store.inbox import InboundStore, Recorded
from gateway.store.keys import new_id, shard_of
from gateway.store.store import Store
from tests.support.admin import admin_listener
from tests.support.config import ENV, GATEWAY, write_config
from tests.support.valkey import ValkeyServer

TO = "+8613800138000"


def command(*args: str) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, stdout, stderr. Thirty processes would take a minute."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = ["smsgw", *args]
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


@dataclass
class Running:
    """A configuration folder with an admin listener at work on a store."""

    folder: Path
    store: Store
    address: str

    async def smsgw(self, *args: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(command, *args, "-c", str(self.folder))

    async def json(self, *args: str) -> Any:
        code, out, err = await self.smsgw(*args, "--json")
        assert code == 0, err
        return json.loads(out)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the listener itself; a refusal is an AdminError."""
        from gateway.client.admin import ask

        return await ask(f"http://{self.address}", "t" * 20, method, f"/admin/v1/{path}", body=body)


@pytest.fixture
async def running(
    tmp_path: Path, valkey: ValkeyServer, shards: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    monkeypatch.setenv("TOKEN", "t" * 20)
    monkeypatch.setattr(sys, "argv", sys.argv)  # set back at the end
    gateway = GATEWAY.replace("[store]", f"[store]\nshards = {shards}")
    folder = write_config(tmp_path / "config", gateway=gateway)
    settings: Settings = replace(load(folder, ENV), admin=AdminSettings(token=Secret("t" * 20)))
    store = await Store.open(settings, valkey.url, incarnation="admin001")
    apis = (BlacklistApi(settings, store), InboundApi(settings, store), AuditApi(store))
    more = [route for api in apis for route in api.routes()]
    async with admin_listener(settings, store, tmp_path, more=more) as address:
        host, _, port = address.partition(":")
        text = (folder / "gateway.toml").read_text()
        (folder / "gateway.toml").write_text(
            text.replace('[admin]\nlisten = "127.0.0.1:0"', f'[admin]\nlisten = "{host}:{port}"')
        )
        yield Running(folder, store, address)
    await store.close()


async def test_one_number_and_the_audit_of_it(running: Running) -> None:
    code, out, _ = await running.smsgw("blacklist", "show", TO)
    assert (code, out) == (0, "on no list\n")
    entry = await running.json(
        "blacklist", "add", TO, "--scope", "shop", "--category", "marketing", "--category", "notification"
    )
    assert entry | {"since": ""} == {
        "scope": "shop", "categories": ["notification", "marketing"], "reason": "operator", "since": "",
        "source": "operator",
    }  # fmt: skip
    assert (await running.json("blacklist", "show", TO))["entries"] == [entry]
    code, out, _ = await running.smsgw("blacklist", "list", "--scope", "shop")
    assert out.startswith(f"{TO} notification marketing: operator since ")
    found = await running.json("blacklist", "stats")
    assert found["numbers"] == [{"scope": "shop", "reason": "operator", "numbers": 1}]
    assert [(d["added"], d["removed"]) for d in found["days"]] == [(1, 0)]
    assert (await running.smsgw("blacklist", "remove", TO))[0] == 1, "not on the global one"
    assert (await running.smsgw("blacklist", "remove", "13800138000", "--country", "CN", "--scope", "shop"))[0] == 0
    found = await running.json("audit")
    done = [e for e in found["entries"] if e["result"] == "done"]
    assert [(e["actor"], e["action"], e["object"], e.get("number")) for e in done] == [
        ("admin@127.0.0.1", "blacklist.remove", "shop", "+86138****8000"),
        ("admin@127.0.0.1", "blacklist.export", "shop", None),
        ("admin@127.0.0.1", "blacklist.add", "shop", "+86138****8000"),
    ]
    assert len({e["number_hash"] for e in found["entries"] if "number_hash" in e}) == 1
    assert "13800138000" not in json.dumps(found)
    assert (await running.json("audit", "--verify"))["sound"] is True
    # Any change to what stands there shows: an entry altered, one left out, the last one cut off.
    shard = shard_of(TO[1:], running.store.shards)
    execute, key = running.store.client.execute, f"{running.store.prefixes[shard]}audit"
    rows = await execute("XRANGE", key, "-", "+")
    for tampered in (altered(rows), [*rows[:-2], *rows[-1:]], rows[:-1], rows[::-1]):
        await execute("DEL", key)
        for i, (_, fields) in enumerate(tampered):
            await execute("XADD", key, f"{i + 1}-0", *fields)
        code, out, _ = await running.smsgw("audit", "--verify")
        assert (code, "BROKEN at entry" in out) == (1, True), out
    await execute("DEL", key)
    for position, fields in rows:
        await execute("XADD", key, position, *fields)
    assert (await running.smsgw("audit", "--verify"))[0] == 0


def altered(rows: list[Any]) -> list[Any]:
    """Return an audit whose last entry names another actor."""
    position, fields = rows[-1]
    return [*rows[:-1], (position, [field.replace(b"admin@", b"somebody@") for field in fields])]


@pytest.mark.parametrize("shards", [4], indirect=True)
async def test_import_export_and_undo(running: Running, tmp_path: Path) -> None:
    lists = Blacklists(running.store)
    await lists.add("8613800000003", "shop", 2, "td", source="mo.a", actor="mo.a")
    await lists.add("8613800000004", "shop", 4, "operator", source="operator", actor="operator")
    source = tmp_path / "in.csv"
    rows = ["\ufeffnumber,categories,reason", "# ours", "+8613800000001", "13800000002,,complaint", "8613800000003"]
    rows += [
        "13800000004",
        '13800000005,"marketing notification"',
        "13800000001",
        "12",
        "+8613800000006,adverts",
        "",
        '"x',
    ]
    source.write_text("\n".join(rows) + "\n")
    args = ("blacklist", "import", str(source), "--scope", "shop", "--country", "CN")
    code, out, err = await running.smsgw(*args, "--dry-run")
    assert (code, out) == (1, "3 would be added, 1 would be changed, 2 there already, 3 bad\n")
    assert err.splitlines()[0].startswith("line 9: ")
    assert "adverts" not in err
    assert [line.split(":")[0] for line in err.splitlines()] == ["line 9", "line 10", "line 12"]
    assert await lists.counts() == {("shop", "td"): 1, ("shop", "operator"): 1}
    code, out, err = await running.smsgw(*args, "--json")
    done = json.loads(out)
    assert (code, done["added"], done["changed"], done["unchanged"], done["bad_rows"]) == (1, 3, 1, 2, 3)
    assert await lists.counts() == {("shop", "do-not-disturb"): 3, ("shop", "complaint"): 1, ("shop", "operator"): 1}
    [again] = [line for line in (await running.smsgw(*args, "--id", done["id"]))[1].splitlines() if "added" in line]
    assert again == "0 added, 0 changed, 6 there already, 3 bad"
    assert (await running.smsgw(*args, "--id", done["id"], "--reason", "td"))[0] == 4, "other rules"

    exported = tmp_path / "out.csv"
    assert (await running.smsgw("blacklist", "export", str(exported), "--scope", "shop"))[0] == 0
    with exported.open(newline="") as stream:
        found = {row["number"]: (row["categories"], row["reason"]) for row in csv.DictReader(stream)}
    assert found == {
        "8613800000001": ("marketing", "do-not-disturb"),
        "8613800000002": ("marketing", "complaint"),
        "8613800000003": ("notification marketing", "do-not-disturb"),
        "8613800000004": ("marketing", "operator"),
        "8613800000005": ("notification marketing", "do-not-disturb"),
    }
    assert exported.stat().st_mode & 0o077 == 0
    code, out, _ = await running.smsgw("blacklist", "import", str(exported), "--scope", "global")
    assert (code, out.splitlines()[0]) == (0, "5 added, 0 changed, 0 there already, 0 bad")

    # Somebody changes one of them; the import takes back only what is still its own.
    await lists.put("8613800000005", "shop", 4, "operator", source="operator", actor="operator")
    assert await running.json("blacklist", "undo", done["id"]) == {"removed": 2, "restored": 1}
    left = {(one.mask, one.reason) for n in (3, 4, 5) for one in await lists.get(f"861380000000{n}", "shop")}
    assert left == {(2, "td"), (4, "operator")}
    assert await lists.counts() == {
        ("shop", "td"): 1, ("shop", "operator"): 2,
        ("*", "do-not-disturb"): 3, ("*", "complaint"): 1, ("*", "operator"): 1,
    }  # fmt: skip
    assert (await running.smsgw(*args, "--id", done["id"]))[0] == 4, "taken back: no rows are taken any more"
    listed = (await running.json("blacklist", "imports"))["imports"]
    assert [one.get("undone", False) for one in listed if one["id"] == done["id"]] == [True]
    actions = [e["action"] for e in (await running.json("audit"))["entries"] if e.get("result") == "done"]
    assert "blacklist.undo" in actions
    assert actions.count("blacklist.import") == 3
    assert actions.count("blacklist.import_begun") >= 3, "also of one that stops on its way"


@pytest.mark.parametrize("shards", [1], indirect=True)
async def test_two_hundred_thousand_rows_in_seconds(running: Running, tmp_path: Path) -> None:
    source = tmp_path / "many.csv"
    source.write_text("".join(f"86138{i:08d}\n" for i in range(200_000)))
    started = time.monotonic()
    code, out, err = await running.smsgw("blacklist", "import", str(source))
    assert (code, out.splitlines()[0]) == (0, "200000 added, 0 changed, 0 there already, 0 bad"), err
    assert "100000 rows (50 %)" in err
    took = {"import": time.monotonic() - started}
    started = time.monotonic()
    exported = tmp_path / "out.csv"
    assert (await running.smsgw("blacklist", "export", str(exported)))[0] == 0
    took["export"] = time.monotonic() - started
    with exported.open() as stream:
        assert len({line.partition(",")[0] for line in stream}) == 200_001
    import_id = out.splitlines()[1].split()[1].rstrip(";")
    started = time.monotonic()
    assert await running.json("blacklist", "undo", import_id) == {"removed": 200_000, "restored": 0}
    took["undo"] = time.monotonic() - started
    assert await Blacklists(running.store).counts() == {}
    assert max(took.values()) < 60, took  # some two seconds each on a machine that does nothing else


@pytest.mark.parametrize("shards", [4], indirect=True)
async def test_replies_that_a_person_reads(running: Running) -> None:
    inbox = InboundStore(running.store)
    shard = shard_of(TO[1:], running.store.shards)
    ids = []
    for i, opt in enumerate(("review", "review", "")):
        sid = new_id(shard)
        event = {"id": message_id(sid), "account": "shop", "from": TO[1:], "to": "1069", "text": f"TD?{i}",
                 "received_at": "2026-01-01T00:00:00.000Z", "in_reply_to": None, "channel": "a", "signature": "",
                 "keyword": "", "opt": opt}  # fmt: skip
        one = Recorded(sid, TO[1:], b"%016d" % i, "shop", opt, json.dumps(event).encode(), "a")
        await inbox.record(shard, [one], keep_s=86_400, keep_optouts_s=86_400)
        ids.append(event["id"])
    shown = await running.json("inbound", "list")
    assert [one["id"] for one in shown["messages"]] == ids[::-1]
    assert {(one["from"], one["chars"], "text" in one) for one in shown["messages"]} == {("+86138****8000", 4, False)}
    _, out, err = await running.smsgw("inbound", "review", "--full")
    assert "'TD?1'" in out
    assert "'TD?2'" not in out
    assert "2 to be read" in err
    assert (await running.smsgw("inbound", "dismiss", ids[0]))[1] == "dismissed\n"
    assert (await running.smsgw("inbound", "opt-out", ids[1]))[1] == "on the blacklist of shop\n"
    [entry] = await Blacklists(running.store).get(TO[1:])
    assert (entry.reason, entry.source, entry.mask) == ("td", "review", 4)
    shown = await running.json("inbound", "list", "--number", TO, "--full")
    assert (shown["to_review"], [one["text"] for one in shown["messages"]]) == (0, ["TD?2", "TD?1", "TD?0"])
    assert (await running.smsgw("inbound", "dismiss", "nonsense"))[0] == 4
    page = await running.ask("GET", f"inbound?before=%7B{ids[1].upper()}%7D")  # as uuid reads it
    assert [one["id"] for one in page["messages"]] == [ids[0]]
    event |= {"id": message_id(sid := new_id(shard)), "from": "BANK"}
    nameless = Recorded(sid, "", b"%016d" % 9, "shop", "review", json.dumps(event).encode(), "a")
    await inbox.record(shard, [nameless], keep_s=86_400, keep_optouts_s=86_400)
    assert (await running.smsgw("inbound", "opt-out", event["id"]))[0] == 4, "it came from no number"
    actions = [e["action"] for e in (await running.json("audit"))["entries"]]
    assert sorted(actions) == ["blacklist.add", "inbound.read", "inbound.read", "inbound.reviewed", "inbound.reviewed"]


@pytest.mark.parametrize("shards", [1], indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "blacklist", {"number": "12"}, "number"),
        ("PUT", "blacklist", {"number": TO, "scope": "nobody"}, "scope"),
        ("PUT", "blacklist", {"number": TO, "scope": "shop/"}, "scope"),
        ("PUT", "blacklist", {"number": TO, "categories": []}, "categories"),
        ("PUT", "blacklist", {"number": TO, "categories": ["adverts"]}, "categories"),
        ("PUT", "blacklist", {"number": TO, "categories": [["marketing"]]}, "categories"),
        ("PUT", "blacklist", {"number": TO, "categories": [{}]}, "categories"),
        ("PUT", "blacklist", {"number": TO, "reason": "because"}, "reason"),
        ("PUT", "blacklist", {"number": TO, "reason": ["td"]}, "reason"),
        ("PUT", "blacklist", {"number": TO, "scope": ["shop"]}, "scope"),
        ("PUT", "blacklist", {"number": TO, "colour": 1}, "colour"),
        ("DELETE", "blacklist", {"number": TO, "country": 1}, "country"),
        ("GET", "blacklist?days=x", None, "days"),
        pytest.param("GET", f"blacklist?days={'9' * 5000}", None, "days", id="days-of-5000-digits"),
        ("GET", "blacklist/entries?cursor=9:0", None, "cursor"),
        ("GET", f"blacklist/entries?cursor=0:{'9' * 20}", None, "cursor"),
        ("GET", "blacklist/entries?scope=nobody", None, "scope"),
        ("POST", "blacklist/imports", {"country": "CHN"}, "country"),
        ("POST", "blacklist/imports", {"dry_run": 1}, "dry_run"),
        ("POST", "blacklist/imports", {"id": "a/b"}, "id"),
        ("POST", "blacklist/imports/none/rows", {"rows": []}, "no such import"),
        ("POST", "blacklist/undo", {"import": "none"}, "no such import"),
        ("POST", "blacklist/undo", {"import": "a", "source": "b"}, "import"),
        ("POST", "blacklist/undo", {"scope": "global", "source": "import.a"}, "source"),
        ("POST", "blacklist/undo", {"scope": "global", "source": "mo.a", "since": "now"}, "since"),
        ("GET", "inbound?review=2", None, "review"),
        ("GET", "inbound?limit=0", None, "limit"),
        pytest.param("GET", f"inbound?limit={'9' * 5000}", None, "limit", id="limit-of-5000-digits"),
        ("GET", "inbound?before=x", None, "before"),
        ("POST", "inbound/search", {"number": TO, "months": 121}, "months"),
        ("POST", "inbound/reviewed", {"id": 1, "decision": "dismiss"}, "id"),
        ("POST", "inbound/reviewed", {"id": "0193d1c8-0000-7000-8000-000000000000", "decision": "perhaps"}, "decision"),
        ("POST", "inbound/reviewed", {"id": "0193d1c8-0000-7000-8000-000000000000", "decision": "dismiss"}, "no such"),
        ("GET", "audit?limit=x", None, "limit"),
        pytest.param("GET", f"audit?before={'9' * 5000}", None, "before", id="before-of-5000-digits"),
    ],
)
async def test_what_is_refused(running: Running, method: str, path: str, body: Any, field: str) -> None:
    from gateway.client.admin import AdminError

    with pytest.raises(AdminError) as refused:
        await running.ask(method, path, body)
    assert field in str(refused.value)
    assert TO not in str(refused.value)


@pytest.mark.parametrize("shards", [1], indirect=True)
async def test_a_chain_that_grows_while_it_is_read_is_sound(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(running.store)
    for i in range(5):
        await audit.note("operator", "test", str(i))
    execute = running.store.client.execute

    async def and_one_more(command: str, *args: Any, **rest: Any) -> Any:
        answer = await execute(command, *args, **rest)
        if command == "XRANGE":
            await audit.note("operator", "test", "meanwhile")
        return answer

    monkeypatch.setattr(running.store.client, "execute", and_one_more)
    [verdict] = await audit.verify(page=2)
    assert (verdict.broken_at, verdict.entries) == (0, verdict.last)
    monkeypatch.undo()
    await execute("HSET", "gw:{s00}:audit:head", "n", 3)  # a head that is set back, for entries to be cut off unseen
    assert (await audit.verify())[0].broken_at
