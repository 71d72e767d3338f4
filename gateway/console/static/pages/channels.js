// Channels: a live list to sort and to filter, and one channel in full with pause, resume and drain. Owns this page. What
// a channel's state is the gateway says (admin/channel_state.py); what pausing would do is worked out here, from its
// routes and the channels beside it, and told before it is done.

import { ask, get, session } from "../lib/api.js";
import { barChart, sparkline } from "../lib/chart.js";
import { confirm } from "../lib/dialog.js";
import { fill, h, icon } from "../lib/dom.js";
import { button, field } from "../lib/form.js";
import { clock, count, money, rate, share, span, time } from "../lib/format.js";
import { listen } from "../lib/live.js";
import { arrange, carrierName, causeText, dress, keepMoments, kindOf, liveBadge, meter, moment, put, refill, troubleOf } from "../lib/now.js";
import { done } from "../lib/say.js";
import { badge, facts, table } from "../lib/table.js";
import { language, translator } from "../lib/words.js";
import { words } from "./channels.words.js";

export { words };

const t = translator(words);
const STATES = ["down", "breaker_open", "breaker_half", "partial", "draining", "paused", "starting", "up"];
const SPARK = 90;
const usable = (state) => state === "up" || state === "partial";
const joined = (values) => values.join(language() === "zh" ? "、" : ", ");

let order = { key: "state", down: false };  // kept while the console is open, so that coming back shows the same list
let wanted = { text: "", state: "" };

export async function show(view) {
  const found = await get("/admin/v1/channels", { signal: view.signal });
  const tell = view.params[0] ? await one(view, view.params[0], found.channels) : list(view);
  tell(found.channels);
  keepMoments(view.main, view.signal);
  listen("channels", (news) => tell(news.channels), view.signal);
}

function rateText(c) {
  return c.tps_limit ? t("rate.of", { tps: rate(c.tps), limit: count(c.tps_limit) }) : t("rate.of.plain", { tps: rate(c.tps) });
}
function windowText(c) { return t("window.of", { n: count(c.window_used), m: count(c.window_total) }); }
function errorText(c) { return c.errors.submits ? (c.errors.share ? share(c.errors.share) : t("errors.none")) : "–"; }
function receiptText(c) { return c.receipt_delay?.n ? t("receipts.of", { p50: span(c.receipt_delay.p50_s), p95: span(c.receipt_delay.p95_s) }) : "–"; }

// --- the list

const COLUMNS = [
  { key: "id", title: () => t("channel"), sort: (c) => c.id },
  { key: "state", title: () => t("col.state"), sort: (c) => troubleOf(c.state) },
  { key: "sessions", title: () => t("col.sessions"), sort: (c) => c.sessions, kind: "number" },
  { key: "window", title: () => t("col.window"), sort: (c) => (c.window_total ? c.window_used / c.window_total : 0) },
  { key: "rate", title: () => t("col.rate"), sort: (c) => c.tps, kind: "number" },
  { key: "errors", title: () => t("col.errors"), sort: (c) => c.errors.share ?? -1, kind: "number" },
  { key: "receipts", title: () => `${t("col.receipts")} p50 / p95`, sort: (c) => c.receipt_delay?.p95_s ?? -1, kind: "number" },
  { key: "delivered", title: () => t("col.delivered"), sort: (c) => c.delivery?.ratio ?? 2, kind: "number" },
];

function list({ main, signal }) {
  let channels = [], states = "";
  const rows = new Map(), body = h("tbody"), shown = h("p", { class: "soft small", role: "status" }), nothing = h("p", { class: "soft", hidden: true });
  const heads = COLUMNS.map((c) => {
    const arrow = h("span", { "aria-hidden": "true" });
    const cell = h("th", { scope: "col", class: c.kind ?? "" }, h("button", { type: "button", class: "bare sort", on: { click: () => { order = { key: c.key, down: order.key === c.key ? !order.down : c.kind === "number" }; sort(); } } }, c.title(), arrow));
    return { key: c.key, cell, arrow };
  });
  const text = field({ name: "filter", label: t("filter"), type: "search", placeholder: t("filter.help"), value: wanted.text, autocomplete: "off" });
  const state = field({ name: "state", label: t("filter.state"), type: "select", value: wanted.state, options: [["", t("all")], ["trouble", t("filter.trouble")], ...STATES.map((s) => [s, t.of("channel", s)])] });
  text.addEventListener("input", (event) => { wanted.text = event.target.value; sort(); }, { signal });
  state.addEventListener("change", (event) => { wanted.state = event.target.value; sort(); }, { signal });
  const by = field({ name: "sort", label: t("col.sort"), type: "select", value: order.key, options: COLUMNS.map((c) => [c.key, c.title()]) });
  by.classList.add("only-phone");
  by.addEventListener("change", (event) => { const c = COLUMNS.find((one) => one.key === event.target.value); order = { key: c.key, down: c.kind === "number" }; sort(); }, { signal });
  fill(main, h("div", { class: "head" }, h("h1", null, t("title"))),
    h("section", { class: "card" }, h("form", { class: "form inline filters", "aria-label": t("filter"), on: { submit: (event) => event.preventDefault() } }, text, state, by, shown),
      h("div", { class: "table stack channels-table", tabindex: "0", role: "group", "aria-label": t("title") }, h("table", null, h("caption", { class: "spoken" }, t("title")), h("thead", null, h("tr", null, heads.map((head) => head.cell))), body)),
      nothing, h("p", { class: "soft small" }, t("lead"))));

  function rowOf(id) {
    const state = liveBadge(), why = h("p", { class: "row-why soft small" }), since = h("span", { class: "soft small row-since" });
    const carrier = h("span", { class: "soft small" }), sessions = h("span"), used = meter(t("col.window")), now = h("span"), limit = h("p", { class: "row-why soft small" }), errors = h("span"), top = h("p", { class: "row-why soft small", translate: "no" }), receipts = h("span"), delivered = h("span");
    const cell = (i, ...inside) => h("td", { class: COLUMNS[i].kind ?? "", data: { title: COLUMNS[i].title() } }, h("div", null, inside));
    const node = h("tr", null, h("th", { scope: "row", data: { title: t("channel") } }, h("div", null, h("a", { href: `#/channels/${encodeURIComponent(id)}` }, id), " ", carrier)),
      cell(1, state.node, " ", since, why), cell(2, sessions), cell(3, used.node), cell(4, now, limit), cell(5, errors, top), cell(6, receipts), cell(7, delivered));
    return { node, set(c) {
      put(carrier, c.carrier ? carrierName(t, c.carrier) : "");
      state.set(kindOf(c.state), t.of("channel", c.state));
      refill(since, String(c.state_since_ms), () => (c.state_since_ms ? moment(c.state_since_ms) : ""));
      put(why, causeText(t, c.state_cause));
      put(sessions, t("sessions.of", { n: c.sessions, m: c.binds }));
      sessions.className = c.sessions < c.binds ? "is-low" : "";
      used.set(c.window_used, c.window_total, windowText(c));
      put(now, rateText(c));
      put(limit, c.throttled ? t("rate.throttled", { limit: count(c.tps_limit), max: count(c.max_tps) }) : "");
      put(errors, errorText(c));
      put(top, c.errors.top[0] ? c.errors.top[0].name || c.errors.top[0].status : "");
      put(receipts, receiptText(c));
      put(delivered, c.delivery?.ratio !== null && c.delivery ? share(c.delivery.ratio) : "–");
    } };
  }

  function like(c) {
    if (wanted.state === "trouble" ? ["up", "starting"].includes(c.state) : wanted.state && c.state !== wanted.state) return false;
    const search = wanted.text.trim().toLowerCase();
    return !search || [c.id, c.carrier, c.carrier && carrierName(t, c.carrier), c.host, ...c.routes.map((r) => r.route)].some((one) => one?.toLowerCase().includes(search));
  }

  function sort() {
    for (const { key, cell, arrow } of heads) {
      cell.setAttribute("aria-sort", key === order.key ? (order.down ? "descending" : "ascending") : "none");
      put(arrow, key === order.key ? (order.down ? " ↓" : " ↑") : "");
    }
    by.querySelector("select").value = order.key;
    const value = COLUMNS.find((c) => c.key === order.key).sort, sign = order.down ? -1 : 1;
    const some = channels.filter(like).sort((a, b) => {
      const x = value(a), y = value(b);
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a.id.localeCompare(b.id);
    });
    arrange(body, some.map((c) => rows.get(c.id).node));
    put(shown, t("filter.n", { shown: some.length, all: channels.length }));
    nothing.hidden = some.length > 0;
    put(nothing, t(channels.length ? "none.match" : "none.configured"));
  }

  return (told) => {
    channels = told;
    for (const id of [...rows.keys()]) if (!told.some((c) => c.id === id)) rows.delete(id);
    for (const c of told) {
      if (!rows.has(c.id)) rows.set(c.id, rowOf(c.id));
      rows.get(c.id).set(c);
    }
    // Figures move all the time; rows change places only when a state does, or somebody asks.
    const now = told.map((c) => `${c.id}${c.state}`).join();
    if (now !== states) { states = now; sort(); }
  };
}

// --- one channel

async function one({ main, signal }, id, first) {
  const back = h("p", null, h("a", { href: "#/channels" }, "← ", t("all")));
  if (!first.some((c) => c.id === id)) {
    fill(main, back, h("h1", null, t("title")), h("p", { class: "notice warn" }, icon("warn"), t("not.found", { id })));
    return () => {};
  }
  const [routes, queues] = await Promise.all([get("/admin/v1/routes", { signal }).then((told) => told.routes), get("/admin/v1/overview", { signal }).then((told) => told.queues.rows)]);
  const near = { channels: first, routes, queues };
  listen("overview", (news) => { near.queues = news.queues.rows; if (near.own) draw(near.own); }, signal);

  const state = liveBadge(), why = h("p", { class: "channel-why" }), since = h("span", { class: "soft" }), buttons = h("div", { class: "buttons" });
  const stateCard = h("div"), errors = barChart({ label: t("h.errors"), head: t("state"), unit: t("count"), empty: "" }), errorsOf = h("p", { class: "soft small" });
  const reasons = barChart({ label: t("h.reasons"), head: t("reason"), unit: t("count"), empty: t("reasons.empty") }), reasonsOf = h("p", { class: "soft small" }), routeTable = h("div");
  const figures = figureTiles();
  fill(main, back,
    h("div", { class: "head channel-head" }, h("div", null, h("div", { class: "channel-title" }, h("h1", null, id), state.node, since), why), h("span", { class: "grow" }), buttons),
    figures.node,
    h("section", { class: "card" }, h("h2", null, t("h.routes")), routeTable),
    h("div", { class: "cards" }, h("section", { class: "card" }, h("h2", null, t("h.errors")), errorsOf, errors.node), h("section", { class: "card" }, h("h2", null, t("h.reasons")), reasonsOf, reasons.node)),
    h("section", { class: "card set-apart" }, h("h2", null, t("h.contract")), stateCard));

  function draw(c) {
    near.own = c;
    state.set(kindOf(c.state), t.of("channel", c.state));
    refill(since, String(c.state_since_ms), () => (c.state_since_ms ? [`${t("since")} ${Date.now() - c.state_since_ms < 72_000_000 ? clock(c.state_since_ms) : time(c.state_since_ms)}, `, moment(c.state_since_ms)] : ""));
    put(why, causeText(t, c.state_cause));
    refill(buttons, c.operator + session.role, () => actions(c));
    figures.set(c);
    const seconds = span(c.errors.seconds);
    put(errorsOf, c.errors.submits ? t(c.errors.top.length ? "errors.window" : "errors.no", { n: count(c.errors.submits), span: seconds }) : t("errors.silent", { span: seconds }));
    errors.set(c.errors.top.map((one) => ({ id: one.status, name: h("code", null, one.name ? `${one.name} ${one.status}` : one.status), value: one.n, share: one.share, kind: "warn" })));
    put(reasonsOf, c.delivery ? t("reasons.from", { from: clock(c.delivery.from_ms) }) : "");
    reasons.set((c.delivery?.reasons ?? []).map((one) => ({ id: one.reason, name: t.of("reason", one.reason), value: one.n, share: one.share, kind: "bad" })));
    refill(stateCard, JSON.stringify([c.breaker, c.cause, c.operator, c.trouble, c.left_out, c.host, c.max_tps, c.window, c.signatures_total, c.price]), () => setUp(c));
    const places = placesOf(c, near);
    refill(routeTable, JSON.stringify(places), () => table({ caption: t("h.routes"), rows: places, empty: t("ask.noroute"), columns: [
      { key: "route", title: t("route"), cell: (p) => h("span", null, h("a", { href: `#/routes/${encodeURIComponent(p.route)}` }, p.route)) },
      { key: "rank", title: t("col.rank"), cell: (p) => `${p.rank + 1} · ${p.rank ? t("rank.backup", { n: p.rank }) : t("rank.primary")}` },
      { key: "waiting", title: t("col.waiting"), kind: "number", cell: (p) => count(p.waiting) },
      { key: "others", title: t("col.others"), cell: (p) => (p.others.length ? h("ul", { class: "ranked" }, p.others.map((o) => h("li", null, h("span", { class: "rank", title: t("rank.n", { n: o.rank + 1 }) }, o.rank + 1), h("a", { href: `#/channels/${encodeURIComponent(o.id)}` }, o.id), badge(kindOf(o.state), t.of("channel", o.state))))) : t("others.none")) },
    ] }));
  }

  function actions(c) {
    const may = session.may("operator"), to = c.operator === "run" ? ["pause", "drain"] : c.operator === "pause" ? ["resume", "drain"] : ["resume", "pause"];
    return [
      may ? null : h("span", { class: "soft small" }, t("not_allowed", { role: t.of("role", "operator") })),
      to.map((action) => button(t(`do.${action}`), () => steer(action), { id: `do-${action}`, kind: action === "resume" ? "main" : "plain", disabled: !may, picture: icon(action === "resume" ? "play" : action) })),
    ];
  }

  async function steer(action) {
    const c = near.own;
    if (action !== "resume") {
      const told = whatFollows(c, near);
      const sure = await confirm({ title: t(`ask.${action}`, { id }), text: t(`ask.${action}.text`, { id }), yes: t(`do.${action}`), danger: told.some((one) => one.bad),
        more: h("ul", { class: "follows" }, c.window_used ? h("li", null, t("ask.in_flight", { n: count(c.window_used) })) : null, told.map((one) => h("li", { class: one.bad ? "bad" : "" }, one.bad ? icon("warn") : null, one.text))) });
      if (!sure) return;
    }
    await ask("PUT", "/admin/v1/channels", { id, action });
    done(t(`done.${action}`, { id }));
    tell((await get("/admin/v1/channels", { signal })).channels);
    buttons.querySelector("button")?.focus({ preventScroll: true });
  }

  function tell(channels) {
    near.channels = channels;
    const own = channels.find((c) => c.id === id);
    if (own) draw(own);
  }
  return tell;
}

/** The routes of a channel: its rank there, the others with their states, and what waits. */
function placesOf(c, near) {
  const states = new Map(near.channels.map((one) => [one.id, one.state]));
  return c.routes.map(({ route, rank }) => ({
    route, rank, waiting: near.queues.filter((row) => row.route === route).reduce((sum, row) => sum + row.depth, 0),
    others: (near.routes.find((one) => one.id === route)?.channels ?? []).filter((one) => one.id !== c.id).map((one) => ({ id: one.id, rank: one.rank, state: states.get(one.id) ?? "down" })),
  }));
}

/** What follows for each route when a channel takes nothing any more. */
function whatFollows(c, near) {
  const places = placesOf(c, near);
  if (!places.length) return [{ text: t("ask.noroute"), bad: false }];
  return places.map((p) => {
    const able = p.others.filter((o) => usable(o.state)), best = Math.min(...able.map((o) => o.rank)), take = able.filter((o) => o.rank === best).map((o) => o.id), n = count(p.waiting);
    if (!able.length) return { text: t("ask.nobody", { route: p.route, n }), bad: true };
    if (best < p.rank) return { text: t("ask.reserve", { route: p.route, id: c.id, others: joined(take), n }), bad: false };
    return { text: t(take.length > 1 ? "ask.over" : "ask.over.one", { route: p.route, others: joined(take), n }), bad: false };
  });
}

function setUp(c) {
  const cause = c.breaker === "closed" ? "" : causeText(t, { kind: "breaker", detail: c.cause });
  return facts([
    [t("f.breaker"), cause ? t("f.breaker.why", { state: t.of("breaker", c.breaker), cause }) : t.of("breaker", c.breaker)], [t("f.operator"), t.of("operator", c.operator)],
    [t("f.trouble"), c.trouble ? [causeText(t, c.trouble), " ", moment(c.trouble.at_ms)] : ""],
    [t("carrier"), c.carrier ? carrierName(t, c.carrier) : ""], [t("f.host"), h("span", { class: "mono" }, c.host)], [t("f.bind"), h("span", { class: "mono" }, c.bind)], [t("f.tls"), t(c.tls ? "yes" : "no")],
    [t("f.limit"), c.max_tps ? `${count(c.max_tps)}${t("per_s")}` : t("rate.free")], [t("f.window"), count(c.window)], [t("price"), money(c.price)],
    [t("f.categories"), joined((c.categories ?? []).map((one) => t.of("category", one)))],
    [t("f.signatures"), c.signatures_total > c.signatures.length ? t("f.signatures.more", { names: joined(c.signatures), n: c.signatures_total - c.signatures.length }) : joined(c.signatures)],
    [t("f.left_out"), joined(c.left_out)],
  ]);
}

function figureTiles() {
  const tile = (label, extra = null) => {
    const value = h("p", { class: "tile-value" }), sub = h("p", { class: "tile-sub soft" });
    const node = h("section", { class: "tile", "aria-label": label }, h("h2", null, label), value, sub, extra);
    return { node, set(kind, text, under) { dress(node, `tile ${kind}`.trim()); put(value, text); put(sub, under); } };
  };
  const spark = sparkline({ label: t("t.rate"), format: rate, top: 1 }), bar = h("span", { class: "meter-bar" }), seen = [];
  const tps = tile(t("t.rate"), spark.node), used = tile(t("t.window"), h("span", { class: "meter-box is-wide", "aria-hidden": "true" }, bar));
  const sessions = tile(t("t.sessions")), errors = tile(t("t.errors")), receipts = tile(t("t.receipts")), delivered = tile(t("t.delivered"));
  return { node: h("div", { class: "tiles" }, [tps, used, sessions, errors, receipts, delivered].map((one) => one.node)), set(c) {
    if (seen.at(-1) !== c) { seen.push(c); if (seen.length > SPARK) seen.shift(); }
    spark.set(seen.map((one) => one.tps));
    tps.set(c.throttled ? "warn" : "", `${rate(c.tps)}${t("per_s")}`, c.max_tps ? [c.throttled ? `${t("t.rate.throttled")}: ` : "", t("t.rate.sub", { limit: count(c.tps_limit), max: count(c.max_tps) })].join("") : t("rate.free"));
    used.set("", c.window_total ? share(c.window_used / c.window_total) : "–", t("t.window.sub", { n: count(c.window_used), m: count(c.window_total) }));
    bar.style.width = `${c.window_total ? Math.min(100, Math.round((100 * c.window_used) / c.window_total)) : 0}%`;
    sessions.set(c.sessions === 0 ? "bad" : c.sessions < c.binds ? "warn" : "", count(c.sessions), t("t.sessions.sub", { m: count(c.binds) }));
    errors.set(c.errors.share > 0.2 && c.errors.submits >= 100 ? "warn" : "", c.errors.submits ? share(c.errors.share ?? 0) : "–", t("t.errors.sub", { n: count(c.errors.submits), span: span(c.errors.seconds) }));
    const r = c.receipt_delay, d = c.delivery, ended = d ? d.delivered + d.failed + (d.expired ?? 0) + (d.unknown ?? 0) : 0;
    if (r?.n) receipts.set("", span(r.p95_s), t("t.receipts.sub", { p50: span(r.p50_s), n: count(r.n), span: span(r.seconds) }));
    else receipts.set("", "–", t("t.receipts.none", { span: span(r?.seconds ?? 900) }));
    delivered.set("", d && d.ratio !== null ? share(d.ratio) : "–", ended ? t("t.delivered.sub", { n: count(ended), from: clock(d.from_ms) }) : d ? t("t.delivered.none", { from: clock(d.from_ms) }) : "");
  } };
}
