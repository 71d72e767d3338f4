// Blacklist: look a number up, add it, take it off; counts; import of a file with a dry run before it and a way back;
// export. Owns how files are read and written here. What an entry means is the gateway's. Numbers go in bodies only.

import { ask, get, query, session } from "../lib/api.js";
import { barChart, lineChart } from "../lib/chart.js";
import { lines, readLine, saveFile, toCsv } from "../lib/csv.js";
import { confirm } from "../lib/dialog.js";
import { coded, fill, h, icon } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { count, time } from "../lib/format.js";
import { done, failed, problemText } from "../lib/say.js";
import { badge, table } from "../lib/table.js";
import { words } from "./blacklist.words.js";

export { words };

const PLACE = "/admin/v1/blacklist";
const REASONS = ["td", "complaint", "operator", "invalid-number", "do-not-disturb"];
const CATEGORIES = ["verification", "notification", "marketing"];
const ROWS_A_CALL = 2500;
const CELL = 64;
const BAD_SHOWN = 100;
const EXPORT_MOST = 1_000_000;
const DAYS = 30;

const plain = (text) => (text ?? "").normalize("NFKC").replace(/[\s().-]/g, "");

export async function show(view) {
  const { main, signal, t } = view;
  const known = (await get("/admin/v1/accounts", { signal })).accounts, accounts = known.map((a) => a.id);
  // Whose national numbers a file has, as far as the accounts agree: without it "138…" would be read as +1 38….
  const countries = [...new Set(known.map((a) => a.default_country).filter(Boolean))], country = countries.length === 1 ? countries[0] : "";
  const counts = h("section", { class: "card", "aria-label": t("counts") });
  const imports = h("div", { id: "imports" });
  const own = { ...view, accounts, country, counts, imports, changed: () => { readCounts(own).catch((e) => failed(e, t)); } };
  const may = session.may("operator");
  fill(main, h("div", { class: "head" }, h("h1", null, t("page.blacklist")), h("p", { class: "soft" }, t("about"))),
    h("div", { class: "two even" }, numberCard(own), counts),
    h("section", { class: "card", "aria-label": t("import") }, h("h2", null, t("import")), may ? importForm(own) : needs("operator", t), imports),
    h("section", { class: "card", "aria-label": t("export") }, h("h2", null, t("export")), may ? exportForm(own) : needs("operator", t)));
  await Promise.all([readCounts(own), readImports(own)]);
}

const needs = (role, t) => h("p", { class: "soft" }, t("not_allowed", { role: t.of("role", role) }));

/** Fields for a scope: all accounts, one, or one with a sender or signature of it. */
function scopeFields({ accounts, t }) {
  const below = field({ name: "below", label: t("below"), help: t("below.help"), autocomplete: "off", maxlength: 64 });
  const scope = field({ name: "scope", label: t("scope"), type: "select", value: "global", options: [["global", t("scope.global")], ...accounts.map((a) => [a, a])] });
  const tell = () => { below.hidden = scope.querySelector("select").value === "global"; below.querySelector("input").disabled = below.hidden; };
  scope.querySelector("select").addEventListener("change", tell);
  tell();
  return [scope, below];
}
const scopeOf = ({ scope, below }) => (below ? `${scope}/${below.trim()}` : scope);

function categoryFields(t, chosen = ["marketing"]) {
  return h("fieldset", { class: "picks", data: { field: "categories" } }, h("legend", null, t("categories")),
    CATEGORIES.map((c) => field({ name: `category.${c}`, label: t.of("category", c), type: "checkbox", value: chosen.includes(c) })), h("p", { class: "error" }));
}
const categoriesOf = (values) => CATEGORIES.filter((c) => values[`category.${c}`]);
const reasonField = (t, value) => field({ name: "reason", label: t("reason"), type: "select", value, options: REASONS.map((r) => [r, t.of("listed", r)]) });
const countryField = (t, value, help = "") => field({ name: "country", label: t("country"), value, help, maxlength: 2, size: 3, autocomplete: "off", autocapitalize: "characters", spellcheck: "false" });
const scopeText = (scope, t) => (scope === "global" ? t("scope.global") : scope);

// --- one number

function numberCard(own) {
  const { signal, t } = own;
  const found = h("div", { id: "entries" });
  const look = form({
    label: t("look"), inline: true, button: t("look.button"), t,
    fields: [field({ name: "number", label: t("number"), type: "tel", wide: true, required: true, autocomplete: "off", maxlength: 40, placeholder: "+8613800138000" }), countryField(t, "CN")],
    send: async (values) => {
      const number = { number: plain(values.number), country: values.country?.toUpperCase() };
      if (number.number.startsWith("+") || !number.country) delete number.country;
      await showEntries(own, found, number);
    },
  });
  look.classList.add("finder");
  return h("section", { class: "card", "aria-label": t("look") }, h("h2", null, t("look")), look, found);

  async function showEntries(_, node, number) {
    const { entries } = await ask("POST", `${PLACE}/search`, number, { signal });
    const may = session.may("operator");
    fill(node, entries.length ? h("p", { class: "notice warn" }, icon("warn"), t("listed.n", { n: entries.length })) : h("p", { class: "notice ok" }, icon("ok"), t("listed.none")),
      entries.length ? h("ul", { class: "entries", "aria-label": t("entries") }, entries.map((e) => h("li", null,
        h("div", null, h("h3", null, `${scopeText(e.scope, t)} · ${t.of("listed", e.reason)}`),
          h("p", null, e.categories.map((c) => t.of("category", c)).join(", ")),
          h("p", { class: "soft small" }, t("listed.since", { at: time(e.since) }), e.source ? ` · ${sourceText(e.source, t)}` : "", t.has(`listed.says.${e.reason}`) ? ` · ${t(`listed.says.${e.reason}`)}` : "")),
        may ? button(t("remove"), () => remove(e), { small: true, t, label: t("remove.of", { scope: scopeText(e.scope, t) }) }) : null))) : null,
      may ? h("details", { id: "add", open: !entries.length }, h("summary", null, t("add.title")), addForm()) : null);

    async function remove(entry) {
      if (!(await confirm({ title: t("remove.title"), text: t(entry.reason === "td" || entry.reason === "complaint" ? "remove.asked" : "remove.text", { scope: scopeText(entry.scope, t) }), yes: t("remove"), danger: true }))) return;
      const { removed } = await ask("DELETE", PLACE, { ...number, scope: entry.scope }, { signal });
      done(t(removed.length ? "removed" : "removed.none"));
      own.changed();
      await showEntries(own, node, number);
    }

    function addForm() {
      return form({
        label: t("add.title"), button: t("add.button"), t,
        fields: [h("p", { class: "help" }, t("add.help")), ...scopeFields(own), reasonField(t, "operator"), categoryFields(t)],
        send: async (values, self) => {
          const categories = categoriesOf(values);
          if (!categories.length) { self.querySelector('[data-field="categories"] .error').textContent = t("categories.none"); return; }
          await ask("PUT", PLACE, { ...number, scope: scopeOf(values), categories, reason: values.reason }, { signal });
          done(t("added", { scope: scopeText(scopeOf(values), t) }));
          own.changed();
          await showEntries(own, node, number);
        },
      });
    }
  }
}

function sourceText(source, t) {
  if (!source) return "";
  const [kind, ...rest] = source.split(".");
  return t.has(`source.${kind}`) ? t(`source.${kind}`, { of: rest.join(".") }) : source;
}

// --- counts

async function readCounts({ counts, signal, t }) {
  const told = await get(`${PLACE}${query({ days: DAYS })}`, { signal });
  const by = (key) => [...Map.groupBy(told.numbers, (one) => one[key])].map(([name, some]) => ({ name, n: some.reduce((sum, one) => sum + one.numbers, 0) })).filter((one) => one.n).sort((a, b) => b.n - a.n);
  const all = by("reason").reduce((sum, one) => sum + one.n, 0);
  const reasons = barChart({ label: t("counts.reason"), head: t("reason"), unit: t("count"), empty: t("counts.none") });
  reasons.set(by("reason").map((one, i) => ({ id: one.name, name: t.of("listed", one.name), value: one.n, slot: (i % 8) + 1 })));
  const days = dayList(told.days);
  const chart = lineChart({ label: t("counts.days", { n: DAYS }), series: [{ id: "added", name: t("counts.added"), slot: 5 }, { id: "removed", name: t("counts.removed"), slot: 2 }], integer: true, height: 130, format: count });
  chart.set({ xs: days.map((d) => d.at), ys: { added: days.map((d) => d.added), removed: days.map((d) => d.removed) } });
  fill(counts, h("h2", null, t("counts.n", { n: count(all) })), reasons.node,
    by("scope").length > 1 ? h("p", { class: "small soft scopes" }, by("scope").map((one) => `${scopeText(one.name, t)}: ${count(one.n)}`).join(" · ")) : null,
    h("h3", { class: "apart" }, t("counts.days", { n: DAYS })), chart.node);
}

function dayList(told) {
  const today = Math.floor(Date.now() / 86_400_000);
  return Array.from({ length: DAYS }, (_, i) => {
    const at = (today - DAYS + 1 + i) * 86_400_000;
    const of = told.filter((d) => d.day === new Date(at).toISOString().slice(0, 10));
    return { at, added: of.reduce((n, d) => n + d.added, 0), removed: of.reduce((n, d) => n + d.removed, 0) };
  });
}

// --- import

function importForm(own) {
  const { signal, t } = own;
  const state = h("div", { id: "import-state", tabindex: "-1" });
  const node = form({
    label: t("import"), button: t("import.try"), t, inline: false,
    fields: [
      h("p", { class: "help wide" }, t("import.help")),
      field({ name: "file", label: t("import.file"), type: "file", accept: ".csv,.txt,text/csv,text/plain", required: true }),
      ...scopeFields(own), reasonField(t, "do-not-disturb"), countryField(t, own.country, t("import.country")), categoryFields(t),
    ],
    send: async (values, self) => {
      const categories = categoriesOf(values);
      if (!categories.length) { self.querySelector('[data-field="categories"] .error').textContent = t("categories.none"); return; }
      const file = self.elements.file.files[0];
      const rules = { scope: scopeOf(values), reason: values.reason, categories, country: (values.country ?? "").toUpperCase(), name: file.name.replace(/[^ -~]/g, "?").slice(0, 100) };
      const tried = await load(own, state, file, { ...rules, dry_run: true });
      if (tried) offer(tried, file, rules);
    },
  });
  node.classList.add("wide-form");
  return h("div", null, node, state);

  function offer(tried, file, rules) {
    const news = tried.added + tried.changed;
    fill(state, h("h3", { class: "apart" }, t("import.would")), outcomes(tried, t), badRows(tried, t),
      h("div", { class: "tools" }, news ? button(t("import.do", { n: count(news) }), () => really(file, rules, ""), { kind: "main", id: "import-do", t }) : h("p", null, t("import.nothing")),
        button(t("cancel"), () => fill(state), { t })));
    state.focus();
  }

  async function really(file, rules, id) {
    const told = await load(own, state, file, { ...rules, dry_run: false, id }, (at) => fill(state,
      h("p", { class: "notice warn", role: "alert" }, icon("warn"), h("span", null, problemText(at.error, t), " ", t("import.stopped"))), outcomes(at, t),
      h("div", { class: "tools" }, button(t("import.go_on"), () => really(file, rules, at.id), { kind: "main", t }), button(t("undo"), () => undo(own, at.id, rules.name), { t }))));
    if (!told) return;
    fill(state, h("p", { class: "notice ok", role: "status" }, icon("ok"), t("import.done", { name: rules.name })), outcomes(told, t), badRows(told, t));
    node.reset();
    own.changed();
    await readImports(own);
    state.focus();
  }
}

const outcomes = (told, t) => h("ul", { class: "outcomes" }, ["added", "changed", "unchanged", "bad_rows"].map((key) => h("li", null, h("b", null, count(told[key])), ` ${t(`import.${key}`)}`)));

function badRows(told, t) {
  if (!told.bad_rows) return null;
  return h("details", { open: true, id: "bad-rows" }, h("summary", null, t("import.bad", { n: count(told.bad_rows) })),
    h("ul", { class: "rows-bad", tabindex: "0" }, told.bad.map((one) => h("li", null, t("import.line", { n: count(one.line) }), ` ${t.of("bad", one.reason)}`))),
    told.bad_rows > told.bad.length ? h("p", { class: "soft small" }, t("import.bad.more", { n: count(told.bad_rows - told.bad.length) })) : null);
}

/** Send a file's rows in pieces; resolves to the totals, or to null when it was stopped or failed (`broken` hears of that). */
async function load(own, state, file, rules, broken = null) {
  const { signal, t } = own;
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const bar = h("progress", { max: 100, value: 0, "aria-label": t("import.progress") });
  const told = h("p", { role: "status", class: "small" }, t("import.begins"));
  fill(state, h("div", { class: "progress" }, h("h3", null, t(rules.dry_run ? "import.trying" : "import.running")), bar, told,
    h("div", null, h("button", { type: "button", class: "small", on: { click: () => stop.abort() } }, t("import.stop")))));
  const totals = { id: rules.id, added: 0, changed: 0, unchanged: 0, bad_rows: 0, bad: [], seen: 0 };
  const bad = (list, n = list.length) => { totals.bad_rows += n; totals.bad = [...totals.bad, ...list].sort((a, b) => a.line - b.line).slice(0, BAD_SHOWN); };
  const leave = (event) => event.preventDefault();
  addEventListener("beforeunload", leave);
  try {
    totals.id = (await ask("POST", `${PLACE}/imports`, rules.id ? rules : { ...rules, id: undefined }, { signal: both })).id;
    let rows = [];
    const send = async (read) => {
      if (rows.length) {
        const answer = await ask("POST", `${PLACE}/imports/${totals.id}/rows`, { rows }, { signal: both });
        for (const key of ["added", "changed", "unchanged"]) totals[key] += answer[key];
        bad(answer.bad, answer.bad_rows);
        rows = [];
      }
      bar.value = file.size ? (100 * read) / file.size : 100;
      told.textContent = t("import.at", { n: count(totals.seen), share: Math.round(bar.value) });
    };
    for await (const { number, text, read } of lines(file, both)) {
      const wanted = text.trim();
      if (!wanted || wanted.startsWith("#")) continue;
      const cells = wanted.includes("\uFFFD") ? null : readLine(wanted);
      if (cells && cells[0].trim().toLowerCase() === "number") continue;  // the head, also of files put together
      totals.seen += 1;
      if (cells) rows.push([number, ...cells.slice(0, 3).map((one) => one.slice(0, CELL))]);
      else bad([{ line: number, reason: t("import.no_csv") }]);
      if (rows.length === ROWS_A_CALL) await send(read);
    }
    await send(file.size);
    const { added, changed, unchanged, bad_rows } = totals;
    await ask("POST", `${PLACE}/imports/${totals.id}/end`, { added, changed, unchanged, bad_rows }, { signal: both });
    return totals;
  } catch (error) {
    if (signal.aborted) throw error;
    if (rules.dry_run || !totals.id) {
      fill(state);
      if (error.name !== "AbortError") throw error;
      return null;
    }
    broken?.({ ...totals, error });
    readImports(own).catch(() => {});
    return null;
  } finally { removeEventListener("beforeunload", leave); }
}

async function readImports(own) {
  const { imports: node, signal, t } = own;
  const { imports } = await get(`${PLACE}/imports`, { signal });
  const real = imports.filter((one) => !one.dry_run).slice(0, 50);
  const may = session.may("operator");
  fill(node, h("h3", { class: "apart" }, t("imports")), table({
    caption: t("imports"), rows: real, empty: t("imports.none"),
    columns: [
      { key: "name", title: t("import.file"), cell: (one) => [one.name || one.id, h("small", { class: "soft below id" }, one.id)] },
      { key: "at", title: t("time"), cell: (one) => [time(one.at), h("small", { class: "soft below" }, one.by?.split("@")[0] ?? "")] },
      { key: "scope", title: t("scope"), cell: (one) => scopeText(one.scope, t) },
      { key: "reason", title: t("reason"), cell: (one) => t.of("listed", one.reason) },
      { key: "added", title: t("import.added"), kind: "number", cell: (one) => count(one.added ?? null) },
      { key: "bad", title: t("import.bad_rows"), kind: "number", cell: (one) => count(one.bad_rows ?? null) },
      { key: "state", title: t("state"), cell: (one) => (one.undone ? badge("off", t("import.undone")) : one.ended ? badge("ok", t("import.ended")) : badge("warn", t("import.open"))) },
      may ? { key: "do", title: t("actions"), cell: (one) => (one.undone ? "–" : button(t("undo"), () => undo(own, one.id, one.name), { small: true, t, label: t("undo.of", { name: one.name || one.id }) })) } : null,
    ].filter(Boolean),
  }));
}

async function undo(own, id, name) {
  const { signal, t } = own;
  if (!(await confirm({ title: t("undo.title", { name: name || id }), text: t("undo.text"), yes: t("undo"), danger: true }))) return;
  let removed = 0, restored = 0, next = "";
  try {
    do {
      const told = await ask("POST", `${PLACE}/undo`, next ? { import: id, next } : { import: id }, { signal });
      removed += told.removed;
      restored += told.restored;
      next = told.next;
    } while (next);
    done(t("undone", { removed: count(removed), restored: count(restored) }));
  } finally {
    own.changed();
    await readImports(own);
  }
}

// --- export

function exportForm(own) {
  const { signal, t } = own;
  const state = h("p", { role: "status", class: "small", id: "export-state" });
  return h("div", null, form({
    label: t("export"), button: t("export.do"), t,
    fields: [
      h("p", { class: "help" }, coded(t("export.help"), { command: "smsgw blacklist export" })), ...scopeFields(own),
      field({ name: "whole", label: t("export.whole"), type: "checkbox", help: t("export.whole.help") }),
    ],
    send: async (values) => {
      const scope = scopeOf(values);
      const pieces = ["\uFEFF", toCsv([["number", "categories", "reason", "since", "source"]])];
      let cursor = "", n = 0;
      try {
        do {
          const page = await get(`${PLACE}/entries${query({ scope, cursor })}`, { signal });
          if (page.entries.length) pieces.push(toCsv(page.entries.map(([number, ...rest]) => [values.whole ? number : masked(number), ...rest])));
          n += page.entries.length;
          cursor = page.next;
          state.textContent = t("export.at", { n: count(n) });
        } while (cursor && n < EXPORT_MOST);
      } catch (error) { state.textContent = ""; throw error; }
      saveFile(`blacklist-${scope.replace(/[^A-Za-z0-9_-]+/g, "-")}${values.whole ? "" : "-masked"}.csv`, new Blob(pieces, { type: "text/csv;charset=utf-8" }));
      state.textContent = cursor ? t("export.cut", { n: count(n) }) : t("export.done", { n: count(n) });
    },
  }), state);
}

/** As logs show numbers: 86138****5678, without the "+" that a spreadsheet takes for a formula. */
const masked = (number) => (number.length < 8 ? "*".repeat(number.length) : `${number.slice(0, Math.max(1, number.length - 8))}****${number.slice(-4)}`);
