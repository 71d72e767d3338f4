// Statistics: a report of the gateway as figures, charts and a table; the cost of each month; the same report as CSV.
// Owns how a report is asked for (kept in the address, so that a link leads to it) and which chart suits it. Refuses to
// know what a number means: docs/statistics.md and the gateway do.

import { ask, get, query as asQuery } from "../lib/api.js";
import { barChart, lineChart, slotOf } from "../lib/chart.js";
import { saveFile } from "../lib/csv.js";
import { fill, h, icon } from "../lib/dom.js";
import { button, field } from "../lib/form.js";
import { count, money, share, short, span } from "../lib/format.js";
import { reasons } from "../lib/reasons.words.js";
import { failed as failure, problemText } from "../lib/say.js";
import { sortBy, table } from "../lib/table.js";
import { locale } from "../lib/words.js";
import { words as own } from "./stats.words.js";

export const words = { en: { ...reasons.en, ...own.en }, zh: { ...reasons.zh, ...own.zh } };

const PLACE = "/admin/v1/stats";
const PERIODS = ["today", "yesterday", "7d", "30d", "month", "last_month", "custom"];
const SPLITS = ["category", "account", "channel", "carrier", "route", "reason", "campaign", "template", "variant", "signature"];
const FILTERS = ["account", "category", "campaign", "channel", "carrier", "route", "reason", "template", "variant", "signature"];
const OPT_OUT_FILTERS = new Set(["account", "campaign", "signature"]);
const CATEGORIES = ["verification", "notification", "marketing"];
const COUNTS = ["accepted", "submitted", "delivered", "failed", "expired", "unknown", "cancelled", "blocked", "refused", "td", "complaints", "clicks", "conversions", "parts"];
const MEASURES = ["submitted", "accepted", "delivered", "failed", "ratio", "parts", "cost", "td", "complaints", "p95"];
const DERIVED = new Set(["ratio", "p95"]);
const ROWS = 50;
const MONTHS = 12;
const SERIES = 6;
const DAY_MS = 86_400_000;
const zoneHere = Intl.DateTimeFormat().resolvedOptions().timeZone;

const dateText = (d) => `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, "0")}-${String(d.getDate()).padStart(2, "0")}`;
const dayOf = (text) => { const [y, m, d] = text.split("-").map(Number); return new Date(y, m - 1, d); };

/** Today in the report's zone, as a local date. */
function today(zone) {
  const now = new Date();
  return zone === "UTC" ? new Date(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()) : new Date(now.getFullYear(), now.getMonth(), now.getDate());
}

/** The first and last day of a period, both in it. */
function rangeOf(want) {
  const now = today(want.zone);
  const back = (days) => new Date(now.getFullYear(), now.getMonth(), now.getDate() - days);
  switch (want.period) {
    case "yesterday": return [back(1), back(1)];
    case "7d": return [back(6), now];
    case "30d": return [back(29), now];
    case "month": return [new Date(now.getFullYear(), now.getMonth(), 1), now];
    case "last_month": return [new Date(now.getFullYear(), now.getMonth() - 1, 1), new Date(now.getFullYear(), now.getMonth(), 0)];
    case "custom": return [want.from ? dayOf(want.from) : now, want.to ? dayOf(want.to) : now];
    default: return [now, now];
  }
}

/** What is wanted, from the address; whatever stands there. */
function wantedOf(query) {
  const one = (name, known, usual) => (known.includes(query.get(name)) ? query.get(name) : usual);
  const date = (name) => (/^\d{4}-\d\d-\d\d$/.test(query.get(name) ?? "") ? query.get(name) : "");
  const want = {
    period: one("period", PERIODS, "today"), from: date("from"), to: date("to"), zone: query.get("zone") === "UTC" ? "UTC" : zoneHere,
    time: one("time", ["none", "hour", "day"], ""), split: one("split", ["none", ...SPLITS], "category"), then: one("then", SPLITS, ""), measure: one("measure", MEASURES, "submitted"), filters: {},
  };
  if (!want.time) want.time = ["today", "yesterday"].includes(want.period) ? "hour" : "day";
  for (const name of FILTERS) if (query.has(name)) want.filters[name] = query.get(name);
  return want;
}

function hashOf(want) {
  const usual = want.period === "today" || want.period === "yesterday" ? "hour" : "day";
  const parts = { period: want.period, time: want.time === usual ? "" : want.time, split: want.split === "category" ? "" : want.split, then: want.then, measure: want.measure === "submitted" ? "" : want.measure, zone: want.zone === "UTC" ? "UTC" : "" };
  if (want.period === "custom") Object.assign(parts, { from: want.from, to: want.to });
  return `#/stats${asQuery({ ...parts, ...want.filters })}`;
}

/** The query of a report. By signature the gateway counts opt-outs alone, by days of UTC. */
function parametersOf(want) {
  const optOuts = want.split === "signature" || "signature" in want.filters;
  const [from, to] = rangeOf(optOuts ? { ...want, zone: "UTC" } : want);
  const time = optOuts && want.time === "hour" ? "day" : want.time;
  const by = [time, want.split, want.then].filter((name, i, all) => name && name !== "none" && all.indexOf(name) === i && (!optOuts || ["day", "account", "campaign", "signature"].includes(name)));
  const filters = Object.fromEntries(Object.entries(want.filters).filter(([name]) => !optOuts || OPT_OUT_FILTERS.has(name)).map(([name, value]) => [name, value.replaceAll(",", "\\,")]));
  const parameters = { from: dateText(from), to: dateText(to), zone: optOuts ? "UTC" : want.zone, by: by.join(","), ...filters };
  return { parameters, by, time: by.includes(time) ? time : "none", splits: by.filter((name) => name !== time), optOuts };
}

const empty = () => ({ ...Object.fromEntries(COUNTS.map((name) => [name, 0])), cost: 0, latency: null, n: 0 });

function addTo(sum, row) {
  for (const name of COUNTS) sum[name] += row[name] ?? 0;
  sum.cost += Number(row.cost ?? 0);
  sum.latency = sum.n ? null : row.latency;  // percentiles of two groups cannot be added up
  sum.n += 1;
  return sum;
}

function valueOf(row, measure) {
  if (measure === "cost") return Number(row.cost ?? 0);
  if (measure === "p95") return row.latency?.p95_s ?? null;
  if (measure !== "ratio") return row[measure] ?? 0;
  const ended = row.delivered + row.failed + row.expired + row.unknown;
  return ended > 0 ? row.delivered / ended : null;
}

const costText = (x, currency = "") => money(Math.abs(Number(x)) >= 1 ? Number(x).toFixed(2) : x, currency);
const formatOf = (measure) => ({ cost: (x) => costText(x), ratio: share, p95: span })[measure] ?? count;
const tickOf = (measure) => ({ ratio: share, p95: span })[measure] ?? short;

export async function show({ main, query, signal, t }) {
  let want = wantedOf(query);
  let known = { account: [], channel: [], route: [] };
  let asked = 0;
  const results = h("div", { class: "results" }, h("p", { class: "loading" }, t("loading")));
  const controls = h("section", { class: "card controls", "aria-label": t("controls") });
  const status = h("p", { class: "spoken", role: "status" });
  const wide = matchMedia("(min-width: 48rem)").matches;
  let moreOpen = false;
  let opened = wide || Object.keys(want.filters).length > 0;
  const csv = button(t("csv"), () => saveCsv(), { picture: icon("drain"), id: "csv" });

  function change(part) {
    want = { ...want, ...part };
    history.pushState(null, "", hashOf(want));
    draw();
    run();
  }

  function draw() {
    const picked = (name, title, options, value, act, help = "") => field({ name, label: title, type: "select", value, options, help, on: { change: (event) => act(event.target.value) }, id: `pick-${name}` });
    const named = (values, family) => values.map((value) => [value, t.of(family, value)]);
    const filter = (name) => {
      const value = want.filters[name] ?? "";
      const act = (text) => { const filters = { ...want.filters }; if (text) filters[name] = text; else delete filters[name]; change({ filters }); };
      const list = name === "category" ? CATEGORIES : name === "reason" ? Object.keys(reasons.en).filter((key) => !key.startsWith("reason.says.")).map((key) => key.slice(7)) : known[name];
      if (list?.length || name === "category" || name === "reason") {
        const options = [["", t("all")], ...list.map((one) => [one, name === "category" || name === "reason" ? t.of(name, one) : one])];
        if (value && !list.includes(value)) options.push([value, value]);
        return picked(name, dimension(name), options, value, act);
      }
      return field({ name, label: dimension(name), value, id: `pick-${name}`, autocomplete: "off", spellcheck: "false", placeholder: t("all"), on: { change: (event) => act(event.target.value.trim()) } });
    };
    const dimension = (name) => t(`by.${name}`);
    const [from, to] = rangeOf(want);
    const more = FILTERS.slice(3).filter((name) => name !== "signature");
    fill(controls,
      h("div", { class: "tabs", role: "group", "aria-label": t("period") }, PERIODS.map((name) => h("button", { type: "button", id: `period-${name}`, class: "tab", "aria-pressed": String(want.period === name),
        on: { click: () => change({ period: name, ...(name === "custom" ? { from: dateText(from), to: dateText(to) } : {}), time: ["today", "yesterday"].includes(name) ? "hour" : want.time === "hour" ? "day" : want.time }) } }, t(`period.${name}`)))),
      want.period === "custom" ? h("form", { class: "form inline", "aria-label": t("period.custom"), on: { submit: (event) => event.preventDefault() } },
        field({ name: "from", label: t("from"), type: "date", value: want.from, id: "pick-from", max: dateText(today(want.zone)), on: { change: (event) => event.target.value && change({ from: event.target.value }) } }),
        field({ name: "to", label: t("to"), type: "date", value: want.to, id: "pick-to", on: { change: (event) => event.target.value && change({ to: event.target.value }) } })) : null,
      h("details", { class: "choices-of", open: opened, on: { toggle: (event) => { opened = event.target.open; } } }, h("summary", { id: "controls-more" }, t("controls.more")),
        h("form", { class: "form inline", "aria-label": t("controls"), on: { submit: (event) => event.preventDefault() } },
          picked("time", t("along"), named(["hour", "day", "none"], "time"), want.time, (time) => change({ time })),
          picked("split", t("split"), [["none", t("split.none")], ...SPLITS.map((name) => [name, dimension(name)])], want.split, (split) => change({ split })),
          picked("then", t("then"), [["", t("split.none")], ...SPLITS.filter((name) => name !== "signature").map((name) => [name, dimension(name)])], want.then, (then) => change({ then })),
          picked("measure", t("measure"), named(MEASURES, "measure"), want.measure, (measure) => change({ measure })),
          picked("zone", t("zone"), [[zoneHere, zoneHere], ...(zoneHere === "UTC" ? [] : [["UTC", "UTC"]])], want.zone, (zone) => change({ zone })),
        ),
        h("form", { class: "form inline gap-above", "aria-label": t("filters"), on: { submit: (event) => event.preventDefault() } }, FILTERS.slice(0, 3).map(filter),
          h("details", { class: "more-filters", open: moreOpen || more.some((name) => name in want.filters), on: { toggle: (event) => { event.stopPropagation(); moreOpen = event.target.open; } } }, h("summary", { id: "filters-more" }, t("filters.more")), h("div", { class: "form inline" }, more.map(filter))),
          Object.keys(want.filters).length ? button(t("filters.clear"), () => change({ filters: {} }), { kind: "bare", id: "filters-clear" }) : null)));
  }

  async function run() {
    const mine = (asked += 1);
    const plan = parametersOf(want);
    const measured = plan.optOuts && !["td", "complaints"].includes(want.measure) ? "td" : want.measure;
    results.setAttribute("aria-busy", "true");
    try {
      const report = await get(PLACE + asQuery(plan.parameters), { signal });
      if (mine !== asked) return;
      fill(results, shown(report, plan, measured));
      status.textContent = t("ready", { n: count(report.rows.length) });
    } catch (error) {
      if (error.name === "AbortError" || mine !== asked) return;
      const old = error.field === "from" && want.zone !== "UTC";
      fill(results, h("div", { class: "notice bad", role: "alert" }, icon("bad"), h("div", null, h("p", null, problemText(error)),
        old ? button(t("use.utc"), () => change({ zone: "UTC", time: want.time === "hour" ? "day" : want.time }), { small: true }) : null,
        error.code === "too_many_rows" ? button(t("use.less"), () => change({ then: "", time: "none" }), { small: true }) : null)));
    } finally { if (mine === asked) results.removeAttribute("aria-busy"); }
  }

  async function saveCsv() {
    const { parameters } = parametersOf(want);
    const file = await ask("GET", PLACE + asQuery({ ...parameters, format: "csv" }), undefined, { signal, as: "blob" });
    saveFile(`stats-${parameters.from}-${parameters.to}.csv`, file);
  }

  function shown(report, plan, measure) {
    const total = report.total;
    return [
      h("p", { class: "soft small" }, t("range", { from: timeName(report.from, "hour", report.zone), to: timeName(report.to, "hour", report.zone), zone: report.zone }), plan.optOuts ? ` ${t("opt_outs.only")}` : ""),
      plan.optOuts ? figures([[t("measure.td"), count(total.td)], [t("measure.complaints"), count(total.complaints)]]) : figures(figuresOf(total)),
      h("div", { class: "stats-charts" }, chartCard(report, plan, measure), plan.optOuts ? null : failuresCard(total)),
      plan.by.length ? tableCard(report, plan, measure) : null,
    ];
  }

  function figuresOf(total) {
    const ended = total.delivered + total.failed + total.expired + total.unknown;
    return [
      [t("measure.accepted"), count(total.accepted)], [t("measure.submitted"), count(total.submitted), t("parts.n", { n: count(total.parts) })],
      [t("measure.delivered"), count(total.delivered), total.delivery_ratio === null ? "" : t("ratio.of", { ratio: share(total.delivery_ratio), n: count(ended) })],
      [t("measure.failed"), count(total.failed), t("and.more", { expired: count(total.expired), unknown: count(total.unknown) })],
      [t("measure.cost"), Number(total.cost) >= 100_000 ? count(Number(total.cost)) : costText(total.cost), Object.entries(total.amounts).map(([currency, amount]) => `${t("revenue")} ${money(amount, currency)}`).join(", ")],
      [t("measure.td"), count(total.td), t("complaints.n", { n: count(total.complaints) })],
      ...(total.latency ? [[t("latency"), span(total.latency.p50_s), t("latency.more", { p95: span(total.latency.p95_s), p99: span(total.latency.p99_s) })]] : []),
    ];
  }

  function nameOf(dimension, value) {
    if (value === "") return t(dimension === "reason" ? "reason.none" : "value.none");
    if (dimension === "category" || dimension === "reason") return t.of(dimension, value);
    return dimension === "day" || dimension === "hour" ? timeName(value, dimension, want.zone) : value;
  }

  function chartCard(report, plan, measure) {
    const [split] = plan.splits;
    const label = split ? t("chart.by", { measure: t(`measure.${measure}`), by: t(`by.${split}`).toLocaleLowerCase(locale()) }) : t(`measure.${measure}`);
    const card = h("section", { class: "card", "aria-labelledby": "chart-title" }, h("h2", { id: "chart-title" }, plan.time === "none" ? label : t("chart.over", { label, time: t(`time.${plan.time}`) })));
    if (plan.time === "none" && !split) {
      card.append(h("p", { class: "soft" }, t("chart.pick")));
      return card;
    }
    const groups = new Map();
    for (const row of report.rows) {
      const key = split ? row[split] : "";
      groups.set(key, addTo(groups.get(key) ?? empty(), row));
    }
    const ranked = [...groups].sort(([, a], [, b]) => (DERIVED.has(measure) ? b.submitted - a.submitted : valueOf(b, measure) - valueOf(a, measure)));
    if (plan.time === "none") {
      const bars = barChart({ label, head: t(`by.${split}`), unit: t(`measure.${measure}`), format: formatOf(measure), most: 15, shares: !DERIVED.has(measure) });
      bars.set(ranked.filter(([, row]) => valueOf(row, measure)).map(([key, row], i) => ({ id: key || "-", name: nameOf(split, key), value: valueOf(row, measure), slot: slotOf(key, i) })));
      card.append(bars.node);
      return card;
    }
    const xs = timesOf(report, plan.time);
    const at = new Map(xs.map((x, i) => [x, i]));
    const top = split ? ranked.slice(0, SERIES).map(([key]) => key) : [""];
    const rest = split && ranked.length > SERIES && !DERIVED.has(measure);
    const cells = new Map();
    for (const row of report.rows) {
      const key = split ? (top.includes(row[split]) ? row[split] : rest ? "\u0000" : null) : "";
      const i = at.get(timeOf(row[plan.time], plan.time));
      if (key === null || i === undefined) continue;
      const line = cells.get(key) ?? cells.set(key, []).get(key);
      line[i] = addTo(line[i] ?? empty(), row);
    }
    const series = split ? [...top, ...(rest ? ["\u0000"] : [])].map((key, i) => ({ id: `s${i}`, key, name: key === "\u0000" ? t("value.rest", { n: count(ranked.length - SERIES) }) : nameOf(split, key), slot: key === "\u0000" ? 7 : slotOf(key, i) }))
      : DERIVED.has(measure) || !["submitted", "delivered", "failed"].includes(measure) ? [{ id: "s0", key: "", name: t(`measure.${measure}`), slot: 1 }]
      : ["submitted", "delivered", "failed"].map((name, i) => ({ id: name, key: "", measure: name, name: t(`measure.${name}`), slot: [2, 1, 5][i] }));
    const chart = lineChart({
      label, series, format: formatOf(measure), tick: tickOf(measure), integer: !["cost", "ratio", "p95"].includes(measure), height: 240,
      kind: split && !DERIVED.has(measure) ? "columns" : "line", top: measure === "ratio" ? 1 : 0,
    });
    const missing = DERIVED.has(measure) ? null : 0;
    chart.set({ xs, ys: Object.fromEntries(series.map((one) => [one.id, xs.map((_, i) => { const cell = cells.get(one.key)?.[i]; return cell ? valueOf(cell, one.measure ?? measure) : missing; })])) });
    card.append(chart.node);
    return card;
  }

  function failuresCard(total) {
    const bars = barChart({ label: t("failures"), head: t("reason"), unit: t("count"), most: 10, empty: t("failures.none") });
    bars.set(total.failures.map((one) => ({ id: `${one.state}/${one.reason}`, name: h("span", null, one.reason ? t.of("reason", one.reason) : t("reason.none"), " ", h("span", { class: "soft small" }, t.of("state", one.state))), value: one.n, share: one.share, slot: 5 })));
    return h("section", { class: "card", "aria-labelledby": "failures-title" }, h("h2", { id: "failures-title" }, t("failures")), bars.node);
  }

  function tableCard(report, plan, measure) {
    let sorted = { key: plan.time === "none" ? measure : plan.time, down: true };
    let most = ROWS;
    let all = false;
    const place = h("div");
    const figure = (key, cell = (row) => count(valueOf(row, key)), title = t(`measure.${key}`)) => ({ key, title, kind: "number", cell, sort: (row) => valueOf(row, key) ?? -1 });
    const redraw = () => {
      const dimensions = plan.by.map((name) => ({ key: name, title: t(`by.${name}`), sort: (row) => row[name], kind: "",
        cell: (row) => (row === report.total ? (name === plan.by[0] ? t("total") : "") : cellOf(name, row[name])) }));
      const measures = plan.optOuts ? [figure("td"), figure("complaints")] : [
        figure("accepted"), figure("submitted"), figure("delivered"), figure("ratio", (row) => share(row.delivery_ratio)), figure("failed"), figure("td"), figure("complaints"), figure("cost", (row) => costText(row.cost)),
        ...(all ? [figure("parts"), figure("expired"), figure("unknown"), figure("blocked"), figure("cancelled"), figure("refused"), figure("clicks"), figure("conversions")] : []),
        ...(all ? ["p50_s", "p95_s", "p99_s"].map((key) => ({ key, title: t(`measure.${key.slice(0, 3)}`), kind: "number", sort: (row) => row.latency?.[key] ?? -1, cell: (row) => span(row.latency?.[key]) })) : []),
      ];
      const columns = [...dimensions, ...measures];
      const order = sorted ? columns.find((c) => c.key === sorted.key) : null;
      const rows = order ? [...report.rows].sort((a, b) => (sorted.down ? -1 : 1) * compare(order.sort(a), order.sort(b))) : report.rows;
      fill(place, table({ caption: t("table"), stack: false, rows: rows.slice(0, most), columns, sorted, onSort: (key) => { sorted = sortBy(sorted, key); redraw(); }, total: report.rows.length ? report.total : null }),
        h("div", { class: "buttons gap-above" }, rows.length > most ? [h("span", { class: "soft small" }, t("rows.some", { n: count(most), all: count(rows.length) })), button(t("rows.more"), () => { most += 4 * ROWS; redraw(); }, { small: true, id: "rows-more" })] : h("span", { class: "soft small" }, t("rows.all", { n: count(rows.length) })),
          plan.optOuts ? null : button(t(all ? "columns.less" : "columns.all"), () => { all = !all; redraw(); }, { small: true, id: "columns" })));
    };
    const cellOf = (name, value) => {
      if (name === "hour" || name === "day" || !value) return h("span", { class: "nowrap" }, nameOf(name, value));
      const next = { ...want, filters: { ...want.filters, [name]: value }, split: want.split === name ? (want.then && want.then !== name ? want.then : "none") : want.split, then: "" };
      return h("a", { href: hashOf(next), class: value.length < 32 ? "nowrap" : "", translate: name === "category" || name === "reason" ? null : "no", title: t("narrow", { value: nameOf(name, value) }) }, nameOf(name, value));
    };
    redraw();
    return h("section", { class: "card", "aria-labelledby": "table-title" }, h("h2", { id: "table-title" }, t("table")), place);
  }

  const months = h("section", { class: "card", "aria-labelledby": "months-title" }, h("h2", { id: "months-title" }, t("months")), h("p", { class: "help" }, t("months.help")),
    h("div", null, button(t("months.read"), async () => { await readMonths(); }, { id: "months-read" })));

  async function readMonths() {
    const now = new Date();
    const from = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - MONTHS + 1, 1));
    const filters = Object.fromEntries(Object.entries(want.filters).filter(([name]) => name !== "signature").map(([name, value]) => [name, value.replaceAll(",", "\\,")]));
    const report = await get(PLACE + asQuery({ from: from.toISOString().slice(0, 10), by: "day", zone: "UTC", ...filters }), { signal });
    const sums = new Map();
    for (let i = 0; i < MONTHS; i += 1) sums.set(new Date(Date.UTC(from.getUTCFullYear(), from.getUTCMonth() + i, 1)).toISOString().slice(0, 7), empty());
    for (const row of report.rows) { const sum = sums.get(row.day.slice(0, 7)); if (sum) addTo(sum, row); }
    const rows = [...sums].reverse().map(([month, sum]) => ({ month, ...sum }));
    const name = (month) => new Intl.DateTimeFormat(locale(), { year: "numeric", month: "long", timeZone: "UTC" }).format(new Date(`${month}-01T00:00:00Z`));
    const bars = barChart({ label: t("months"), head: t("month"), unit: t("measure.cost"), format: (x) => costText(x), shares: false });
    bars.set(rows.filter((row) => row.cost || row.submitted).map((row) => ({ id: row.month, name: name(row.month), value: row.cost, slot: 1 })));
    fill(months.lastElementChild, bars.node, table({
      caption: t("months"), rows: rows.filter((row) => row.accepted || row.submitted || row.cost), columns: [
        { key: "month", title: t("month"), cell: (row) => name(row.month) },
        ...["submitted", "delivered", "failed", "parts"].map((key) => ({ key, title: t(`measure.${key}`), kind: "number", cell: (row) => count(row[key]) })),
        { key: "ratio", title: t("measure.ratio"), kind: "number", cell: (row) => share(valueOf(row, "ratio")) },
        { key: "cost", title: t("measure.cost"), kind: "number", cell: (row) => costText(row.cost) },
      ],
    }));
  }

  fill(main, h("div", { class: "head" }, h("h1", null, t("page.stats")), h("span", { class: "grow" }), csv), controls, status, results, months);
  draw();
  const names = async () => {
    const [accounts, routes] = await Promise.all([get("/admin/v1/accounts", { signal }), get("/admin/v1/routes", { signal })]);
    known = { account: accounts.accounts.map((one) => one.id), route: routes.routes.map((one) => one.id), channel: [...new Set(routes.routes.flatMap((one) => (one.channels ?? []).map((c) => c.id ?? c.channel ?? c)))].filter((one) => typeof one === "string") };
    draw();
  };
  names().catch((error) => { if (error.name !== "AbortError") failure(error); });
  run();  // not waited for: the page is there, and its focus is the reader's
}

function figures(all) {
  return h("div", { class: "figures" }, all.map(([name, value, more]) => h("div", { class: "figure" }, h("span", { class: "figure-name" }, name), h("span", { class: "figure-value" }, value), more ? h("span", { class: "help" }, more) : null)));
}

const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
const timeOf = (value, kind) => (kind === "day" ? dayOf(value).getTime() : Date.parse(value));

/** All days or hours that a report is over, those without a row too, up to now. */
function timesOf(report, kind) {
  const until = Math.min(Date.parse(report.to), Date.now());
  const xs = [];
  if (kind === "hour") for (let at = Date.parse(report.from); at < until; at += 3_600_000) xs.push(at);
  else {
    const last = report.to.slice(0, 10);
    for (let day = dayOf(report.from.slice(0, 10)), i = 0; i < 401; i += 1, day = new Date(day.getFullYear(), day.getMonth(), day.getDate() + 1)) {
      const text = dateText(day);
      if (text > last || (text === last && report.to.slice(11, 16) === "00:00") || day.getTime() > Date.now() + DAY_MS) break;
      xs.push(day.getTime());
    }
  }
  return xs;
}

/** An hour or a day as it is called in the report's zone. */
function timeName(value, kind, zone) {
  if (kind === "day") return new Intl.DateTimeFormat(locale(), { dateStyle: "medium" }).format(dayOf(value));
  try { return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short", timeZone: zone }).format(new Date(value)); } catch { return value; }
}
