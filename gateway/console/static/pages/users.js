// Users of the console, for administrators: who may sign in, with which role, where they are signed in; adding, changing,
// removing. Owns these dialogs. Refuses to know passwords: one that is made here is shown once and forgotten.

import { ask, get, session } from "../lib/api.js";
import { confirm, dialog } from "../lib/dialog.js";
import { fill, h, icon } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { count, time, zone } from "../lib/format.js";
import { done } from "../lib/say.js";
import { sessionTable } from "../lib/sessions.js";
import { words as shared } from "../lib/sessions.words.js";
import { badge, table } from "../lib/table.js";
import { words as own } from "./users.words.js";

export const words = { en: { ...shared.en, ...own.en }, zh: { ...shared.zh, ...own.zh } };

const PLACE = "/console/api/users";
const ROLES = ["viewer", "operator", "admin"];
const LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/** 20 characters without those that look alike: 115 bits. */
function newPassword() {
  let text = "";
  while (text.length < 20) {
    const [n] = crypto.getRandomValues(new Uint8Array(1));
    if (n < 256 - (256 % LETTERS.length)) text += LETTERS[n % LETTERS.length];
  }
  return text;
}

export async function show({ main, signal, t }) {
  if (!session.may("admin")) {
    fill(main, h("h1", null, t("page.users")), h("p", { class: "notice warn" }, icon("warn"), t("not_allowed", { role: t("role.admin") })));
    return;
  }
  const list = h("div", null, h("p", { class: "loading" }, t("loading")));

  async function read() {
    const { users } = await get(PLACE, { signal });
    fill(list, table({
      caption: t("page.users"), rows: users, empty: t("none.users"), columns: [
        { key: "name", title: t("name"), cell: (row) => h("span", null, h("span", { translate: "no" }, row.name), row.name === session.name ? h("span", { class: "soft small" }, ` ${t("you")}`) : null) },
        { key: "role", title: t("role"), cell: (row) => t.of("role", row.role) },
        { key: "state", title: t("state"), cell: (row) => (row.enabled ? badge("ok", t("enabled")) : badge("off", t("disabled"))) },
        { key: "totp", title: t("totp"), cell: (row) => (row.totp ? badge("ok", t("yes")) : badge("off", t("no"))) },
        { key: "last", title: t("last"), cell: (row) => (row.last_at ? h("span", null, h("time", { datetime: row.last_at }, time(row.last_at)), h("span", { class: "small soft block" }, row.last_address)) : t("never")) },
        { key: "sessions", title: t("sessions"), kind: "number", cell: (row) => count(row.sessions) },
        { key: "act", title: t("actions"), cell: (row) => h("span", { class: "buttons" },
          button(t("change"), () => change(row), { small: true, label: t("change.of", { name: row.name }), id: `change-${row.name}` }),
          button(t("reset"), () => reset(row), { small: true, label: t("reset.of", { name: row.name }), id: `reset-${row.name}` }),
          row.sessions ? button(t("sessions"), () => sessions(row), { small: true, label: t("sessions.of", { name: row.name }), id: `sessions-${row.name}` }) : null,
          row.name === session.name ? null : button(t("remove"), () => remove(row), { small: true, label: t("remove.of", { name: row.name }), id: `remove-${row.name}` })) },
      ],
    }), h("p", { class: "soft small gap-above" }, t("times", { zone: zone() })));
  }

  /** A dialog with a form; resolves once it was sent and taken, to what `send` returned; null when it was left. */
  function formDialog(title, yes, fields, send, text = "", kind = "main") {
    let finish = null;
    const node = form({
      button: yes, kind, fields, also: h("button", { type: "button", class: "plain", on: { click: () => finish(null) } }, t("cancel")),
      send: async (values) => finish(await send(values)),
    });
    return dialog({ title, body: h("div", null, text ? h("p", null, text) : null, node), ready: (box, close) => { finish = close; } });
  }

  function passwordField() {
    const node = field({ name: "password", label: t("password.new"), help: t("password.help"), autocomplete: "off", autocapitalize: "none", spellcheck: "false", required: true, minlength: 12, value: newPassword(), class: "mono" });
    node.append(h("div", { class: "buttons" }, button(t("password.make"), async () => { node.querySelector("input").value = newPassword(); }, { small: true })));
    return node;
  }

  /** Say what to hand over, once. */
  async function handOver(name, password) {
    await dialog({
      title: t("hand", { name }),
      body: h("div", null, h("p", null, t("hand.text")), h("p", { class: "secret-line" }, h("code", { class: "secret" }, password), button(t("copy"), async () => { await navigator.clipboard.writeText(password); done(t("copied")); }, { small: true, picture: icon("copy") }))),
      buttons: [{ text: t("close"), value: null, kind: "main" }],
    });
  }

  const roles = (value) => field({ name: "role", label: t("role"), type: "select", value, help: t("role.help"), options: ROLES.map((role) => [role, t.of("role", role)]) });

  async function add() {
    const made = await formDialog(t("add.title"), t("add.yes"), [
      field({ name: "name", label: t("name"), help: t("name.help"), required: true, maxlength: 32, autocomplete: "off", autocapitalize: "none", spellcheck: "false", pattern: "[a-z0-9][a-z0-9._\\-]*" }),
      roles("operator"), passwordField(),
    ], async (values) => { await ask("POST", PLACE, values); return values; });
    if (!made) return;
    done(t("added", { name: made.name }));
    await read();
    await handOver(made.name, made.password);
  }

  async function change(row) {
    const changed = await formDialog(t("change.title", { name: row.name }), t("save"), [
      roles(row.role),
      field({ name: "enabled", label: t("enabled.label"), type: "checkbox", value: row.enabled }),
      row.totp ? field({ name: "totp_off", label: t("totp.forget"), help: t("totp.forget.help"), type: "checkbox" }) : null,
      field({ name: "unlock", label: t("unlock"), help: t("unlock.help"), type: "checkbox" }),
    ], async (values) => {
      const body = {};
      if (values.role !== row.role) body.role = values.role;
      if (values.enabled !== row.enabled) body.enabled = values.enabled;
      if (values.totp_off) body.totp = false;
      if (values.unlock) body.unlock = true;
      return Object.keys(body).length ? ask("PUT", `${PLACE}/${encodeURIComponent(row.name)}`, body) : row;
    }, `${t("password.of", { time: time(row.password_at) })} ${t("change.text")}`);
    if (!changed) return;
    done(t("changed", { name: row.name, n: count(changed.sessions_ended ?? 0) }));
    await read();
  }

  async function reset(row) {
    const made = await formDialog(t("reset.title", { name: row.name }), t("reset.yes"), [passwordField()], async ({ password }) => {
      await ask("PUT", `${PLACE}/${encodeURIComponent(row.name)}`, { password });
      return password;
    }, t("reset.text"));
    if (!made) return;
    done(t("reset.done", { name: row.name }));
    await handOver(row.name, made);
    await read();
  }

  async function sessions(row) {
    const place = h("div");
    const again = async () => {
      const found = (await get(`/console/api/sessions?user=${encodeURIComponent(row.name)}`, { signal })).sessions;
      fill(place, sessionTable(found, async (one) => { done(t("ended", { n: (await ask("DELETE", `/console/api/sessions/${one.id}`)).ended })); await again(); }));
      return found.length;
    };
    await again();
    const all = await dialog({ title: t("sessions.of", { name: row.name }), wide: true, body: place, buttons: [{ text: t("sessions.end.all"), value: true, kind: "danger" }, { text: t("close"), value: null }] });
    if (all) done(t("ended", { n: (await ask("DELETE", `/console/api/sessions?user=${encodeURIComponent(row.name)}`)).ended }));
    await read();
  }

  async function remove(row) {
    if (!await confirm({ title: t("remove.title", { name: row.name }), text: t("remove.text"), yes: t("remove.yes"), danger: true })) return;
    await ask("DELETE", `${PLACE}/${encodeURIComponent(row.name)}`);
    done(t("removed", { name: row.name }));
    await read();
  }

  fill(main, h("div", { class: "head" }, h("h1", null, t("page.users")), h("span", { class: "grow" }), button(t("add.title"), add, { kind: "main", picture: icon("plus"), id: "add" })),
    h("section", { class: "card", "aria-label": t("page.users") }, h("p", { class: "help" }, t("users.help")), list));
  await read();
}
