// Your profile: who you are here, language and colours, password, the authenticator, and where you are signed in. Owns
// these forms; the gateway owns what a password must be.

import { ask, get, readSession, session } from "../lib/api.js";
import { confirm } from "../lib/dialog.js";
import { fill, h, icon } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { time, zone } from "../lib/format.js";
import { done } from "../lib/say.js";
import { sessionTable } from "../lib/sessions.js";
import { words as shared } from "../lib/sessions.words.js";
import { badge, facts } from "../lib/table.js";
import { setTheme, theme, THEMES } from "../lib/theme.js";
import { language, LANGUAGES, setLanguage } from "../lib/words.js";
import { words as own } from "./profile.words.js";

export const words = { en: { ...shared.en, ...own.en }, zh: { ...shared.zh, ...own.zh } };

const API = "/console/api";

export async function show({ main, signal, t }) {
  await readSession();
  const byToken = session.ends_at === null || session.ends_at === undefined;
  const totp = h("div");
  const list = h("div", null, h("p", { class: "loading" }, t("loading")));

  const card = (id, title, ...content) => h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...content);

  const preferences = h("div", { class: "form inline" },
    field({ name: "language", label: t("app.language"), type: "select", id: "profile-language", value: language(), options: Object.entries(LANGUAGES), on: { change: (event) => { setLanguage(event.target.value); dispatchEvent(new Event("smsgw:profile")); } } }),
    field({ name: "theme", label: t("app.theme"), type: "select", id: "profile-theme", value: theme(), options: THEMES.map((name) => [name, t(`theme.${name}`)]), on: { change: (event) => { setTheme(event.target.value); dispatchEvent(new Event("smsgw:profile")); } } }));

  const password = form({
    button: t("password.change"), label: t("password.change"), fields: [
      h("input", { type: "text", autocomplete: "username", value: session.name, hidden: true, tabindex: "-1", "aria-hidden": "true" }),
      field({ name: "old", label: t("password.old"), type: "password", autocomplete: "current-password", required: true }),
      field({ name: "new", label: t("password.new"), help: t("password.help"), type: "password", autocomplete: "new-password", required: true, minlength: 12 }),
      field({ name: "again", label: t("password.again"), type: "password", autocomplete: "new-password", required: true }),
    ],
    send: async (values, node) => {
      if (values.again !== values.new) {
        node.querySelector('[data-field="again"] .error').textContent = t("password.differ");
        return;
      }
      await ask("POST", `${API}/password`, { old: values.old, new: values.new });
      node.reset();
      done(t("password.changed"));
      await readSessions();
    },
  });

  // --- the authenticator

  function drawTotp() {
    fill(totp, h("p", null, session.totp ? badge("ok", t("totp.on")) : badge("off", t("totp.off")), " ", t(session.totp ? "totp.on.text" : "totp.off.text")),
      h("div", { class: "buttons" }, session.totp ? button(t("totp.remove"), removeTotp, { id: "totp-remove" }) : button(t("totp.begin"), beginTotp, { id: "totp-begin", kind: "main" })));
  }

  async function beginTotp() {
    const made = await ask("POST", `${API}/totp`, {}, { signal });
    const secret = made.secret.replace(/(.{4})(?=.)/g, "$1 ");
    fill(totp, h("ol", { class: "to-do" },
      h("li", null, h("p", null, t("totp.step1")), h("p", { class: "secret-line" }, h("code", { class: "secret", id: "totp-secret" }, secret), button(t("copy"), () => copy(made.secret), { small: true, label: t("totp.copy.secret"), picture: icon("copy") })),
        h("details", null, h("summary", null, t("totp.uri")), h("p", { class: "secret-line" }, h("code", { class: "secret" }, made.uri), button(t("copy"), () => copy(made.uri), { small: true, label: t("totp.copy.uri"), picture: icon("copy") })))),
      h("li", null, h("p", null, t("totp.step2")), form({
        inline: true, button: t("totp.confirm"), label: t("totp.step2"),
        fields: [field({ name: "code", label: t("totp.code"), inputmode: "numeric", autocomplete: "one-time-code", required: true, maxlength: 8, pattern: "[0-9 ]{6,8}" })],
        send: async ({ code }) => {
          await ask("PUT", `${API}/totp`, { code: code.replaceAll(" ", "") });
          await readSession();
          done(t("totp.done"));
          drawTotp();
        },
      }))), h("p", { class: "help" }, t("totp.once")), button(t("cancel"), async () => drawTotp(), { small: true }));
    totp.querySelector("input")?.focus();
  }

  async function removeTotp() {
    if (!await confirm({ title: t("totp.remove.title"), text: t("totp.remove.text"), yes: t("totp.remove"), danger: true })) return;
    await ask("DELETE", `${API}/totp`);
    await readSession();
    done(t("totp.removed"));
    drawTotp();
  }

  async function copy(text) {
    await navigator.clipboard.writeText(text);
    done(t("copied"));
  }

  // --- sessions

  async function readSessions() {
    const found = (await get(`${API}/sessions`, { signal })).sessions;
    fill(list, sessionTable(found, async (row) => {
      const { ended } = await ask("DELETE", `${API}/sessions/${row.id}`);
      done(t("ended", { n: ended }));
      await readSessions();
    }), found.length > 1 ? h("div", { class: "buttons gap-above" }, button(t("sessions.end.others"), async () => {
      const { ended } = await ask("DELETE", `${API}/sessions`);
      done(t("ended", { n: ended }));
      await readSessions();
    }, { id: "end-others" })) : null, h("p", { class: "soft small gap-above" }, t("times", { zone: zone() })));
  }

  fill(main, h("div", { class: "head" }, h("h1", null, t("page.profile"))),
    card("who-title", t("who"), facts([[t("name"), session.name], [t("role"), t.of("role", session.role)], [t("role.may"), t(`may.${session.role}`)], byToken ? null : [t("ends"), time(session.ends_at)]].filter(Boolean)),
      byToken ? h("p", { class: "notice info gap-above" }, icon("info"), t("by.token")) : null),
    card("preferences-title", t("preferences"), h("p", { class: "help" }, t("preferences.help")), preferences),
    byToken ? null : [
      h("div", { class: "cards profile-cards" }, card("password-title", t("password.change"), h("p", { class: "help" }, t("password.ends")), password), card("totp-title", t("totp"), totp)),
      card("sessions-title", t("sessions"), list),
    ]);
  if (byToken) return;
  drawTotp();
  await readSessions();
}
