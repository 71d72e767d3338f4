// The audit: who did what, when, what was before and after, and what came of it; whether its chain is whole. Owns how
// an entry reads. Refuses to know more than the gateway tells: numbers stand masked.

import { get, query as asQuery } from "../lib/api.js";
import { saveFile, toCsv } from "../lib/csv.js";
import { fill, h, icon, newId } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { count, time, zone } from "../lib/format.js";
import { badge, table } from "../lib/table.js";
import { words } from "./audit.words.js";

export { words };

const PLACE = "/admin/v1/audit";
const PAGE = 100;
const ACTIONS = ["blacklist", "channel.set", "config", "gate", "webhook", "message", "inbound", "template", "number.erase", "ported.forget", "account", "console"];
const OWN = new Set(["at", "at_ms", "shard", "entry", "actor", "action", "object", "before", "after", "result", "number"]);
const CATEGORIES = ["verification", "notification", "marketing"];
// Actions whose before and after are a word of these families.
const STATES = { "channel.set": "operator", "gate.set": "gate" };
// As the blacklist keeps an entry: bits of the categories, reason, seconds, where it came from.
const LISTED = /^([0-7])([a-z_]+):(\d{1,12}):(.*)$/;

export async function show({ main, query, signal, go, t }) {
  const chosen = { actor: query.get("actor") ?? "", action: query.get("action") ?? "", from: query.get("from") ?? "", to: query.get("to") ?? "" };
  let rows = [], older = 0;

  const place = h("div", null, h("p", { class: "loading" }, t("loading")));
  const status = h("p", { class: "soft small", role: "status" });
  const foot = h("div", { class: "buttons gap-above" });
  const verdict = h("div", { role: "status" });

  const since = chosen.from ? new Date(chosen.from).getTime() : "";
  const until = chosen.to ? new Date(chosen.to).getTime() + 60_000 : 0;

  async function read(before) {
    const found = await get(PLACE + asQuery({ limit: PAGE, before: before || "", since, actor: chosen.actor, action: chosen.action }), { signal });
    const known = new Set(rows.map((row) => `${row.shard}:${row.entry}`));
    const fresh = found.entries.filter((row) => !known.has(`${row.shard}:${row.entry}`));
    rows.push(...fresh);
    older = found.older === before && !fresh.length ? 0 : found.older;
    draw();
  }

  function draw() {
    fill(status, t("shown", { n: count(rows.length) }), " ", t("times", { zone: zone() }));
    fill(place, table({
      caption: t("page.audit"), rows, empty: older ? t("none.here") : t("none"), rowId: (row) => `entry-${row.shard}-${row.entry}`,
      columns: [
        { key: "at", title: t("time"), cell: (row) => h("time", { datetime: row.at, class: "nowrap plain" }, time(row.at)) },
        { key: "actor", title: t("who"), cell: (row) => who(row.actor, t) },
        { key: "action", title: t("what"), cell: (row) => h("span", null, t.of("action", row.action), t.has(`action.${row.action}`) ? h("span", { class: "small soft block mono" }, row.action) : null) },
        { key: "object", title: t("object"), cell: (row) => object(row, t) },
        { key: "change", title: t("change"), cell: (row) => change(row, t) },
        { key: "result", title: t("result"), cell: (row) => result(row.result, t) },
        { key: "more", title: t("details"), cell: (row) => details(row, t) },
      ],
    }));
    fill(foot, older ? button(t("earlier"), () => read(older), { id: "more" }) : null,
      rows.length ? button(t("csv"), () => saveFile(`audit-${new Date().toISOString().slice(0, 10)}.csv`, asCsv(rows)), { id: "csv" }) : null);
  }

  const known = newId("actions");
  const filter = form({
    inline: true, button: t("filter"), kind: "main", label: t("filter"),
    fields: [
      field({ name: "actor", label: t("who"), value: chosen.actor, maxlength: 128, autocomplete: "off", spellcheck: "false" }),
      field({ name: "action", label: t("what"), value: chosen.action, maxlength: 128, list: known, autocomplete: "off", spellcheck: "false" }),
      h("datalist", { id: known }, ACTIONS.map((value) => h("option", { value }))),
      field({ name: "from", label: t("from"), type: "datetime-local", value: chosen.from }),
      field({ name: "to", label: t("to"), type: "datetime-local", value: chosen.to }),
    ],
    also: Object.values(chosen).some(Boolean) ? h("a", { href: "#/audit", class: "button" }, t("filter.clear")) : null,
    send: async (values) => go("audit", [], values),
  });

  const isSet = Object.values(chosen).some(Boolean);
  const filterBox = h("details", { class: "card", open: isSet || matchMedia("(min-width: 40rem)").matches }, h("summary", null, t("filter")), filter);

  async function verify() {
    fill(verdict, h("p", { class: "soft" }, t("verifying")));
    const found = await get(`${PLACE}?verify=1`, { signal });
    const entries = found.chains.reduce((n, one) => n + one.entries, 0);
    fill(verdict, h("div", { class: ["notice", found.sound ? "ok" : "bad"] }, icon(found.sound ? "ok" : "bad"), h("div", null,
      h("p", null, h("strong", null, t(found.sound ? "sound" : "broken")), " ", t("entries", { n: count(entries) })),
      h("ul", { class: "chains" }, found.chains.map((one) => h("li", null, one.broken_at ? t("chain.broken", { shard: one.shard, at: count(one.broken_at) }) : t("chain", { shard: one.shard, n: count(one.entries) }),
        one.head ? h("code", { class: "block" }, one.head) : null))),
      h("p", { class: "small" }, t(found.sound ? "sound.help" : "broken.help")))));
  }

  fill(main, h("div", { class: "head" }, h("h1", null, t("page.audit")), h("span", { class: "grow" }), button(t("verify"), verify, { picture: icon("ok"), id: "verify" })),
    verdict, filterBox,
    h("section", { class: "card", "aria-label": t("page.audit") }, status, place, foot));
  await read(until);
}

function who(actor, t) {
  const [name, address = ""] = actor.split(/@(?=[^@]*$)/);
  return h("span", { translate: "no" }, t.has(`who.${name}`) ? t(`who.${name}`) : name || "–", address ? h("span", { class: ["small soft block", address.length < 20 && "nowrap"] }, address) : null);
}

function object(row, t) {
  const parts = [];
  if (row.object && row.object !== "*") parts.push(h("span", { class: "id" }, row.object));
  else if (row.object === "*") parts.push(h("span", null, t("object.all")));
  if (row.number) parts.push(h("span", { class: "id block" }, row.number));
  return parts.length ? h("span", null, parts) : null;
}

/** What the store writes of a blacklist entry, in words; anything else as it is. */
function value(text, action, t) {
  const found = LISTED.exec(text);
  if (!found) return action in STATES ? t.of(STATES[action], text) : text;
  const categories = CATEGORIES.filter((_, i) => Number(found[1]) & (1 << i)).map((name) => t.of("category", name)).join(", ");
  return t("listed", { reason: t.of("listed", found[2]), categories: categories || t("all"), source: t.has(`source.${found[4]}`) ? t(`source.${found[4]}`) : found[4] });
}

function change(row, t) {
  if (!row.before && !row.after) return null;
  return h("span", { class: "change" }, row.before ? h("span", { class: "change-before" }, h("span", { class: "spoken" }, t("before")), value(row.before, row.action, t)) : null,
    row.before ? h("span", { "aria-hidden": "true", class: "soft" }, "→") : null,
    row.after ? h("span", null, h("span", { class: "spoken" }, t("after")), value(row.after, row.action, t)) : h("span", { class: "soft" }, t("nothing")));
}

function result(said, t) {
  if (!said) return null;
  const kind = said === "done" ? "ok" : said.startsWith("refused") ? "bad" : "off";
  return badge(kind, said.startsWith("refused: ") ? t("result.refused", { why: said.slice(9) }) : t.of("result", said));
}

function details(row, t) {
  const more = Object.entries(row).filter(([key, v]) => !OWN.has(key) && v !== "" && v !== null);
  return h("details", { class: "inline-details" }, h("summary", { "aria-label": t("details.n", { n: row.entry }) }, `#${row.entry}`),
    h("dl", { class: "pairs" }, [["entry", `${row.shard}:${row.entry}`], ["at", row.at], ...more].map(([key, v]) =>
      h("div", null, h("dt", null, key), h("dd", { class: "mono" }, typeof v === "object" ? JSON.stringify(v) : v)))));
}

function asCsv(rows) {
  const fields = ["at", "actor", "action", "object", "number", "before", "after", "result"];
  return toCsv([[...fields, "details"], ...rows.map((row) => [
    ...fields.map((name) => row[name] ?? ""),
    JSON.stringify(Object.fromEntries(Object.entries(row).filter(([key]) => !fields.includes(key) && key !== "at_ms"))),
  ])]);
}
