// The door: signing in, the first set-up, and the password asked for once more. Owns these forms; what they send is
// lib/api.js' business.

import { reauth, session, setUp, signIn } from "../lib/api.js";
import { fill, h, icon } from "../lib/dom.js";
import { field, form, showProblem } from "../lib/form.js";
import { translator } from "../lib/words.js";
import { words } from "./door.words.js";

const t = translator(words);

/** Plain http from elsewhere: the session's cookie is for https, or this machine, only. */
const insecure = () => !window.isSecureContext;

function signInForm(entered) {
  return form({
    label: t("in"), button: t("in.button"),
    fields: [
      field({ name: "name", label: t("name"), autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, maxlength: 32 }),
      field({ name: "password", label: t("password"), type: "password", autocomplete: "current-password", required: true }),
      field({ name: "otp", label: t("otp"), help: t("otp.help"), inputmode: "numeric", autocomplete: "one-time-code", maxlength: 8 }),
    ],
    send: async (values) => { await signIn(values); await entered(); },
  });
}

function setUpForm(entered) {
  return form({
    label: t("setup"), button: t("setup.button"),
    fields: [
      field({ name: "token", label: t("setup.token"), type: "password", autocomplete: "off", required: true }),
      field({ name: "name", label: t("name"), help: t("name.help"), autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, maxlength: 32 }),
      field({ name: "password", label: t("password"), help: t("password.help"), type: "password", autocomplete: "new-password", required: true, minlength: 12 }),
      field({ name: "again", label: t("again"), type: "password", autocomplete: "new-password", required: true }),
    ],
    send: async ({ again, ...values }, node) => {
      if (again !== values.password) {
        node.querySelector('[data-field="again"] .error').textContent = t("again.wrong");
        return;
      }
      await setUp(values);
      await entered();
    },
  });
}

/** Show the door in place of the page. */
export function show({ app, languages, themes, entered }) {
  const setup = session.state === "setup";
  fill(app, h("main", { class: "door", id: "main" },
    h("h1", null, "smsgw"), h("h2", null, setup ? t("setup") : t("in")),
    insecure() ? h("p", { class: "notice warn", role: "alert" }, icon("warn"), t("insecure")) : null,
    setup ? h("p", null, t("setup.text")) : null,
    setup ? setUpForm(entered) : signInForm(entered),
    h("p", { class: "choices" }, languages, themes)));
  app.querySelector("input")?.focus();
}

/** The dialog that asks for the password again; it closes with true once the gateway has taken it. */
export function passwordForm() {
  let finish = null;
  return {
    title: t("reauth"),
    body: h("div", null, h("p", null, t("reauth.text")), form({
      button: t("reauth.button"), also: h("button", { type: "button", class: "plain", on: { click: () => finish(null) } }, t("cancel")),
      fields: [
        h("input", { type: "text", autocomplete: "username", value: session.name, hidden: true, tabindex: "-1", "aria-hidden": "true" }),
        field({ name: "password", label: t("password"), type: "password", autocomplete: "current-password", required: true }),
        session.totp ? field({ name: "otp", label: t("otp"), inputmode: "numeric", autocomplete: "one-time-code", maxlength: 8 }) : null,
      ],
      send: async (values, node) => {
        try { await reauth(values); } catch (error) { showProblem(node, error); return; }
        finish(true);
      },
    })),
    ready: (box, close) => { finish = close; box.querySelector("input[type=password]").focus(); },
  };
}
