// Queues and gates: what waits to be sent and since when, what holds or closes messages, and setting a gate after its
// count was shown. Owns the question before a gate is set. Refuses to know how a sweep walks: the gateway tells how far.

import { ask, get, session } from "../lib/api.js";
import { confirm, dialog } from "../lib/dialog.js";
import { fill, h, icon, newId } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { clock, count, share, span, time } from "../lib/format.js";
import { done, failed, problemText } from "../lib/say.js";
import { badge, table } from "../lib/table.js";
import { words } from "./queues.words.js";

export { words };

const KINDS = ["campaign", "tag", "gate", "account", "category"];
const CATEGORIES = ["verification", "notification", "marketing"];
const WAITING = ["queued", "scheduled", "deferred", "retry", "held"];
const EVERY_MS = 5000;

export async function show({ main, signal, t }) {
  const at = h("p", { class: "soft small" });
  const problem = h("p", { class: "notice bad", role: "alert", hidden: true });
  const totals = h("div", { class: "figures" });
  const queues = h("div", null, h("p", { class: "loading" }, t("loading")));
  const gates = h("div", null, h("p", { class: "loading" }, t("loading")));
  const mayAct = session.may("operator");
  const opened = new Set();  // queues whose accounts are shown: they stay so when the page is read again

  async function read() {
    const [waiting, set] = await Promise.all([get("/admin/v1/queues", { signal }), get("/admin/v1/gates", { signal })]);
    problem.hidden = true;
    fill(at, t("as_of", { time: clock(Date.now()) }));
    fill(totals, figure(t("waiting"), waiting.waiting, t("waiting.help")), figure(t("scheduled"), waiting.scheduled, t("scheduled.help")),
      figure(t("held"), waiting.held, t("held.help")));
    fill(queues, queueTable(waiting.queues, opened, t), waiting.pinned.length ? pinnedTable(waiting.pinned, t) : null);
    fill(gates, gateTable(set.gates, mayAct ? (gate, state) => change(gate, state, t, signal, read) : null, t));
  }

  fill(main, h("div", { class: "head" }, h("h1", null, t("page.queues")), at), problem, totals,
    h("section", { class: "card", "aria-labelledby": "queues-title" }, h("h2", { id: "queues-title" }, t("queues")), queues),
    h("section", { class: "card", "aria-labelledby": "gates-title" },
      h("div", { class: "head" }, h("h2", { id: "gates-title" }, t("gates")), h("span", { class: "grow" }),
        mayAct ? button(t("set"), () => newGate(t, signal, read), { picture: icon("plus"), small: true, id: "gate-new" }) : null),
      h("p", { class: "help" }, t("gates.help")), gates));
  await read();

  const again = async () => {
    if (signal.aborted) return;
    if (!document.hidden && !document.querySelector("dialog[open]")) {
      try { await read(); } catch (error) {
        if (error.name === "AbortError") return;
        problem.hidden = false;
        fill(problem, icon("bad"), problemText(error));
      }
    }
    if (!signal.aborted) setTimeout(again, EVERY_MS);
  };
  setTimeout(again, EVERY_MS);
}

function figure(name, n, help) {
  return h("div", { class: "figure" }, h("span", { class: "figure-name" }, name), h("span", { class: "figure-value" }, count(n)), h("span", { class: "help" }, help));
}

function queueTable(rows, opened, t) {
  const most = Math.max(1, ...rows.map((row) => row.depth));
  return table({
    caption: t("queues"), empty: t("queues.none"), rows,
    columns: [
      { key: "route", title: t("route"), cell: (row) => h("a", { href: "#/routes" }, row.route) },
      { key: "rank", title: t("rank"), cell: (row) => (row.rank ? t("rank.backup", { n: row.rank }) : t("rank.primary")) },
      { key: "category", title: t("category"), cell: (row) => categoryMark(row.category, t) },
      { key: "depth", title: t("depth"), kind: "number", cell: (row) => measure(row.depth, most, row.category) },
      { key: "oldest", title: t("oldest"), kind: "number", cell: (row) => span(row.oldest_age_s) },
      { key: "accounts", title: t("accounts.deepest"), cell: (row) => accounts(row, opened, t) },
    ],
  });
}

function pinnedTable(rows, t) {
  return h("div", { class: "gap-above" }, h("h3", null, t("pinned")), h("p", { class: "help" }, t("pinned.help")), table({
    caption: t("pinned"), rows,
    columns: [
      { key: "channel", title: t("channel"), cell: (row) => h("a", { href: "#/channels" }, row.channel) },
      { key: "category", title: t("category"), cell: (row) => categoryMark(row.category, t) },
      { key: "depth", title: t("depth"), kind: "number", cell: (row) => count(row.depth) },
      { key: "oldest", title: t("oldest"), kind: "number", cell: (row) => span(row.oldest_age_s) },
    ],
  }));
}

function categoryMark(category, t) {
  return h("span", { class: "category-mark" }, h("span", { class: ["category-swatch", category], "aria-hidden": "true" }), t.of("category", category));
}

function measure(n, most, category) {
  const fillOf = h("span", { class: ["measure-fill", category] });
  fillOf.style.width = `${Math.max(2, (n / most) * 100)}%`;
  return h("span", { class: "measure" }, h("span", { class: "measure-bar", "aria-hidden": "true" }, fillOf), h("span", null, count(n)));
}

function accounts(row, opened, t) {
  if (!row.accounts.length) return null;
  const name = `${row.route}/${row.rank}/${row.category}`;
  const line = (one) => h("li", null, h("span", null, one.account), h("span", { class: "soft" }, `${count(one.depth)} · ${span(one.oldest_age_s)}`));
  if (row.accounts.length === 1) return h("ul", { class: "name-list" }, line(row.accounts[0]));
  const box = h("details", { open: opened.has(name), class: "inline-details", on: { toggle: () => opened[box.open ? "add" : "delete"](name) } },
    h("summary", null, t("accounts.n", { n: row.accounts.length })), h("ul", { class: "name-list" }, row.accounts.map(line)));
  return box;
}

// --- gates

const STATE_KIND = { open: "ok", hold: "warn", closed: "bad" };

function gateTable(rows, act, t) {
  return table({
    caption: t("gates"), empty: t("gates.none"), rows,
    columns: [
      { key: "name", title: t("name"), cell: (row) => h("span", { class: "id" }, row.name) },
      { key: "kind", title: t("kind"), cell: (row) => t(`kind.${row.kind}`) },
      { key: "state", title: t("state"), cell: (row) => badge(STATE_KIND[row.state], t.of("gate", row.state)) },
      { key: "held", title: t("held"), kind: "number", cell: (row) => count(row.held) },
      { key: "closed", title: t("ended"), kind: "number", cell: (row) => count(row.closed) },
      { key: "sweep", title: t("progress"), cell: (row) => progress(row, t) },
      ...(act ? [{ key: "act", title: t("actions"), cell: (row) => h("span", { class: "buttons" },
        button(t("act.open"), () => act(row, "open"), { small: true, label: t("act.open.of", { name: row.name }), id: `open-${row.kind}-${row.name}` }),
        row.state === "hold" ? button(t("act.close"), () => act(row, "closed"), { small: true, label: t("act.close.of", { name: row.name }), id: `close-${row.kind}-${row.name}` }) : null) }] : []),
    ],
  });
}

function progress(row, t) {
  const sweep = row.sweep;
  if (!sweep) return null;
  if (sweep.done) return t("sweep.done", { time: time(sweep.ended_ms), span: span((sweep.ended_ms - sweep.started_ms) / 1000), n: count(sweep.closed) });
  const part = sweep.total ? 1 - sweep.left / sweep.total : 0;
  const bar = h("progress", { max: sweep.total || 1, value: sweep.total - sweep.left, "aria-label": t("progress") });
  return h("span", { class: "sweep" }, bar, h("span", { class: "small" }, t("sweep.going", { part: share(part), left: count(sweep.left), closed: count(sweep.closed) })));
}

/** Count what a gate would concern; answers come in pieces and are added up. `told` hears how far it is. */
async function preview(gate, signal, told) {
  const total = Object.fromEntries(WAITING.map((word) => [word, 0]));
  const rows = new Map();
  let next = "", looked = 0;
  do {
    const found = await ask("POST", "/admin/v1/gates/preview", { kind: gate.kind, name: gate.name, under_way: false, ...(next ? { next } : {}) }, { signal });
    for (const word of WAITING) total[word] += found[word];
    for (const row of found.rows) {
      const key = `${row.category}\n${row.account}`;
      const known = rows.get(key) ?? { category: row.category, account: row.account, n: 0 };
      known.n += WAITING.reduce((n, word) => n + row[word], 0);
      rows.set(key, known);
    }
    looked += found.looked;
    told(looked);
    next = found.next;
  } while (next);
  return { total, waiting: WAITING.reduce((n, word) => n + total[word], 0), rows: [...rows.values()].filter((row) => row.n).sort((a, b) => b.n - a.n) };
}

function counted(found, t) {
  const words = WAITING.filter((word) => found.total[word]).map((word) => `${count(found.total[word])} ${t(`state.${word}`)}`).join(" · ");
  return h("div", null, h("p", { class: "counted" }, h("strong", null, count(found.waiting)), " ", t("counted"), words ? ` (${words})` : ""),
    found.rows.length ? table({
      caption: t("counted.rows"), rows: found.rows.slice(0, 12), stack: false,
      columns: [
        { key: "account", title: t("account") }, { key: "category", title: t("category"), cell: (row) => categoryMark(row.category, t) },
        { key: "n", title: t("count"), kind: "number", cell: (row) => count(row.n) },
      ],
    }) : null,
    found.rows.length > 12 ? h("p", { class: "help" }, t("counted.more", { n: found.rows.length - 12 })) : null);
}

/** Ask, with what it concerns, then set a gate. Returns whether it was set. */
async function change(gate, state, t, signal, read) {
  const named = t("named", { kind: t(`kind.${gate.kind}`), name: gate.name });
  if (state === "open") {
    const yes = await confirm({ title: t("open.title", { gate: named }), text: gate.state === "closed" ? t("open.closed") : t("open.text", { n: count(gate.held) }), yes: t("act.open") });
    if (!yes) return false;
  } else {
    const found = await countFirst(gate, t, signal);
    if (!found) return false;
    const closes = state === "closed";
    const yes = await confirm({
      title: t(closes ? "close.title" : "hold.title", { gate: named }), danger: closes,
      text: t(closes ? "close.text" : "hold.text"),
      more: h("div", null, counted(found, t), h("p", { class: "help" }, t("carriers"))),
      yes: found.waiting ? t(closes ? "close.yes" : "hold.yes", { n: count(found.waiting) }) : t(closes ? "close.yes.none" : "hold.yes.none"),
    });
    if (!yes) return false;
  }
  const answer = await ask("PUT", "/admin/v1/gates", { kind: gate.kind, name: gate.name, state });
  done(t(`set.${state}`, { gate: named, n: count(answer.moved), held: count(answer.held) }));
  await read();
  return true;
}

/** Count behind a dialog that can be left; null when it was. */
async function countFirst(gate, t, signal) {
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort(), { once: true });
  const text = h("p", { role: "status" }, t("counting", { n: 0 }));
  let close = null, found = null;
  const open = dialog({
    title: t("counting.title"), body: text, buttons: [{ text: t("cancel"), value: null }],
    ready: (box, end) => { close = end; },
  });
  const work = preview(gate, stop.signal, (n) => fill(text, t("counting", { n: count(n) }))).then((value) => { found = value; }, (error) => { if (error.name !== "AbortError") failed(error); }).finally(() => close(null));
  await open;
  if (!found) stop.abort();
  await work;
  return found;
}

async function newGate(t, signal, read) {
  let known = [];
  try { known = (await get("/admin/v1/accounts", { signal })).accounts.map((one) => one.id); } catch (error) { if (error.name === "AbortError") return; }
  const place = h("div");
  const names = (kind) => {
    const help = t(`kind.${kind}.help`);
    if (kind === "category") return field({ name: "name", label: t("name"), type: "select", help, options: CATEGORIES.map((c) => [c, t.of("category", c)]), value: "marketing" });
    if (kind === "account" && known.length) return field({ name: "name", label: t("account"), type: "select", help, options: known.map((id) => [id, id]) });
    return field({ name: "name", label: t("name"), help, required: true, maxlength: 64, autocomplete: "off", spellcheck: "false" });
  };
  fill(place, names("campaign"));
  let finish = null;
  const stateName = newId("state");
  const chosen = await dialog({
    title: t("set"), body: form({
      button: t("set.count"), also: h("button", { type: "button", class: "plain", on: { click: () => finish(null) } }, t("cancel")), fields: [
        field({ name: "kind", label: t("kind"), type: "select", options: KINDS.map((kind) => [kind, t(`kind.${kind}`)]), on: { change: (event) => fill(place, names(event.target.value)) } }),
        place,
        h("fieldset", { class: "choice" }, h("legend", null, t("set.what")),
          ["hold", "closed"].map((state, i) => h("label", { for: `${stateName}-${i}` },
            h("input", { type: "radio", name: "state", id: `${stateName}-${i}`, value: state, checked: !i }), h("span", null, h("strong", null, t(`do.${state}`)), h("span", { class: "help" }, t(`do.${state}.help`)))))),
      ],
      send: async (values) => finish(values),
    }),
    ready: (box, close) => { finish = close; },
  });
  if (chosen) await change(chosen, chosen.state, t, signal, read);
}
