// Routes: which messages take which one, and how its channels are now; one route in full; and what would become of one
// message, step by step. Owns this page. Where a message goes, the gateway decides and tells (routes_v1, explain_v1).

import { ask, get } from "../lib/api.js";
import { fill, h, icon } from "../lib/dom.js";
import { field, form } from "../lib/form.js";
import { clock, count, money, share, span } from "../lib/format.js";
import { listen } from "../lib/live.js";
import { carrierName, countryName, kindOf, put, refill } from "../lib/now.js";
import { badge, facts, table } from "../lib/table.js";
import { translator } from "../lib/words.js";
import { words } from "./routes.words.js";

export { words };

const CATEGORIES = ["verification", "notification", "marketing"];
const t = translator(words);

export async function show({ main, params, signal }) {
  const [told, now] = await Promise.all([get("/admin/v1/routes", { signal }), get("/admin/v1/overview", { signal }).catch((error) => { if (error.name === "AbortError") throw error; return {}; })]);
  const page = params[0] ? one(main, told, params[0]) : await all(main, told, signal);
  const state = { ...now };
  const tell = () => page(new Map((state.channels ?? []).map((c) => [c.id, c])), state.queues?.rows ?? []);
  tell();
  listen("overview", (news) => { Object.assign(state, news); tell(); }, signal);
}

/** The conditions of a route as words. */
function matchWords(match) {
  const said = Object.entries(match).map(([key, value]) => t(`match.${key}`, {
    v: key === "country" ? countryName(value) : key === "carrier" ? carrierName(t, value) : key === "category" ? t.of("category", value) : value,
  }));
  return said.length ? said : [t("match.any")];
}

const waitingOf = (rows, route) => rows.filter((row) => row.route === route);
const sum = (rows, key) => rows.reduce((total, row) => total + (row[key] ?? 0), 0);
const oldest = (rows) => rows.reduce((most, row) => Math.max(most, row.oldest_age_s ?? 0), 0);
const rankName = (rank) => (rank === 0 ? t("rank.primary") : t("rank.backup", { n: rank }));

/** A channel's state as the overview tells it; as the route's own answer has it where that is not known. */
function stateOf(channel, states) {
  const live = states.get(channel.id);
  if (live) return live.state;
  if (channel.operator !== "run") return channel.operator === "pause" ? "paused" : "draining";
  if (!channel.bound) return "down";
  return channel.breaker === "open" ? "breaker_open" : channel.breaker === "half" ? "breaker_half" : "up";
}
const usable = (state) => state === "up" || state === "partial";

// --- the list

async function all(main, told, signal) {
  const accounts = await get("/admin/v1/accounts", { signal }).then((found) => found.accounts);
  const cells = new Map();
  const list = h("ol", { class: "routes" }, told.routes.map((route, i) => {
    const own = { channels: h("ul", { class: "ranked" }), usable: h("p", { class: "usable" }), depth: h("b"), oldest: h("b") };
    cells.set(route.id, own);
    return h("li", { class: "route" },
      h("div", { class: "route-what" }, h("span", { class: "place", "aria-hidden": "true" }, i + 1),
        h("div", null, h("h3", null, h("a", { href: `#/routes/${encodeURIComponent(route.id)}` }, route.id)),
          h("ul", { class: "chips" }, matchWords(route.match).map((text) => h("li", null, text))))),
      h("div", { class: "route-channels" }, own.channels, own.usable),
      h("dl", { class: "route-queue" }, h("div", null, h("dt", null, t("col.queue")), h("dd", null, own.depth)), h("div", null, h("dt", null, t("col.oldest")), h("dd", null, own.oldest))));
  }));
  fill(main, h("div", { class: "head" }, h("h1", null, t("title"))), explainCard(accounts),
    h("section", { class: "card" }, h("h2", null, t("all")), h("p", { class: "soft small" }, t("lead")),
      told.routes.length ? list : h("p", { class: "notice warn" }, icon("warn"), t("no.routes")),
      told.segments.length ? h("p", { class: "soft small" }, t("segments.text", { list: told.segments.map((s) => `${countryName(s.country)} ${s.file}`).join(", ") })) : null));
  return (states, rows) => {
    for (const route of told.routes) {
      const own = cells.get(route.id), found = route.channels.map((c) => ({ ...c, state: stateOf(c, states) }));
      refill(own.channels, JSON.stringify(found.map((c) => [c.id, c.state])), () => found.map((c) => h("li", null,
        h("span", { class: "rank", title: rankName(c.rank) }, c.rank + 1, h("span", { class: "spoken" }, ` ${rankName(c.rank)}`)),
        h("a", { href: `#/channels/${encodeURIComponent(c.id)}` }, c.id), badge(kindOf(c.state), t.of("channel", c.state)))));
      const able = found.filter((c) => usable(c.state)).length;
      own.usable.hidden = able === found.length;
      own.usable.className = able ? "usable warn" : "usable bad";
      put(own.usable, able ? t("usable", { n: able, m: found.length }) : t("usable.none"));
      const waiting = waitingOf(rows, route.id);
      put(own.depth, count(sum(waiting, "depth")));
      put(own.oldest, waiting.length ? span(oldest(waiting)) : "–");
    }
  };
}

// --- one route

function one(main, told, id) {
  const route = told.routes.find((r) => r.id === id);
  const back = h("p", null, h("a", { href: "#/routes" }, "← ", t("all")));
  if (!route) { fill(main, back, h("h1", null, t("title")), h("p", { class: "notice warn" }, icon("warn"), t("not.found", { id }))); return () => {}; }
  const channels = h("div"), queue = h("div"), able = h("p", { class: "usable" });
  const again = CATEGORIES.filter((c) => route.redeliver_after_s[c]).map((c) => t("redeliver.after", { category: t.of("category", c), span: span(route.redeliver_after_s[c]) }));
  fill(main, back, h("div", { class: "head" }, h("h1", null, t("route"), " ", h("span", { class: "mono" }, route.id))),
    h("section", { class: "card" }, facts([
      [t("col.place"), `${told.routes.indexOf(route) + 1} / ${told.routes.length}`],
      [t("col.match"), h("ul", { class: "chips" }, matchWords(route.match).map((text) => h("li", null, text)))],
      [t("order"), t.of("order", route.order)],
      [t("redeliver"), again.length ? again.join(", ") : t("redeliver.never")],
    ])),
    h("section", { class: "card" }, h("h2", null, t("col.channels")), able, channels),
    h("section", { class: "card" }, h("h2", null, t("queue.of")), queue));
  return (states, rows) => {
    const found = route.channels.map((c) => ({ ...c, state: stateOf(c, states) }));
    const n = found.filter((c) => usable(c.state)).length;
    able.className = n === found.length ? "usable" : n ? "usable warn" : "usable bad";
    put(able, n ? t("usable", { n, m: found.length }) : t("usable.none"));
    refill(channels, JSON.stringify(found.map((c) => [c.id, c.state])), () => table({ caption: t("col.channels"), rows: found, columns: [
      { key: "id", title: t("channel"), cell: (c) => h("span", null, h("a", { href: `#/channels/${encodeURIComponent(c.id)}` }, c.id)) },
      { key: "rank", title: t("rank"), cell: (c) => `${c.rank + 1} · ${rankName(c.rank)}` },
      { key: "state", title: t("state"), cell: (c) => badge(kindOf(c.state), t.of("channel", c.state)) },
      { key: "takes", title: t("col.takes"), cell: (c) => t(usable(c.state) ? "takes.yes" : "takes.no") },
      { key: "weight", title: t("col.weight"), kind: "number", cell: (c) => count(c.weight) },
      { key: "price", title: t("price"), kind: "number", cell: (c) => money(c.price) },
    ] }));
    const waiting = waitingOf(rows, id);
    refill(queue, JSON.stringify(waiting), () => table({ caption: t("queue.of"), rows: waiting, empty: t("empty.queue"), columns: [
      { key: "category", title: t("category"), cell: (r) => t.of("category", r.category) },
      { key: "rank", title: t("rank"), cell: (r) => `${r.rank + 1} · ${rankName(r.rank)}` },
      { key: "depth", title: t("col.queue"), kind: "number", cell: (r) => count(r.depth) },
      { key: "age", title: t("col.oldest"), kind: "number", cell: (r) => span(r.oldest_age_s) },
    ] }));
  };
}

// --- what would become of one message

function explainCard(accounts) {
  const answer = h("div", { class: "explained", "aria-live": "polite" });
  const lists = ["senders", "signatures"].map((key) => [key, h("datalist", { id: `explain-${key}` }, [...new Set(accounts.flatMap((a) => a[key]))].map((value) => h("option", { value })))]);
  const optional = h("details", { class: "more" }, h("summary", null, t("f.more")), h("div", { class: "form inline" },
    field({ name: "sender", label: t("f.sender"), placeholder: t("f.first"), list: "explain-senders", autocomplete: "off", maxlength: 20 }),
    field({ name: "signature", label: t("f.signature"), placeholder: t("f.first"), list: "explain-signatures", autocomplete: "off", maxlength: 64 }),
    field({ name: "tag", label: t("f.tag"), autocomplete: "off", maxlength: 64 }),
    field({ name: "zone", label: t("f.zone"), placeholder: "Asia/Shanghai", autocomplete: "off", maxlength: 64 }),
    field({ name: "local_window", label: t("f.window"), placeholder: "10:00-12:00", autocomplete: "off", maxlength: 11 }),
    field({ name: "text", label: t("f.text"), type: "textarea", rows: 2, wide: true, help: t("f.text.help"), maxlength: 2000 })));
  const node = form({
    label: t("explain"), button: t("explain.button"),
    fields: [
      h("div", { class: "form inline explain-main" },
        field({ name: "to", label: t("f.to"), type: "tel", required: true, maxlength: 40, autocomplete: "off", help: t("f.to.help"), placeholder: "+86138…", wide: true }),
        field({ name: "country", label: t("f.country"), placeholder: t("f.country.auto"), maxlength: 2, autocomplete: "off", autocapitalize: "characters" }),
        field({ name: "category", label: t("f.category"), type: "select", value: "verification", options: CATEGORIES.map((c) => [c, t.of("category", c)]) }),
        field({ name: "account", label: t("f.account"), type: "select", required: true, options: accounts.map((a) => [a.id, a.id]) })),
      optional, lists.map(([, list]) => list),
    ],
    send: async (values, box) => {
      answer.replaceChildren();
      const asked = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
      let found;
      try { found = await ask("POST", "/admin/v1/explain", asked); } catch (error) {
        if (["sender", "signature", "text", "tag", "zone", "local_window"].includes(error.field)) optional.open = true;
        throw error;
      }
      fill(answer, explained(found, asked));
      if (box.contains(document.activeElement)) answer.querySelector(".verdict")?.scrollIntoView({ block: "nearest" });
    },
  });
  return h("section", { class: "card explain" }, h("h2", null, t("explain")), h("p", { class: "soft small" }, t("explain.lead")), node, answer);
}

const scopeName = (scope) => {
  const [account, name] = scope.split("/");
  const of = account === "*" ? t("scope.*") : t("account.of", { id: account });
  return name ? `${of} (${name})` : of;
};

/** Why a rule says no or not yet, in this language where its code has words. */
function whyText(rule) {
  const key = `why.${rule.code}`;
  if (!t.has(key)) return rule.why;
  const f = rule.facts ?? {};
  const text = t(key, {
    ...f, scope: f.scope ? scopeName(f.scope) : "", reason: t.of("list", f.reason), window: span(f.window_s), again: span(f.again_s),
    opens: f.opens_at ? localTime(f.opens_at) : "", state: t.of("gate", f.state),
  });
  return ["invalid_number", "outside_window"].includes(rule.code) ? `${text} (${rule.why})` : text;
}

/** A time with an offset, by the clock of the recipient: 2026-11-22T08:00+08:00. */
const localTime = (text) => text.replace("T", " ").replace(/([+-]\d\d:\d\d)$/, " (UTC$1)");

const STEP_OF = { number: "number", route: "route", category: "account", sender: "sender", signature: "signature", missing_signature: "signature", blacklist: "blacklist", window: "window", gate: "gate", channels: "channels", per_number: "caps", per_signature: "caps", per_tag: "caps", per_campaign: "caps", content: "text" };
const EFFECTS = { refuse: "bad", wait: "warn", count: "info" };

function explained(found, asked) {
  const rules = found.rules.map((rule) => ({ ...rule, step: STEP_OF[rule.rule] ?? (rule.rule.startsWith("per_") ? "caps" : "text") }));
  const steps = STEPS.map(([name, about]) => {
    const own = rules.filter((rule) => rule.step === name);
    const worst = own.some((r) => r.effect === "refuse") ? "bad" : own.some((r) => r.effect === "wait") ? "warn" : "ok";
    return { name, own, ...about(found, own, asked), kind: own.length && worst === "ok" ? "info" : worst };
  }).filter((step) => step.own.length || step.said);
  return h("div", null, verdict(found, rules), h("p", { class: "soft small" }, t("v.as_of", { time: clock(Date.now()) })),
    h("ol", { class: "trail" }, steps.map((step) => h("li", { class: `step ${step.kind}` },
      h("span", { class: "step-sign" }, icon(step.kind === "info" ? "info" : step.kind)),
      h("div", null, h("h3", null, t(`s.${step.name}`)), step.own.map((rule) => h("p", { class: `why ${EFFECTS[rule.effect] ?? "info"}` }, whyText(rule), rule.effect === "count" ? ` (${t("effect.count")})` : "")), step.said, step.more)))));
}

function verdict(found, rules) {
  const refused = rules.find((r) => r.effect === "refuse"), waits = rules.find((r) => r.effect === "wait");
  const takers = (found.channels ?? []).filter((c) => c.takes_it).map((c) => c.id);
  const kind = refused ? "bad" : waits ? "warn" : "ok";
  const text = refused ? t("v.refused", { why: whyText(refused) }) : waits ? t("v.wait", { why: whyText(waits) }) : t("v.sent", { channels: takers.join(t("or")) });
  return h("p", { class: `notice verdict ${kind}` }, icon(kind), h("strong", null, text));
}

const line = (text) => (text ? h("p", null, text) : null);

const STEPS = [
  ["number", (f) => ({ said: f.number ? line(f.number.country ? t("ok.number", { number: f.number.e164, country: countryName(f.number.country) }) : f.number.e164) : null })],
  ["carrier", (f) => ({ said: f.carrier ? line(f.carrier.name ? `${carrierName(t, f.carrier.name)} · ${t(`from.${f.carrier.known_from}`)}` : t("ok.carrier.none")) : null })],
  ["account", (f, own) => ({ said: own.length ? null : line(t("ok.account", { account: f.account, category: t.of("category", f.category) })) })],
  ["sender", (f, own, asked) => ({ said: own.length || !asked.sender ? null : line(t("ok.sender")) })],
  ["signature", (f, own) => ({ said: f.signature ? line(`${f.signature.name} · ${t(`known.${f.signature.known_from}`)}`) : own.length || !f.number ? null : line(t("ok.signature.none")) })],
  ["blacklist", (f, own) => ({ said: own.length || !f.scopes ? null : line(t("ok.blacklist", { scopes: f.scopes.map(scopeName).join(", ") })) })],
  ["caps", (f) => ({ said: f.caps ? (f.caps.length ? h("ul", { class: "plain-list" }, f.caps.map((cap) => h("li", null, `${t.of("cap", cap.key)}: `,
    t("cap.line", { sent: count(cap.sent), limit: count(cap.limit), window: span(cap.window_s) }), cap.again_s ? ` · ${t("cap.again", { span: span(cap.again_s) })}` : ""))) : line(t("ok.caps.none"))) : null })],
  ["text", (f, own, asked) => ({ said: own.length || !f.caps ? null : line(t(asked.text ? "ok.text" : "ok.text.none")) })],
  ["window", (f, own) => ({ said: own.length || !f.caps ? null : line(!f.window ? t("ok.window.none")
    : f.window.closes_at ? t("ok.window.open", { closes: localTime(f.window.closes_at), clocks: f.window.clocks.join(", ") }) : t("ok.window.ever", { clocks: f.window.clocks.join(", ") })) })],
  ["gate", (f, own) => ({ said: own.length || !f.caps ? null : line(t("ok.gate")) })],
  ["route", (f) => ({ said: f.route ? h("p", null, h("a", { href: `#/routes/${encodeURIComponent(f.route)}` }, f.route), ` · ${t("ok.route")} · ${t("route.order", { order: t.of("order", f.order) })}`,
    f.redeliver_after_s ? ` · ${t("route.redeliver", { span: span(f.redeliver_after_s) })}` : "") : null, more: f.quality ? line(t("quality", { why: f.quality.why })) : null })],
  ["channels", (f) => ({ said: f.channels ? h("ol", { class: "takers" }, f.channels.map((c) => h("li", { class: c.takes_it ? "takes" : "" },
    h("span", { class: "rank", title: rankName(c.rank) }, c.rank + 1, h("span", { class: "spoken" }, ` ${rankName(c.rank)}`)),
    h("div", null, h("a", { href: `#/channels/${encodeURIComponent(c.id)}` }, c.id), " ", badge(c.takes_it ? "ok" : c.carries && c.bound && c.breaker === "closed" && c.operator === "run" ? "off" : "warn", whyNot(c)),
      h("p", { class: "soft small" }, [c.source_addr === null ? "" : c.source_addr ? t("ch.source", { source: c.source_addr }) : t("ch.source.default"), t("ch.price", { price: money(c.price) })].filter(Boolean).join(" · ")))))) : null })],
];

function whyNot(c) {
  if (c.takes_it) return c.share > 0 && c.share < 1 ? t("ch.share", { share: share(c.share) }) : t("ch.takes");
  if (!c.carries) return t("ch.not_registered");
  if (c.operator !== "run") return t("ch.operator", { operator: t.of("operator", c.operator) });
  if (c.breaker !== "closed") return t("ch.breaker", { state: t.of("breaker", c.breaker) });
  return t(c.bound ? "ch.earlier_rank" : "ch.not_bound");
}
