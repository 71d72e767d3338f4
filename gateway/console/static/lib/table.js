// Tables: headers that sort, rows that a phone shows as cards. Owns the form; cells come from the page.

import { h } from "./dom.js";
import { translator } from "./words.js";

const t = translator();

/**
 * A table of `rows` by `columns`: [{key, title, cell(row) → node or text, sort(row) → value, kind: "number" | "id" | ""}].
 * `caption` says what it is (spoken, not shown, unless `showCaption`). `sorted` {key, down} is kept by the caller, so that a
 * live table keeps its order: `onSort(key)` is called when a header is pressed. `empty` stands where there is
 * no row; `stack` (the default) lets a phone show each row as a card; `total` is a row below all others.
 */
export function table({ columns, rows, caption, showCaption = false, sorted = null, onSort = null, empty = t("none"), rowId = null, rowClass = null, stack = true, total = null }) {
  const ordered = sorted ? order(rows, columns, sorted) : rows;
  return h("div", { class: stack ? "table stack" : "table", tabindex: "0", role: "group", "aria-label": caption },
    h("table", null,
      h("caption", { class: showCaption ? "" : "spoken" }, caption),
      h("thead", null, h("tr", null, columns.map((c) => head(c, sorted, onSort)))),
      h("tbody", null, ordered.length
        ? ordered.map((row) => h("tr", { id: rowId?.(row), class: rowClass?.(row) }, columns.map((c, i) => cellOf(c, i, row))))
        : h("tr", { class: "empty" }, h("td", { colspan: columns.length }, empty))),
      total ? h("tfoot", null, h("tr", null, columns.map((c, i) => cellOf(c, i, total)))) : null));
}

function cellOf(c, i, row) {
  const found = c.cell ? c.cell(row) : row[c.key];
  const what = Array.isArray(found) ? h("div", { class: "lines" }, found) : found;
  return h(i === 0 && c.kind !== "number" ? "th" : "td",
    { scope: i === 0 && c.kind !== "number" ? "row" : null, class: c.kind ?? "", data: { title: c.title } }, what ?? "–");
}

function head(c, sorted, onSort) {
  if (!onSort || !c.sort) return h("th", { scope: "col", class: c.kind ?? "" }, c.title);
  const here = sorted?.key === c.key;
  return h("th", { scope: "col", class: c.kind ?? "", "aria-sort": here ? (sorted.down ? "descending" : "ascending") : "none" },
    h("button", { type: "button", id: `sort-${c.key}`, class: "bare sort", on: { click: () => onSort(c.key) } }, c.title,
      h("span", { "aria-hidden": "true" }, here ? (sorted.down ? " ↓" : " ↑") : "")));
}

function order(rows, columns, { key, down }) {
  const by = columns.find((c) => c.key === key)?.sort;
  if (!by) return rows;
  const sign = down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const x = by(a), y = by(b);
    return sign * (typeof x === "string" ? x.localeCompare(String(y)) : (x ?? -Infinity) - (y ?? -Infinity));
  });
}

/** The next order after a header was pressed. */
export const sortBy = (sorted, key) => ({ key, down: sorted?.key === key ? !sorted.down : false });

/** Names and values as a list: [["Sender", node], …]; empty values are left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([name, value]) =>
    h("div", null, h("dt", null, name), h("dd", null, value))));
}

/** A word with a colour and a sign: kinds ok, warn, bad, info, off. */
const SIGNS = { ok: "●", warn: "▲", bad: "■", info: "◆", off: "○" };
export function badge(kind, text) {
  return h("span", { class: ["badge", kind] }, h("span", { "aria-hidden": "true", class: "sign" }, SIGNS[kind] ?? "●"), text);
}
