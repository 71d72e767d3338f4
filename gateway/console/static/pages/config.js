// Configuration: what is in force and who runs it, what the files say beside it, reloading, history, rolling back. Owns
// the questions before a change and how a refusal reads. Refuses to decide anything: every worker has a vote.

import { ask, get, Problem, query as asQuery, session } from "../lib/api.js";
import { confirm, dialog } from "../lib/dialog.js";
import { diffView } from "../lib/diff.js";
import { fill, h, icon } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { ago, count, span, time, zone } from "../lib/format.js";
import { done, problemText } from "../lib/say.js";
import { badge, facts, table } from "../lib/table.js";
import { words } from "./config.words.js";

export { words };

const PLACE = "/admin/v1/config";
const EVERY_MS = 5000;
const SWAP_MS = 20_000;
/** Refusals of which the page says all there is: the table below, or the button. */
const TOLD = new Set(["stale", "invalid_config"]);

export async function show({ main, signal, t }) {
  const mayAct = session.may("admin");
  const reading = () => h("p", { class: "loading" }, t("loading"));
  const state = h("div", { class: "config-state" }, h("div", { class: "card" }, reading()));
  const outcome = h("div", { id: "outcome", tabindex: "-1" });
  const changed = h("div");
  const workers = h("div", null, reading());
  const history = h("div", null, reading());
  const compared = h("div", { role: "status" });
  let now = null;
  let known = "";
  let revisions = [];

  async function read() {
    now = await get(PLACE, { signal });
    fill(state, standing(now, t));
    fill(workers, workerTable(now, t));
    const seen = JSON.stringify([now.revision, now.here.files, now.here.files_differ]);
    if (seen !== known) {
      known = seen;
      await Promise.all([readChanged(), readHistory()]);
    }
  }

  async function readChanged() {
    if (!now.here.files_differ) { fill(changed, null); return; }
    let found;
    try { found = await get(`${PLACE}/diff`, { signal }); } catch (error) {
      if (error.name === "AbortError") throw error;
      found = { lines: [], failed: problemText(error) };
    }
    fill(changed, h("section", { class: "card", "aria-labelledby": "changed-title" },
      h("h2", { id: "changed-title" }, t("changed")), h("p", { class: "help" }, t("changed.help", { machine: now.here.machine })),
      found.failed ? h("p", { class: "notice bad" }, icon("bad"), found.failed) : diffView(found.lines)));
  }

  async function readHistory() {
    revisions = (await get(`${PLACE}/history`, { signal })).revisions;
    fill(history, table({
      caption: t("history"), rows: revisions, columns: [
        { key: "revision", title: t("revision"), cell: (row) => h("span", null, `${row.revision} `, row.revision === now.revision ? badge("ok", t("in_force")) : null) },
        { key: "at", title: t("time"), cell: (row) => h("time", { datetime: row.at }, time(row.at)) },
        { key: "by", title: t("by"), cell: (row) => h("span", null, byText(row.by, t), h("span", { class: "small soft block", translate: "no" }, row.machine)) },
        { key: "note", title: t("note"), cell: (row) => noteText(row.note, t) },
        { key: "digest", title: t("digest"), cell: (row) => h("code", null, row.digest.slice(0, 12)) },
        { key: "act", title: t("actions"), cell: (row) => h("span", { class: "buttons" },
          button(t("files"), () => showFiles(row.revision), { small: true, label: t("files.of", { n: row.revision }), id: `files-${row.revision}` }),
          row.revision === now.revision ? null : button(t("compare.one"), () => compare(row.revision, now.revision), { small: true, label: t("compare.of", { n: row.revision }), id: `compare-${row.revision}` }),
          mayAct && row.revision !== now.revision ? button(t("rollback"), () => rollback(row), { small: true, label: t("rollback.of", { n: row.revision }), id: `rollback-${row.revision}` }) : null) },
      ],
    }), revisions.length > 1 ? comparer() : null);
  }

  function comparer() {
    const options = revisions.map((row) => [String(row.revision), t("revision.n", { n: row.revision })]);
    return h("div", { class: "gap-above" }, form({
      inline: true, button: t("compare"), kind: "plain", label: t("compare"),
      fields: [field({ name: "a", label: t("from"), type: "select", options, value: options[1][0] }), field({ name: "b", label: t("to"), type: "select", options: [...options, ["", t("files.here")]], value: options[0][0] })],
      send: async ({ a, b }) => compare(Number(a), b ? Number(b) : 0),
    }));
  }

  async function compare(a, b) {
    const found = await get(`${PLACE}/diff${asQuery({ a, b: b || "" })}`, { signal });
    fill(compared, h("h3", { class: "gap-above" }, t("between", { a: named(found.between[0]), b: named(found.between[1]) })), diffView(found.lines));
    compared.scrollIntoView({ block: "nearest" });
  }

  const named = (text) => (text === "files here" ? t("files.here") : text.startsWith("revision ") ? t("revision.n", { n: text.slice(9) }) : text);

  async function showFiles(number) {
    const found = await get(`${PLACE}/revisions/${number}`, { signal });
    await dialog({
      title: t("files.of", { n: number }), wide: true, buttons: [{ text: t("close"), value: null }],
      body: h("div", null, h("p", { class: "help" }, t("files.masked")), Object.entries(found.files).map(([name, text]) => h("details", null, h("summary", { class: "mono" }, name), h("pre", { class: "block", tabindex: "0" }, text)))),
    });
  }

  // --- changing

  /** Have every worker look at the files; `forced`: although they are not based on what is in force. */
  async function check(forced = false) {
    fill(outcome, h("p", { class: "soft", role: "status" }, t("checking")));
    try {
      const found = await ask("POST", `${PLACE}/reload`, forced ? { dry_run: true, force: true } : { dry_run: true }, { signal });
      fill(outcome, told(found, t, false));
      outcome.focus();
      return found;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      fill(outcome, refusal(error, t, t("check.refused"), error.code === "stale" ? () => reload(true) : null));
      outcome.focus();
      return null;
    }
  }

  async function reload(forced = false) {
    const found = await check(forced);
    if (!found || found.result === "unchanged") return;
    const note = await dialog({
      title: t(forced ? "force.title" : "reload.title"), wide: true,
      body: h("div", null, forced ? h("p", { class: "notice warn" }, icon("warn"), t("force.text")) : null, h("p", null, t("reload.text")), changesOf(found, t), noteForm(t(forced ? "force.yes" : "reload.yes"), t, (close) => (values) => close(values.note ?? ""))),
      ready: hand,
    });
    if (note === null) return;
    await put("reload", forced ? { note, force: true } : { note });
  }

  async function put(what, body) {
    fill(outcome, h("p", { class: "soft", role: "status" }, h("progress", { "aria-label": t("voting") }), " ", t("voting")));
    let found;
    try { found = await ask("POST", `${PLACE}/${what}`, body, { signal }); } catch (error) {
      if (error.name === "AbortError") throw error;
      fill(outcome, error.code === "not_confirmed" ? null : refusal(error, t, t(`${what}.refused`), error.code === "stale" && what === "reload" ? () => reload(true) : null));
      outcome.focus();
      known = "";
      await read();
      return null;
    }
    await swapped();
    fill(outcome, told(found, t, true));
    outcome.focus();
    known = "";
    await read();
    if (found.result === "applied") done(t("applied", { n: found.revision }));
    return found;
  }

  /** Wait until every living worker runs what is in force, and show how many do. */
  async function swapped() {
    const until = Date.now() + SWAP_MS;
    while (Date.now() < until && !signal.aborted) {
      now = await get(PLACE, { signal });
      const living = now.members.filter((one) => one.lives);
      const there = living.filter((one) => one.in_force).length;
      if (there === living.length) return;
      fill(outcome, h("p", { class: "soft", role: "status" }, h("progress", { max: living.length, value: there, "aria-label": t("swapping") }), " ", t("swapping.n", { n: there, all: living.length })));
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }

  async function rollback(row) {
    const found = await get(`${PLACE}/diff${asQuery({ a: now.revision, b: row.revision })}`, { signal });
    const values = await dialog({
      title: t("rollback.title", { n: row.revision }), wide: true,
      body: h("div", null, h("p", null, t("rollback.text", { n: row.revision, now: now.revision })), h("div", { class: "dialog-diff" }, diffView(found.lines)),
        noteForm(t("rollback.yes"), t, (close) => (said) => close(said), field({ name: "write", label: t("rollback.write"), help: t("rollback.write.help", { machine: now.here.machine }), type: "checkbox" }))),
      ready: hand,
    });
    if (!values) return;
    const answer = await put("rollback", { revision: row.revision, note: values.note ?? "" });
    if (answer && values.write) await write();
  }

  async function write() {
    try {
      const found = await ask("POST", `${PLACE}/write`, {}, { signal });
      done(found.written.length ? t("written", { files: found.written.join(", ") }) : t("written.none"));
    } catch (error) {
      if (error.name === "AbortError" || error.code === "not_confirmed") throw error;
      fill(outcome, refusal(error, t, t("write.refused")));
      outcome.focus();
    }
    known = "";
    await read();
  }

  async function askWrite() {
    if (await confirm({ title: t("write.title", { machine: now.here.machine }), text: t("write.text", { n: now.revision }), yes: t("write.yes") })) { fill(outcome); await write(); }  // what was said of the files holds no more
  }

  fill(main, h("div", { class: "head" }, h("h1", null, t("page.config")), h("span", { class: "grow" }),
      mayAct ? [button(t("check"), () => check(), { id: "check" }), button(t("write"), askWrite, { id: "write" }), button(t("reload"), () => reload(), { kind: "main", picture: icon("refresh"), id: "reload" })] : null),
    outcome, state, changed,
    h("section", { class: "card", "aria-labelledby": "workers-title" }, h("h2", { id: "workers-title" }, t("workers")), workers),
    h("section", { class: "card", "aria-labelledby": "history-title" }, h("h2", { id: "history-title" }, t("history")), h("p", { class: "soft small" }, t("times", { zone: zone() })), history, compared));
  await read();
  const again = async () => {
    if (signal.aborted) return;
    if (!document.hidden && !document.querySelector("dialog[open]")) { try { await read(); } catch (error) { if (error.name === "AbortError") return; } }
    if (!signal.aborted) setTimeout(again, EVERY_MS);
  };
  setTimeout(again, EVERY_MS);
}

/** A note as somebody wrote it; those that the gateway writes itself, in the page's language. */
function noteText(text, t) {
  const back = /^back to revision (\d+)$/.exec(text);
  return back ? t("note.back", { n: back[1] }) : !text ? null : t.has(`note.${text}`) ? t(`note.${text}`) : own(text);
}

const own = (text) => h("span", { translate: "no" }, text);
const byText = (by, t) => (t.has(`by.${by}`) ? t(`by.${by}`) : own(by));

/** Give a dialog's `close` to the form in it. */
function hand(box, close) {
  box.addEventListener("done", (event) => close(event.detail));
}

function noteForm(yes, t, finish, more = null) {
  const node = form({
    button: yes, fields: [field({ name: "note", label: t("note"), help: t("note.help"), maxlength: 500, autocomplete: "off" }), more],
    also: h("button", { type: "button", class: "plain", on: { click: () => node.closest("dialog").close() } }, t("cancel")),
    send: async (values) => finish((value) => node.dispatchEvent(new CustomEvent("done", { detail: value, bubbles: true })))(values),
  });
  return node;
}

/** What is in force, whether all run it, and what is at fault. */
function standing(now, t) {
  const living = now.members.filter((one) => one.lives);
  const behind = living.filter((one) => !one.in_force || one.problem);
  const notices = [];
  if (now.last?.stands) notices.push(h("div", { class: "notice bad", role: "alert" }, icon("bad"), h("div", null, h("p", null, h("strong", null, t("refused.last", { time: time(now.last.at), by: now.last.by })), " ", now.last.detail), problemTable(now.last.problems, t))));
  if (now.here.problem) notices.push(h("p", { class: "notice bad" }, icon("bad"), `${t("own_keys")} ${now.here.problem}`));
  if (behind.length) notices.push(h("p", { class: "notice warn" }, icon("warn"), t("behind", { n: behind.length, all: living.length })));
  if (now.here.files_differ) notices.push(h("p", { class: "notice warn" }, icon("warn"), h("span", null, t("differ", { machine: now.here.machine }), " ", t.of("standing", now.here.standing))));
  if (now.here.needs_restart.length) notices.push(h("p", { class: "notice warn" }, icon("warn"), h("span", null, t("restart", { machine: now.here.machine }), " ", h("code", null, now.here.needs_restart.join(", ")))));
  if (!notices.length && now.revision) notices.push(h("p", { class: "notice ok" }, icon("ok"), t("well", { n: now.revision, all: living.length })));
  return h("section", { class: "card", "aria-label": t("in_force") },
    now.revision ? facts([[t("in_force.head"), h("strong", { class: "big" }, t("revision.n", { n: now.revision }))], [t("in_force.since"), h("span", { title: time(now.at) }, `${time(now.at)} (${ago(now.at)})`)], [t("by"), byText(now.by, t)], [t("machine"), own(now.machine)], [t("note"), noteText(now.note, t)], [t("digest"), h("code", null, now.digest)]]) : h("p", null, t("none.published")),
    h("div", { class: "notices" }, notices));
}

function workerTable(now, t) {
  return table({
    caption: t("workers"), rows: now.members, columns: [
      { key: "machine", title: t("machine"), cell: (row) => own(row.machine) },
      { key: "role", title: t("worker"), cell: (row) => `${t.of("worker", row.role)} ${row.number}` },
      { key: "state", title: t("state"), cell: (row) => (!row.lives ? badge("off", t("silent", { span: span(row.silent_s) })) : row.problem ? badge("bad", t("cannot")) : row.in_force ? badge("ok", t("runs")) : badge("warn", t("runs.old", { n: row.revision }))) },
      { key: "revision", title: t("revision"), kind: "number", cell: (row) => count(row.revision) },
      { key: "problem", title: t("reason"), cell: (row) => row.problem || null },
    ],
  });
}

function changesOf(found, t) {
  const kinds = Object.entries(found.changes);
  return h("div", null,
    kinds.length ? facts(kinds.map(([what, names]) => [t.of("changes", what), names.join(", ")])) : null,
    found.needs_restart.length ? h("p", { class: "notice warn gap-above" }, icon("warn"), h("span", null, t("restart.keys"), " ", h("code", null, found.needs_restart.join(", ")))) : null,
    found.warnings.length ? h("div", { class: "notice warn gap-above" }, icon("warn"), h("ul", { class: "chains" }, found.warnings.map((one) => h("li", null, one)))) : null);
}

/** What came of a check or a change that was not refused. */
function told(found, t, changed) {
  const kind = found.result === "unchanged" ? "info" : "ok";
  return h("section", { class: "card" }, h("p", { class: ["notice", kind], role: "status" }, icon(kind), t(`result.${found.result}`, { n: found.revision })), found.result === "unchanged" && !found.needs_restart.length ? null : changesOf(found, t),
    changed || found.result !== "checked" ? null : h("p", { class: "help gap-above" }, t("checked.help")));
}

function refusal(error, t, title, force = null) {
  const problems = error instanceof Problem ? error.told.problems ?? [] : [];
  return h("section", { class: "card" }, h("div", { class: "notice bad", role: "alert" }, icon("bad"), h("div", null, h("p", null, h("strong", null, title)), h("p", null, t.has(`refused.${error.code}`) ? t(`refused.${error.code}`) : "", " ", TOLD.has(error.code) ? null : h("span", { class: "small" }, problemText(error))))),
    problems.length ? problemTable(problems, t) : null, force ? h("div", { class: "buttons gap-above" }, button(t("force"), force, { small: true })) : null);
}

function problemTable(problems, t) {
  if (!problems.length) return null;
  return table({
    caption: t("problems"), rows: problems, columns: [
      { key: "file", title: t("file"), cell: (row) => h("code", null, row.file) },
      { key: "key", title: t("key"), cell: (row) => (row.key ? h("code", null, row.key) : null) },
      { key: "reason", title: t("reason") },
      ...(problems.some((row) => row.machine) ? [{ key: "who", title: t("worker"), cell: (row) => (row.machine ? `${row.machine}, ${row.role}` : null) }] : []),
    ],
  });
}
