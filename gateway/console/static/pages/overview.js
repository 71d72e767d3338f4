// Overview, the page of 3 a.m.: what is wrong, where, since when, why, and the button that helps; then how it goes in
// figures, and what changed in the last hour. Owns this page. What counts as a problem the gateway says (admin/problems.py).
// News changes the texts of what stands here, so that focus, scroll and selection stay where they are.

import { ask, get, session } from "../lib/api.js";
import { barChart, lineChart, slotOf, sparkline } from "../lib/chart.js";
import { confirm } from "../lib/dialog.js";
import { fill, h, icon } from "../lib/dom.js";
import { button } from "../lib/form.js";
import { bytes, clock, count, rate, share, span, time, zone } from "../lib/format.js";
import { listen } from "../lib/live.js";
import { arrange, causeText, dress, keepMoments, kindOf, liveBadge, moment, put, refill, troubleOf } from "../lib/now.js";
import { done } from "../lib/say.js";
import { badge } from "../lib/table.js";
import { language, translator } from "../lib/words.js";
import { words } from "./overview.words.js";

export { words };

const t = translator(words);
const CATEGORIES = ["verification", "notification", "marketing"];
const FLOWS = ["accepted", "submitted", "delivered", "failed"];
const POINTS = 180;
const CARDS = 8;  // so many problems are shown at once; a carrier's outage must not bury the figures
const CHANGES_MS = 20_000;
const OLD_S = { verification: 10, notification: 600, marketing: 7200 };  // as gateway/admin/problems.py says it
const WAIT_S = 1, RATIO_WARN = 0.9, RATIO_BAD = 0.8, RATIO_N = 50;

export async function show({ main, signal }) {
  const state = await get("/admin/v1/overview", { signal });
  const parts = [head(), problemCards(), tiles(), charts(), channelGrid(), changeList(signal)];
  fill(main, parts.map((part) => part.node));
  const tell = () => { for (const part of parts) part.set(state); };
  tell();
  keepMoments(main, signal);
  listen("overview", (news) => {
    const { history, ...rest } = news;
    Object.assign(state, rest);
    if (history && state.history) append(state.history, history.points);
    tell();
  }, signal);
}

/** Take the points that are newer than those that are there. */
function append(history, points) {
  const last = history.points.at(-1)?.[0] ?? 0;
  history.points = [...history.points, ...points.filter((p) => p[0] > last)].slice(-POINTS);
}

function head() {
  const machine = h("code"), asOf = h("span");
  const node = h("div", { class: "head" }, h("h1", null, t("title")), h("p", { class: "soft small" }, machine, " ", asOf));
  return { node, set: (s) => { put(machine, s.machine); put(asOf, t("as_of", { time: clock(s.at_ms), zone: zone() })); } };
}

// --- what is wrong

const SEVERITY_KIND = { critical: "bad", warning: "warn", info: "info" };
const LOOK = { channel: (id) => ["channels", id], route: (id) => ["routes", id.split("/")[0]], account: () => ["webhooks"], gate: () => ["queues"], config: () => ["config"], category: () => ["channels"] };

const joined = (values) => values.join(language() === "zh" ? "、" : ", ");

/** The facts of a problem as words, by the names its sentences use. */
function factWords(p) {
  const f = p.facts ?? {};
  const cause = f.cause === undefined ? "" : p.kind === "breaker_open" ? causeText(t, { kind: "breaker", detail: f.cause }) : causeText(t, { kind: f.cause, detail: f.detail });
  return {
    ...f, object: p.object.id, cause, share: share(f.share), over: span(f.seconds), late: span(f.late_s), p50: span(f.p50_s), p99: span(f.p99_s),
    oldest: span(f.oldest_age_s), ttl: span(f.ttl_s), from: f.from_ms ? clock(f.from_ms) : "", used: bytes(f.used_bytes), limit: bytes(f.limit_bytes), free: bytes(f.free_bytes), total: bytes(f.total_bytes),
    depth: count(f.depth), backlog: count(f.backlog), held: count(f.held), closed: count(f.closed), dead: count(f.dead), ended: count(f.ended), submits: count(f.submits), waiting: count(f.waiting), n: count(f.n), times: count(f.times),
    last_failure: f.last_failure || t("none"), standing: t.of("standing", f.standing), outcome: t.of("outcome", f.outcome), detail: f.detail ? (/[.。]$/.test(f.detail) ? f.detail : `${f.detail}.`) : "",
    what: joined((Array.isArray(f.what) ? f.what : []).map((one) => t.of("what", one))),
    // Not always a list: what a kind has, its sentence uses.
    reasons: Array.isArray(f.reasons) ? joined(f.reasons.map((one) => t.of("store", one))) : joined(Object.entries(f.reasons ?? {}).map(([reason, n]) => `${t.of("dead", reason)} ${count(n)}`)),
    channels: f.channels && typeof f.channels === "object" ? joined(Object.entries(f.channels).map(([id, word]) => `${id} ${t.of("channel", word)}`)) : f.channels ?? "",
    top: joined((f.top ?? []).slice(0, 3).map((one) => `${one.name || one.status} ${share(one.share)}`)),
  };
}

const titleOf = (p, f) => (t.has(`k.${p.kind}`) ? t(`k.${p.kind}`, f) : p.kind);

function whereOf(p) {
  if (p.facts?.route && p.object.type === "route") {
    return t("type.queue", { route: p.facts.route, rank: p.facts.rank === 0 ? t("rank.primary") : t("rank.backup", { n: p.facts.rank }), category: t.of("category", p.facts.category) });
  }
  if (p.object.type === "category") return t("type.category", { id: t.of("category", p.object.id) });
  return t.has(`type.${p.object.id}`) ? t(`type.${p.object.id}`) : t.has(`type.${p.object.type}`) ? t(`type.${p.object.type}`, { id: p.object.id }) : p.object.id;
}

function lookOf(p) {
  if (p.kind === "inbound_review") return [t("look.inbound"), ["inbound"]];
  const to = LOOK[p.object.type]?.(p.object.id);
  return to ? [t(`look.${p.object.type}`), to] : null;
}

async function act(p, f) {
  const { action } = p, id = p.object.type === "route" ? action.body?.id ?? p.object.id : p.object.id, key = `act.${action.label}`;
  const values = { id, n: f.dead !== "–" && p.facts.dead ? f.dead : f.held };
  const asks = t.has(`${key}.ask`);
  if (asks && !(await confirm({ title: t(key, values), text: t(`${key}.ask`, values), yes: t(key, values) }))) return;
  await ask(action.method, action.path, action.body ?? undefined);
  done(t.has(`${key}.done`) ? t(`${key}.done`, values) : t(key, values));
}

function problemCard(first, machine) {
  let p = first;
  const kind = SEVERITY_KIND[p.severity] ?? "info";
  const title = h("h3"), where = h("p", { class: "where" }), why = h("p"), since = h("span"), help = h("p", { class: "soft" });
  const buttons = h("div", { class: "buttons" });
  const node = h("li", { class: `problem ${kind}`, data: { id: p.id } },
    h("div", { class: "problem-sign" }, icon(kind === "info" ? "info" : kind)),
    h("div", { class: "problem-body" },
      h("div", { class: "problem-top" }, badge(kind, t(`severity.${p.severity}`)), title, where, h("p", { class: "since soft" }, since)), why, help,
      p.runbook ? h("p", { class: "soft small" }, t("runbook"), " ", h("code", null, p.runbook.split("#")[0]), " ", h("code", null, p.alert)) : null),
    buttons);
  return { node, set(next) {
    p = next;
    const f = factWords(p);
    put(title, titleOf(p, f));
    put(where, p.here ? `${whereOf(p)}, ${t("here", { machine })}` : whereOf(p));
    put(why, t.has(`k.${p.kind}.why`) ? t(`k.${p.kind}.why`, f) : "");
    put(help, t.has(`k.${p.kind}.do`) ? t(`k.${p.kind}.do`, f) : "");
    refill(since, String(p.since_ms), () => (p.since_ms ? [`${t("since")} `, h("time", { datetime: new Date(p.since_ms).toISOString(), title: time(p.since_ms) }, Date.now() - p.since_ms < 72_000_000 ? clock(p.since_ms) : time(p.since_ms)), ", ", moment(p.since_ms)] : t("now.unknown_since")));
    refill(buttons, JSON.stringify(p.action), () => buttonsOf(() => p));
  } };
}

function buttonsOf(current) {
  const p = current(), made = [], look = lookOf(p);
  if (p.action) {
    const role = p.action.path.startsWith("/admin/v1/config") ? "admin" : "operator", may = session.may(role), f = factWords(p);
    const id = p.object.type === "route" ? p.action.body?.id ?? p.object.id : p.object.id, key = `act.${p.action.label}`;
    made.push(button(t.has(key) ? t(key, { id }) : p.action.label, () => act(current(), f), { kind: "main", disabled: !may }));
    if (!may) made.push(h("span", { class: "soft small" }, t("not_allowed", { role: t.of("role", role) })));
  }
  if (look) made.push(h("a", { class: "button", href: `#/${look[1].map(encodeURIComponent).join("/")}` }, look[0]));
  return made;
}

function problemCards() {
  const list = h("ul", { class: "problems" }), well = h("div", { class: "well", hidden: true }), spoken = h("p", { class: "spoken", role: "status" });
  const title = h("h2"), cards = new Map();
  const more = h("button", { type: "button", class: "plain", hidden: true, on: { click: () => { open = !open; set(last); } } });
  const node = h("section", { "aria-label": t("problems"), class: "wrong" }, h("div", { class: "section-head" }, title), well, list, more, spoken);
  const wellTitle = h("p", { class: "well-title" }, icon("ok"), h("strong", null, t("well"))), wellText = h("p", { class: "soft" }), infos = h("p", { class: "small soft" }, t("well.infos"));
  fill(well, wellTitle, wellText, infos);
  let open = false, last = null, known = null;
  function set(s) {
    last = s;
    const found = s.problems, bad = found.filter((p) => p.severity !== "info");
    put(title, t(bad.length ? "problems" : "well"));
    dress(title, bad.length ? "" : "spoken");
    well.hidden = bad.length > 0;
    infos.hidden = !found.length;
    put(wellText, t("well.text", { time: clock(s.at_ms), up: s.channels.filter((c) => c.state === "up").length, channels: s.channels.length, workers: s.workers.reduce((n, w) => n + w.ready, 0) }));
    const shown = open ? found : found.slice(0, CARDS);
    for (const id of [...cards.keys()]) if (!found.some((p) => p.id === id)) cards.delete(id);
    arrange(list, shown.map((p) => {
      const kept = cards.get(p.id);
      const card = kept?.severity === p.severity ? kept : { severity: p.severity, ...problemCard(p, s.machine) };
      cards.set(p.id, card);
      card.set(p);
      return card.node;
    }));
    list.hidden = !found.length;
    more.hidden = found.length <= CARDS;
    put(more, open ? t("problems.fewer") : t("problems.more", { n: found.length - CARDS }));
    const fresh = known && bad.find((p) => !known.has(p.id));
    if (fresh) put(spoken, t("problem.new", { what: `${titleOf(fresh, factWords(fresh))}, ${whereOf(fresh)}` }));
    else if (known?.size && !bad.length) put(spoken, t("problem.gone"));
    known = new Set(bad.map((p) => p.id));
  }
  return { node, set };
}

// --- figures

function tile(label, spark) {
  const value = h("p", { class: "tile-value" }), sub = h("p", { class: "tile-sub soft" }), mark = liveBadge();
  const node = h("section", { class: "tile", "aria-label": label }, h("h2", null, label), h("div", { class: "tile-top" }, value, mark.node), sub, spark?.node);
  return { node, set(kind, text, under, limit = "") {
    dress(node, `tile ${kind ?? ""}`.trim());
    mark.node.hidden = !kind;
    if (kind) mark.set(kind, [t(`tile.${kind}`), limit].filter(Boolean).join(", "));
    put(value, text);
    put(sub, under);
  } };
}

const column = (history, name) => { const at = history.columns.indexOf(name); return history.points.map((p) => p[at]); };
const totals = (history, flow) => history.points.map((p) => CATEGORIES.reduce((sum, c) => sum + (p[history.columns.indexOf(`${c}.${flow}`)] ?? 0), 0));

function tiles() {
  const sparks = { wait: sparkline({ label: t("tile.wait"), format: span, top: WAIT_S / 4 }), accepted: sparkline({ label: t("tile.accepted"), format: rate }), waiting: sparkline({ label: t("tile.waiting"), format: count, top: 10 }) };
  const wait = tile(t("tile.wait"), sparks.wait), ratio = tile(t("tile.ratio")), accepted = tile(t("tile.accepted"), sparks.accepted), waiting = tile(t("tile.waiting"), sparks.waiting), oldest = tile(t("tile.oldest"));
  const bar = h("span", { class: "meter-bar" });
  ratio.node.append(h("span", { class: "meter-box is-wide", "aria-hidden": "true" }, bar));
  const node = h("div", { class: "tiles" }, [wait, ratio, accepted, waiting, oldest].map((one) => one.node));
  return { node, set(s) {
    const w = s.verification_wait ?? {}, slow = w.p99_s !== null && w.p99_s > WAIT_S;
    if (w.n) wait.set(slow ? (w.n >= 20 ? "bad" : "warn") : "ok", span(w.p99_s), t("tile.wait.sub", { n: count(w.n), p50: span(w.p50_s) }), slow ? t("tile.limit", { limit: span(WAIT_S) }) : "");
    else wait.set(null, "–", t("tile.wait.none"));
    const d = s.delivery.total, ended = d.delivered + d.failed + d.expired + d.unknown, from = clock(s.delivery.from_ms).replace(/:\d\d$/, "");
    const kind = d.ratio === null || ended < RATIO_N ? null : d.ratio < RATIO_BAD ? "bad" : d.ratio < RATIO_WARN ? "warn" : "ok";
    if (d.ratio === null) ratio.set(null, "–", t("tile.ratio.none", { from }));
    else ratio.set(kind, share(d.ratio), t("tile.ratio.sub", { delivered: count(d.delivered), ended: count(ended), from }), kind && kind !== "ok" ? t("tile.least", { limit: share(RATIO_WARN) }) : "");
    bar.style.width = `${Math.round((d.ratio ?? 0) * 100)}%`;
    accepted.set(null, `${rate(s.rates.total.accepted)}${t("per_s")}`, t("tile.accepted.sub", { submitted: rate(s.rates.total.submitted), delivered: rate(s.rates.total.delivered) }));
    const q = s.queues;
    waiting.set(null, count(q.waiting), t("tile.waiting.sub", { timed: count(q.timed), held: count(q.held), in_flight: count(q.in_flight) }));
    const worst = q.rows.reduce((most, row) => (!most || pressing(row) > pressing(most) ? row : most), null);
    if (worst) oldest.set(pressing(worst) > 1 ? (worst.category === "verification" ? "bad" : "warn") : "ok", span(worst.oldest_age_s), t("tile.oldest.sub", { route: worst.route, category: t.of("category", worst.category) }), pressing(worst) > 1 ? t("tile.limit", { limit: span(OLD_S[worst.category]) }) : "");
    else oldest.set("ok", "–", t("tile.oldest.none"));
    sparks.wait.set(column(s.history, "wait_p99_s"));
    sparks.accepted.set(totals(s.history, "accepted"));
    sparks.waiting.set(column(s.history, "waiting"));
  } };
}

/** How near a queue's oldest message is to what its category allows: 1 is the limit. */
const pressing = (row) => row.oldest_age_s / (OLD_S[row.category] ?? 7200);

function charts() {
  let flow = "accepted", last = null;
  const series = CATEGORIES.map((id) => ({ id, name: t.of("category", id), slot: slotOf(id) }));
  const rates = lineChart({ label: t("rates"), series, format: (v) => `${rate(v)}${t("per_s")}`, top: 1 });
  const waits = lineChart({ label: t("waits"), series: [{ id: "p50", name: t("waits.p50"), slot: 1 }, { id: "p99", name: t("waits.p99"), slot: 3 }], format: span, tick: (v) => (v ? span(v) : "0"), top: 0.1, height: 150 });
  const select = h("select", { class: "small", "aria-label": t("rates.flow"), on: { change: (event) => { flow = event.target.value; set(last); } } }, FLOWS.map((one) => h("option", { value: one }, t(`flow.${one}`))));
  const reasons = barChart({ label: t("reasons"), head: t("reason"), unit: t("count"), empty: t("reasons.empty"), most: 8 }), reasonsSince = h("p", { class: "soft small" });
  const queues = barChart({ label: t("queues"), head: t("route"), unit: t("queues.depth"), empty: t("queues.empty"), most: 8, shares: false });
  const card = (title, extra, ...body) => h("section", { class: "card" }, h("div", { class: "section-head" }, h("h2", null, title), extra), body);
  const node = h("div", { class: "charts" }, card(t("rates"), select, rates.node), card(t("waits"), null, waits.node), card(t("queues"), h("a", { class: "small", href: "#/queues" }, t("page.queues")), queues.node), card(t("reasons"), h("a", { class: "small", href: "#/stats" }, t("page.stats")), reasonsSince, reasons.node));
  function set(s) {
    last = s;
    const xs = s.history.points.map((p) => p[0]);
    rates.set({ xs, ys: Object.fromEntries(CATEGORIES.map((c) => [c, column(s.history, `${c}.${flow}`)])) });
    waits.set({ xs, ys: { p50: column(s.history, "wait_p50_s"), p99: column(s.history, "wait_p99_s") } });
    put(reasonsSince, t("reasons.since", { from: clock(s.delivery.from_ms).replace(/:\d\d$/, "") }));
    reasons.set(s.delivery.reasons.map((one) => ({ id: one.reason, name: t.of("reason", one.reason), value: one.n, share: one.share, kind: "bad" })));
    queues.set(byRoute(s.queues.rows));
  }
  return { node, set };
}

function byRoute(rows) {
  const routes = new Map();
  for (const row of rows) {
    const of = routes.get(row.route) ?? { depth: 0, worst: row };
    of.depth += row.depth;
    if (pressing(row) > pressing(of.worst)) of.worst = row;
    routes.set(row.route, of);
  }
  return [...routes].sort((a, b) => pressing(b[1].worst) - pressing(a[1].worst)).map(([route, { depth, worst }]) => ({
    id: route, name: h("a", { href: `#/routes/${encodeURIComponent(route)}` }, route), value: depth, kind: pressing(worst) > 1 ? (worst.category === "verification" ? "bad" : "warn") : "plain",
    note: t("queues.oldest", { age: span(worst.oldest_age_s), category: t.of("category", worst.category) }),
  }));
}

// --- channels at a glance

function channelGrid() {
  const list = h("ul", { class: "channel-grid" }), summary = h("p", { class: "counts" }), cells = new Map();
  const node = h("section", { class: "card" }, h("div", { class: "section-head" }, h("h2", null, t("channels")), h("a", { class: "small", href: "#/channels" }, t("channels.all"))), summary, list);
  function cellOf(id) {
    const state = liveBadge(), figures = h("span", { class: "cell-figures" }), fullness = h("span", { class: "meter-bar" });
    const link = h("a", { class: "grid-cell", href: `#/channels/${encodeURIComponent(id)}` }, h("span", { class: "cell-top" }, h("strong", null, id), state.node), figures, h("span", { class: "meter-box is-wide", "aria-hidden": "true" }, fullness));
    return { node: h("li", null, link), set(c) {
      const kind = kindOf(c.state);
      dress(link, `grid-cell ${kind}`);
      state.set(kind, t.of("channel", c.state));
      const line = t(c.tps_limit ? "channel.line" : "channel.line.free", { tps: rate(c.tps), limit: count(c.tps_limit), sessions: c.sessions, binds: c.binds });
      put(figures, kind === "ok" || c.state === "partial" ? line : causeText(t, c.cause) || line);
      fullness.style.width = `${c.window ? Math.min(100, Math.round((c.window_used / c.window) * 100)) : 0}%`;
    } };
  }
  return { node, set(s) {
    const ordered = [...s.channels].sort((a, b) => troubleOf(a.state) - troubleOf(b.state) || a.id.localeCompare(b.id));
    for (const id of [...cells.keys()]) if (!ordered.some((c) => c.id === id)) cells.delete(id);
    const nodes = ordered.map((c) => {
      if (!cells.has(c.id)) cells.set(c.id, cellOf(c.id));
      cells.get(c.id).set(c);
      return cells.get(c.id).node;
    });
    arrange(list, nodes);
    const counts = {};
    for (const c of ordered) counts[c.state] = (counts[c.state] ?? 0) + 1;
    refill(summary, JSON.stringify(counts), () => (ordered.length ? Object.entries(counts).map(([state, n]) => badge(kindOf(state), t("channels.n", { n, state: t.of("channel", state) }))) : t("channels.none")));
  } };
}

// --- what changed in the last hour

const CHANGE_KIND = { channel_down: "bad", channel_up: "ok", breaker_open: "bad", breaker_closed: "ok", worker_restarted: "warn", operator: "info" };
const CHANGE_LINK = { channel_down: "channels", channel_up: "channels", breaker_open: "channels", breaker_closed: "channels" };

/** A change as words and nodes. */
function changeText(change) {
  const f = change.facts ?? {};
  if (change.kind === "operator") {
    const name = (change.actor ?? "").replace(/^console:/, "").split("@")[0];
    const who = t.has(`who.${name}`) && !change.actor.startsWith("console:") ? t(`who.${name}`) : h("span", { translate: "no" }, name);
    // Nobody signs in somebody else: a name that says so twice, or that there is none, is left out.
    const object = change.object === "*" ? t("c.all") : change.object === name || change.object === "unknown" ? "" : h("span", { translate: "no" }, change.object);
    const result = f.result?.startsWith("refused") ? t("c.refused") : f.result === "dry run" ? t("c.dry") : "";
    const after = t.has(`after.${f.after}`) ? t(`after.${f.after}`) : f.action?.startsWith("config.") ? f.after : "";  // else it is the audit's to show
    return [h("strong", null, who), " ", t.of("audit", f.action), " ", object, ` ${after ?? ""}`, result ? ` (${result})` : ""];
  }
  const cause = change.kind.startsWith("breaker") ? causeText(t, { kind: "breaker", detail: f.cause }) : causeText(t, { kind: f.cause, detail: f.detail });
  const lasted = Number(f.ms) ? span(Number(f.ms) / 1000) : "";
  const key = change.kind === "channel_up" && !lasted ? "c.channel_up.first" : `c.${change.kind}`;
  return t.has(key) ? t(key, { ...f, object: change.object, cause, lasted }) : `${change.kind} ${change.object}`;
}

function changeList(signal) {
  const list = h("ul", { class: "changes", tabindex: "0", "aria-label": t("changes") }), nothing = h("p", { class: "soft", hidden: true }, t("changes.none"));
  const node = h("section", { class: "card" }, h("div", { class: "section-head" }, h("h2", null, t("changes")), h("a", { class: "small", href: "#/audit" }, t("page.audit"))), nothing, list);
  const known = new Map();
  let read = 0, seen = "";
  async function refresh() {
    read = Date.now();
    let found;
    try { found = (await get("/admin/v1/changes?limit=60", { signal })).changes; } catch { return; }  // asked again soon
    nothing.hidden = found.length > 0;
    const keys = found.map((c) => `${c.at_ms} ${c.kind} ${c.object} ${c.facts?.action ?? ""}`);
    for (const key of [...known.keys()]) if (!keys.includes(key)) known.delete(key);
    arrange(list, found.map((c, i) => {
      if (!known.has(keys[i])) {
        const kind = c.kind === "operator" && c.facts?.result?.startsWith("refused") ? "warn" : CHANGE_KIND[c.kind] ?? "info";
        const text = changeText(c), to = CHANGE_LINK[c.kind];
        known.set(keys[i], h("li", { class: kind }, h("span", { class: "change-sign" }, icon(kind === "info" ? "profile" : kind)), h("span", null, to ? h("a", { href: `#/${to}/${encodeURIComponent(c.object)}` }, text) : text), moment(c.at_ms)));
      }
      return known.get(keys[i]);
    }));
  }
  return { node, set(s) {
    const now = JSON.stringify([s.problems.map((p) => p.id), s.channels.map((c) => c.state)]);
    if (now !== seen || Date.now() - read > CHANGES_MS) { seen = now; refresh(); }
  } };
}
