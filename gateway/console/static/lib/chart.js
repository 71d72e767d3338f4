// Charts as plain SVG: lines and stacked columns along time or labels, horizontal bars with shares, sparklines. Owns how
// they are drawn, read out (pointer and arrow keys) and shown as a table. Refuses to know where the figures come from.
//
//   const chart = lineChart({label: "Accepted per second", series: [{id: "verification", name: t("…"), slot: 1}], format: rate});
//   card.append(chart.node);
//   chart.set({xs: [ms, …], ys: {verification: [12, null, …]}});      // as often as there is news: what stands there is redrawn
//   barChart({label}).set([{id, name, value, share}]);   sparkline({label}).set([1, 2, 3]);
//
// A slot (1 to 8) is a colour and a dash and a mark, so that no series is told by its colour alone; `slotOf` gives every
// category the same one everywhere. Colours and dashes stand in css/now.css.

import { fill, h, s } from "./dom.js";
import { clock, count, DASH, share as shareText, short, time } from "./format.js";
import { locale, translator } from "./words.js";
import { words } from "./chart.words.js";

const t = translator(words);
const CATEGORY_SLOTS = new Map([["verification", 1], ["notification", 2], ["marketing", 3]]);  // a campaign may be named "constructor"
const DAY_MS = 86_400_000;
const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000].map((x) => x * 1000);
const GAP = 3.5;  // a line breaks where a time is this many usual steps away from the one before

/** The slot of a category, or of the n-th of other things (carriers, reasons, campaigns). */
export const slotOf = (name, n = 0) => CATEGORY_SLOTS.get(name) ?? (n % 8) + 1;

const missing = (v) => v === null || v === undefined || Number.isNaN(v);
const r1 = (x) => Math.round(x * 10) / 10;

function mark(slot, x, y, r = 3.6) {
  const p = (...points) => `M${points.map(([a, b]) => `${r1(x + a * r)} ${r1(y + b * r)}`).join("L")}Z`;
  switch ((slot - 1) % 8) {
    case 0: return `M${r1(x - r)} ${r1(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
    case 1: return p([-1, -1], [1, -1], [1, 1], [-1, 1]);
    case 2: return p([0, -1.3], [1.2, 1], [-1.2, 1]);
    case 3: return p([0, -1.4], [1.4, 0], [0, 1.4], [-1.4, 0]);
    case 4: return p([0, 1.3], [1.2, -1], [-1.2, -1]);
    case 5: return p([-1, -.35], [-.35, -.35], [-.35, -1], [.35, -1], [.35, -.35], [1, -.35], [1, .35], [.35, .35], [.35, 1], [-.35, 1], [-.35, .35], [-1, .35]);
    case 6: return p([-1.3, 0], [1, 1.2], [1, -1.2]);
    default: return p([1.3, 0], [-1, 1.2], [-1, -1.2]);
  }
}

/** How a series looks, small: for legends that stand elsewhere. */
export function swatch(slot, kind = "line") {
  const plain = kind === "line"
    ? [s("path", { class: `chart-line s${slot}`, d: "M0 7H26" }), s("path", { class: `chart-mark s${slot}`, d: mark(slot, 13, 7) })]
    : [s("rect", { class: `chart-area is-solid s${slot}`, x: 6, y: 1, width: 12, height: 12, rx: 2 }), s("path", { class: "chart-mark on", d: mark(slot, 12, 7, 2.4) })];
  return s("svg", { class: "swatch", viewBox: "0 0 26 14", width: 26, height: 14, "aria-hidden": "true", focusable: "false" }, plain);
}

function niceStep(span, want, integer) {
  const raw = span / want;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999) * power;
  return integer ? Math.max(1, Math.ceil(step)) : step;
}

function timeTicks(from, to, width) {
  const step = STEPS_MS.find((x) => (to - from) / x <= Math.max(2, width / 85)) ?? STEPS_MS.at(-1);
  const shift = new Date(from).getTimezoneOffset() * 60_000;
  const ticks = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) ticks.push(at);
  const options = step < 60_000 ? { hour: "2-digit", minute: "2-digit", second: "2-digit" } : step < DAY_MS ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" };
  const text = new Intl.DateTimeFormat(locale(), { ...options, hour12: false });
  return ticks.map((at) => [at, text.format(at)]);
}

/** A table that stands below a chart when it is asked for: a picture of the moment, so that nobody's place moves. */
function tableToggle(label, build) {
  const place = h("div", { class: "chart-table", hidden: true });
  const toggle = h("button", { type: "button", class: "bare chart-toggle", "aria-expanded": "false", on: { click: () => {
    const open = place.hidden;
    place.hidden = !open;
    toggle.setAttribute("aria-expanded", String(open));
    fill(toggle, t(open ? "chart.hide" : "chart.table"), h("span", { class: "spoken" }, `: ${label}`));
    if (open) fill(place, build()); else place.replaceChildren();
  } } }, t("chart.table"), h("span", { class: "spoken" }, `: ${label}`));
  return { toggle, place };
}

function plainTable(caption, head, rows) {
  return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": caption }, h("table", null,
    h("caption", null, caption),
    h("thead", null, h("tr", null, head.map((title, i) => h("th", { scope: "col", class: i ? "number" : "" }, title)))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map((cell, i) => (i ? h("td", { class: "number" }, cell) : h("th", { scope: "row" }, cell))))))));
}

/**
 * A chart along time (`x: "time"`, xs are epoch milliseconds) or along labels (`x: "labels"`, xs are texts).
 * `series` [{id, name, slot}], `format(v)` a value in words, `tick(v)` one at the axis, `kind` "line" | "area" | "columns"
 * (stacked), `integer` for things that are counted, `height` in px, `top` the least the axis goes up to, `limit` a
 * value drawn as a line across, `summary(data)` a sentence in place of the usual one, `legend` false to leave it out.
 * Returns {node, set({xs, ys: {id: [v | null]}, series?}), series()}.
 */
export function lineChart({ label, series, format = short, tick = short, x = "time", kind = "line", integer = false, height = 190, top = 0, limit = null, summary = null, legend = true }) {
  let data = { xs: [], ys: {} }, width = 0, at = -1, drawn = null, now = series;
  const grid = s("g", { class: "chart-grid" }), axis = s("g", { class: "chart-axis" }), lines = s("g"), cross = s("g", { class: "chart-cross" });
  const picture = s("svg", { role: "img", class: "chart-svg", height, "aria-label": label }, grid, lines, axis, cross);
  const read = h("div", { class: "chart-read", role: "slider", tabindex: "0", "aria-label": t("chart.read", { label }), "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" });
  const tip = h("div", { class: "chart-tip", "aria-hidden": "true", hidden: true });
  const nothing = h("p", { class: "chart-nothing soft" }, t("chart.empty"));
  const box = h("div", { class: "chart-box" }, picture, read, tip, nothing);
  const key = h("ul", { class: "chart-key" });
  const { toggle, place } = tableToggle(label, () => plainTable(t("chart.asof", { label, time: clock(Date.now()) }),
    [x === "time" ? t("chart.time") : "", ...now.map((one) => one.name)],
    data.xs.map((_, i) => [name(i, true), ...now.map((one) => value(one, i))])));
  const node = h("div", { class: "chart", role: "group", "aria-label": label }, h("div", { class: "chart-head" }, legend ? key : null, toggle), box, place);
  const paths = new Map(), legends = new Map();

  const value = (one, i) => { const v = data.ys[one.id]?.[i]; return missing(v) ? DASH : format(v); };
  const known = () => now.some((one) => (data.ys[one.id] ?? []).some((v) => !missing(v)));
  const long = () => x === "time" && data.xs.length > 1 && data.xs.at(-1) - data.xs[0] > DAY_MS * 0.9;
  function name(i, whole = false) {
    if (x !== "time") return String(data.xs[i]);
    const step = data.xs.length > 1 ? data.xs[1] - data.xs[0] : 0;
    if (step >= DAY_MS * 0.9) return new Intl.DateTimeFormat(locale(), { dateStyle: "medium" }).format(data.xs[i]);
    return long() || whole && long() ? time(data.xs[i]) : clock(data.xs[i]);
  }

  function build() {
    paths.clear(); legends.clear();
    lines.replaceChildren();
    for (const one of now) {
      const area = kind === "line" ? null : s("path", { class: `chart-area s${one.slot}${kind === "columns" ? " is-solid" : ""}` });
      const line = kind === "columns" ? null : s("path", { class: `chart-line s${one.slot}` });
      const end = kind === "columns" ? null : s("path", { class: `chart-mark s${one.slot}` });
      lines.append(...[area, line, end].filter(Boolean));
      paths.set(one.id, { area, line, end });
      legends.set(one.id, h("b"));
    }
    fill(key, now.map((one) => h("li", null, swatch(one.slot, kind === "columns" ? "columns" : "line"), h("span", null, one.name), " ", legends.get(one.id))));
  }

  function summarise() {
    if (!known()) return t("chart.summary.empty", { label });
    if (summary) return summary(data);
    const lines = now.map((one) => {
      const ys = (data.ys[one.id] ?? []).filter((v) => !missing(v));
      return ys.length ? t("chart.summary.line", { name: one.name, last: format(ys.at(-1)), min: format(Math.min(...ys)), max: format(Math.max(...ys)) }) : null;
    }).filter(Boolean);
    return t("chart.summary", { label, from: name(0), to: name(data.xs.length - 1), lines: lines.join(t("chart.join")) });
  }

  function highest() {
    if (kind !== "columns") return Math.max(top, limit ?? 0, ...now.map((one) => (data.ys[one.id] ?? []).reduce((m, v) => (missing(v) || v < m ? m : v), 0)));
    return Math.max(top, limit ?? 0, ...data.xs.map((_, i) => now.reduce((sum, one) => sum + (data.ys[one.id]?.[i] || 0), 0)));
  }

  function draw() {
    const n = data.xs.length;
    nothing.hidden = known();
    read.hidden = !known();
    picture.setAttribute("aria-label", summarise());
    if (!width) return;
    const highestY = highest() || 1, step = niceStep(highestY, height < 150 ? 3 : 4, integer), topY = Math.ceil(highestY / step - 1e-9) * step;
    const ticks = [];
    for (let v = 0; v <= topY + step / 2; v += step) ticks.push([v, tick(v)]);
    const left = Math.max(26, ...ticks.map(([, text]) => text.length * 6.6 + 12)), right = 12, above = 8, below = 22;
    const w = Math.max(10, width - left - right), high = height - above - below;
    const bandWidth = w / Math.max(1, n);
    const from = data.xs[0], to = data.xs.at(-1);
    const px = x === "time" && kind !== "columns" ? (i) => left + (n < 2 || to === from ? w : ((data.xs[i] - from) / (to - from)) * w) : (i) => left + bandWidth * (i + .5);
    const py = (v) => above + high - (v / topY) * high;
    drawn = { px, py, left, right, above, high, w, n };
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("width", width);
    grid.replaceChildren(...ticks.map(([v], i) => s("line", { class: i ? "" : "is-zero", x1: left, x2: width - right, y1: r1(py(v)), y2: r1(py(v)) })),
      ...(limit === null ? [] : [s("line", { class: "is-limit", x1: left, x2: width - right, y1: r1(py(limit)), y2: r1(py(limit)) })]));
    const labels = ticks.map(([v, text]) => s("text", { x: left - 7, y: r1(py(v)) + 4, "text-anchor": "end" }, text));
    if (n) labels.push(...xLabels(px, left, w, from, to, n));
    axis.replaceChildren(...labels);
    if (kind === "columns") drawColumns(px, py, bandWidth, n); else drawLines(px, py, n);
    read.setAttribute("aria-valuemax", String(Math.max(0, n - 1)));
    for (const one of now) {
      const last = x === "time" && kind !== "columns" ? (data.ys[one.id] ?? []).at(-1) : undefined;
      legends.get(one.id).textContent = last === undefined ? "" : missing(last) ? DASH : format(last);
    }
    if (at >= n) at = n - 1;
    point();
  }

  function xLabels(px, left, w, from, to, n) {
    if (x === "time" && kind !== "columns") {
      if (to === from) return [];
      return timeTicks(from, to, w).map(([when, text]) => {
        const place = left + ((when - from) / (to - from)) * w;
        return s("text", { x: r1(place), y: height - 5, "text-anchor": place > left + w - 24 ? "end" : place < left + 20 ? "start" : "middle" }, text);
      });
    }
    const hours = n > 1 && data.xs[1] - data.xs[0] < DAY_MS * 0.9;
    const parts = { ...(hours ? { hour: "2-digit", minute: "2-digit", hour12: false } : {}), ...(hours && to - from < DAY_MS * 1.1 ? {} : { day: "numeric", month: "short" }) };
    const text = x === "time" ? data.xs.map((v) => new Intl.DateTimeFormat(locale(), parts).format(v)) : data.xs.map(String);
    const longest = Math.min(16, Math.max(...text.map((one) => one.length)));
    const every = Math.max(1, Math.ceil((n * (longest * 7 + 14)) / w));
    return text.map((one, i) => (i % every ? null : s("text", { x: r1(px(i)), y: height - 5, "text-anchor": "middle" }, one.length > 16 ? `${one.slice(0, 15)}…` : one))).filter(Boolean);
  }

  function drawLines(px, py, n) {
    const steps = data.xs.slice(1).map((v, i) => v - data.xs[i]).sort((a, b) => a - b);
    const usual = x === "time" && steps.length ? steps[steps.length >> 1] : Infinity;
    for (const one of now) {
      const ys = data.ys[one.id] ?? [], { area, line, end } = paths.get(one.id);
      let d = "", fillD = "", start = -1, last = -1;
      const shut = () => { if (start >= 0) fillD += `L${r1(px(last))} ${r1(py(0))}L${r1(px(start))} ${r1(py(0))}Z`; start = -1; };
      for (let i = 0; i < n; i += 1) {
        if (missing(ys[i])) { shut(); continue; }
        if (start >= 0 && data.xs[i] - data.xs[last] > usual * GAP) shut();
        const here = `${r1(px(i))} ${r1(py(ys[i]))}`;
        d += (start < 0 ? "M" : "L") + here;
        fillD += (start < 0 ? "M" : "L") + here;
        if (start < 0) start = i;
        last = i;
      }
      shut();
      line.setAttribute("d", d || "M0 0");
      area?.setAttribute("d", fillD || "M0 0");
      end.setAttribute("d", last >= 0 ? mark(one.slot, px(last), py(ys[last])) : "M0 0");
    }
  }

  function drawColumns(px, py, bandWidth, n) {
    const half = Math.max(1, Math.min(26, bandWidth * .36)), floor = new Array(n).fill(0);
    for (const one of now) {
      let d = "";
      for (let i = 0; i < n; i += 1) {
        const v = data.ys[one.id]?.[i] || 0;
        if (v > 0) d += `M${r1(px(i) - half)} ${r1(py(floor[i]))}H${r1(px(i) + half)}V${r1(py(floor[i] + v))}H${r1(px(i) - half)}Z`;
        floor[i] += v;
      }
      paths.get(one.id).area.setAttribute("d", d || "M0 0");
    }
  }

  function point() {
    if (at < 0 || !drawn || !data.xs.length) { cross.replaceChildren(); tip.hidden = true; return; }
    const { px, py, above, high } = drawn, place = r1(px(at));
    cross.replaceChildren(s("line", { x1: place, x2: place, y1: above, y2: above + high }),
      ...(kind === "columns" ? [] : now.filter((one) => !missing(data.ys[one.id]?.[at])).map((one) => s("path", { class: `chart-mark s${one.slot}`, d: mark(one.slot, px(at), py(data.ys[one.id][at]), 4.2) }))));
    const said = now.map((one) => `${one.name} ${value(one, at)}`).join(t("chart.join"));
    read.setAttribute("aria-valuenow", String(at));
    read.setAttribute("aria-valuetext", `${name(at)}: ${said}`);
    fill(tip, h("strong", null, name(at)), h("ul", null, now.map((one) => h("li", null, swatch(one.slot, kind === "columns" ? "columns" : "line"), h("span", null, one.name), h("b", null, value(one, at))))));
    tip.hidden = false;
    const wide = tip.offsetWidth;
    tip.style.left = `${place + 14 + wide > width ? Math.max(0, place - wide - 14) : place + 14}px`;
  }

  function nearest(clientX) {
    const from = clientX - box.getBoundingClientRect().left;
    let best = -1;
    for (let i = 0; i < data.xs.length; i += 1) if (best < 0 || Math.abs(drawn.px(i) - from) < Math.abs(drawn.px(best) - from)) best = i;
    return best;
  }
  const follow = (event) => { if (drawn) { at = nearest(event.clientX); point(); } };
  const away = () => { if (document.activeElement !== read) { at = -1; point(); } };
  read.addEventListener("pointermove", follow);
  read.addEventListener("pointerdown", follow);
  read.addEventListener("pointerleave", away);
  read.addEventListener("focus", () => { if (at < 0 && read.matches(":focus-visible")) { at = data.xs.length - 1; point(); } });
  read.addEventListener("blur", () => { at = -1; point(); });
  read.addEventListener("keydown", (event) => {
    const n = data.xs.length, far = Math.max(1, Math.round(n / 10));
    const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - far, PageUp: at + far, Home: 0, End: n - 1 }[event.key];
    if (event.key === "Escape") { at = -1; point(); return; }
    if (to === undefined || !n) return;
    event.preventDefault();
    at = Math.max(0, Math.min(n - 1, to));
    point();
  });
  // The width is read here only, where the page has just been laid out: reading it in `draw` would lay it out once a chart.
  new ResizeObserver(() => {
    const wide = Math.floor(box.clientWidth);
    if (wide !== width) { width = wide; draw(); }
  }).observe(box);
  build();
  return {
    node,
    series: () => now,
    set(next) {
      const held = at >= 0 && document.activeElement === read ? data.xs[at] : null;  // the reader stays at the same time
      if (next.series) { now = next.series; build(); }
      data = { xs: next.xs, ys: next.ys };
      if (held !== null) at = Math.max(0, data.xs.findIndex((v) => v >= held));
      draw();
    },
  };
}

/**
 * Horizontal bars, longest as wide as there is room: a real table that looks like a chart. `format(value)`; `unit` the
 * head of the values' column; `most` at most so many rows; `empty` where there is none.
 * `set(rows)`: [{id, name (text or node), value, share (0 to 1, or left out: of the sum), note, slot, kind}]; `note` is a
 * small text behind the name that may change, as the value does; the name of an id stays.
 */
export function barChart({ label, head = "", unit = t("chart.value"), format = count, most = 12, empty = t("chart.none"), shares = true }) {
  const body = h("tbody"), nothing = h("p", { class: "soft" }, empty);
  const whole = h("table", { class: "bars" }, h("caption", { class: "spoken" }, label),
    h("thead", { class: "spoken" }, h("tr", null, h("th", { scope: "col" }, head), h("th", { scope: "col" }, unit), shares ? h("th", { scope: "col" }, t("chart.share")) : null)), body);
  const node = h("div", { class: "chart" }, whole, nothing);
  const known = new Map();

  function rowFor(one) {
    const bar = s("rect", { class: `bar s${one.slot ?? 1}${one.kind ? ` is-${one.kind}` : ""}`, x: 0, y: 0, height: 8, rx: 4, width: 0 });
    const value = h("td", { class: "number" }), part = shares ? h("td", { class: "number soft" }) : null;
    const note = h("span", { class: "bar-note" });
    const title = h("th", { scope: "row" }, h("span", { class: "bar-name" }, one.name, " ", note), s("svg", { class: "bar-box", "aria-hidden": "true", focusable: "false", viewBox: "0 0 1000 8", preserveAspectRatio: "none" }, bar));
    return { row: h("tr", null, title, value, part), bar, value, part, note };
  }

  return {
    node,
    set(rows) {
      const sum = rows.reduce((all, one) => all + (one.value || 0), 0), largest = Math.max(0, ...rows.map((one) => one.value || 0));
      const shown = rows.slice(0, most);
      nothing.hidden = rows.length > 0;
      whole.hidden = !rows.length;
      const wanted = shown.map((one) => {
        const kept = known.get(one.id) ?? rowFor(one);
        known.set(one.id, kept);
        kept.bar.setAttribute("width", largest ? Math.max(one.value > 0 ? 6 : 0, (1000 * (one.value || 0)) / largest) : 0);
        kept.value.textContent = format(one.value);
        kept.note.textContent = one.note ?? "";
        if (kept.part) kept.part.textContent = shareText(one.share ?? (sum ? one.value / sum : null));
        return kept.row;
      });
      for (const id of [...known.keys()]) if (!shown.some((one) => one.id === id)) known.delete(id);
      if (wanted.length !== body.children.length || wanted.some((row, i) => body.children[i] !== row)) body.replaceChildren(...wanted);
    },
  };
}

/** A line as small as a word: {node, set(values)}; `label` and `format` make its text alternative. */
export function sparkline({ label, format = short, slot = 1, width = 96, height = 26, top = 0 }) {
  const area = s("path", { class: `chart-area s${slot}` }), line = s("path", { class: `chart-line is-thin s${slot}` });
  const node = s("svg", { class: "spark", role: "img", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-label": t("chart.summary.empty", { label }) }, area, line);
  return {
    node,
    set(values) {
      const known = values.filter((v) => !missing(v));
      if (!known.length) { for (const one of [area, line]) one.setAttribute("d", "M0 0"); return; }
      const highest = Math.max(top, ...known) || 1, step = width / Math.max(1, values.length - 1);
      let d = "", open = -1, fillD = "", last = 0;
      const shut = () => { if (open >= 0) fillD += `L${r1(last * step)} ${height}L${r1(open * step)} ${height}Z`; open = -1; };
      values.forEach((v, i) => {
        if (missing(v)) { shut(); return; }
        const here = `${open < 0 ? "M" : "L"}${r1(i * step)} ${r1(height - 2 - (v / highest) * (height - 4))}`;
        d += here; fillD += here; last = i;
        if (open < 0) open = i;
      });
      shut();
      line.setAttribute("d", d);
      area.setAttribute("d", fillD);
      node.setAttribute("aria-label", t("chart.spark", { label, last: format(known.at(-1)), min: format(Math.min(...known)), max: format(Math.max(...known)) }));
    },
  };
}
