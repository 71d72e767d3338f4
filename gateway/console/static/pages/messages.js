// Messages: find one by its id, or by number, account and ref; read its whole life; cancel it, send it again. Owns what
// the search box understands. Numbers go in bodies and stay in this page's memory: never in an address, a title or a store.

import { ask, get, session } from "../lib/api.js";
import { confirm } from "../lib/dialog.js";
import { datum, fill, h, icon } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { ago, time, zone } from "../lib/format.js";
import { factsOf, follow, headOf, reasonWord, stateBadge, timelineOf, waitingOf } from "../lib/message.js";
import { copyButton } from "../lib/copy.js";
import { done, failed, problemText } from "../lib/say.js";
import { table } from "../lib/table.js";
import { words } from "./messages.words.js";

export { words };

const PLACE = "/admin/v1/messages";
const ID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const EXAMPLES = { id: "0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b", number: "+8613800138000", ref: "13800138000 shop order-77" };
const NUMBER = /^\+?\d[\d\s().-]{4,}\d(?=$|[\s,/;])/;

// What was looked for last, for the way back from a message; another user of this page does not see it.
let kept = { who: "", text: "", country: "CN", found: null, asked: null };

/** What a text in the search box means: {id} or {to, national, account, ref}, or {problem: "key"}. */
export function understand(text, accounts) {
  const wanted = text.normalize("NFKC").trim();
  if (!wanted) return { problem: "search.empty" };
  if (ID.test(wanted)) {
    const x = wanted.replaceAll("-", "").toLowerCase();
    return { id: [x.slice(0, 8), x.slice(8, 12), x.slice(12, 16), x.slice(16, 20), x.slice(20)].join("-") };
  }
  const number = NUMBER.exec(wanted)?.[0];
  if (!number) return { problem: "search.no_number" };
  const to = number.replace(/[\s().-]/g, "");
  const rest = wanted.slice(number.length).split(/[\s,;/]+/).filter(Boolean);
  const asked = { to, national: !to.startsWith("+") };
  const own = rest.findIndex((word) => accounts.includes(word));
  if (own >= 0) asked.account = rest.splice(own, 1)[0];
  if (rest.length > 1) return { problem: "search.too_much" };
  if (rest.length) {
    asked.ref = rest[0];
    if (!asked.account) return { problem: "search.whose_ref" };
  }
  return asked;
}

export async function show(view) {
  if (kept.who !== session.name) kept = { who: session.name, text: "", country: "CN", found: null, asked: null };
  return view.params[0] ? showMessage(view, view.params[0]) : showSearch(view);
}

// --- finding

async function showSearch({ main, signal, go, t }) {
  let accounts = [];
  const said = h("p", { class: "understood", id: "understood", role: "status" });
  const results = h("section", { id: "found", "aria-label": t("found"), tabindex: "-1" });
  const box = field({ name: "search", label: t("search.label"), type: "search", wide: true, value: kept.text, help: t("search.help"),
    placeholder: t("search.example"), autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: 200, enterkeyhint: "search" });
  const country = field({ name: "country", label: t("country"), value: kept.country, maxlength: 2, size: 3, autocomplete: "off", autocapitalize: "characters", spellcheck: "false" });
  const tell = () => {
    const text = box.querySelector("input").value;
    fill(said, text.trim() ? understoodText(understand(text, accounts), country.querySelector("input").value, t) : t("search.start"));
  };
  const node = form({
    label: t("search.label"), inline: true, button: t("search"), fields: [box, country], t,
    send: async ({ search = "", country: code = "" }) => {
      const asked = understand(search, accounts);
      if (asked.problem) { fill(said, t(asked.problem)); box.querySelector("input").focus(); return; }
      if (asked.id) return go("messages", [asked.id]);
      Object.assign(kept, { text: search, country: code.toUpperCase() });
      const body = { to: asked.to };
      if (asked.national && code) body.country = code.toUpperCase();
      if (asked.account) body.account = asked.account;
      if (asked.ref) body.ref = asked.ref;
      fill(results, h("p", { class: "loading" }, t("loading")));
      try {
        kept.found = (await ask("POST", `${PLACE}/find`, body, { signal })).messages;
        kept.asked = asked;
      } catch (error) { fill(results); throw error; }
      showFound(results, t);
      if (asked.ref && kept.found.length === 1) go("messages", [kept.found[0].id]);
    },
  });
  node.classList.add("finder");
  node.addEventListener("input", tell);
  fill(main, h("div", { class: "head" }, h("h1", null, t("page.messages"))),
    h("div", { class: "card" }, node, said), results);
  tell();
  if (kept.found) showFound(results, t);
  else showHints(results, t);
  if (matchMedia("(pointer: fine)").matches) box.querySelector("input").focus();
  get("/admin/v1/accounts", { signal }).then((told) => { accounts = told.accounts.map((a) => a.id); tell(); }, (error) => failed(error, t));
}

function understoodText(asked, country, t) {
  if (asked.problem) return t(asked.problem);
  if (asked.id) return t("understood.id");
  const what = [asked.national ? t("understood.national", { country: country.toUpperCase() || "?" }) : t("understood.number")];
  if (asked.account) what.push(t("understood.account", { account: asked.account }));
  if (asked.ref) what.push(t("understood.ref", { ref: asked.ref }));
  return t("understood", { what: what.join(t("understood.and")) });
}

function showHints(results, t) {
  fill(results, h("div", { class: "card quiet" }, h("h2", null, t("hints")),
    h("dl", { class: "hints" }, Object.entries(EXAMPLES).map(([what, example]) => h("div", null, h("dt", null, h("code", null, example)), h("dd", null, t(`hint.${what}.text`)))))));
}

function showFound(results, t) {
  const rows = kept.found;
  const head = h("h2", null, rows.length ? t("found.n", { n: rows.length }) : t("found.none"));
  if (!rows.length) return fill(results, h("div", { class: "card" }, head, h("p", null, t("found.none.text"))));
  fill(results, h("div", { class: "card" }, head, rows.length === 16 ? h("p", { class: "soft small" }, t("found.most")) : null, table({
    caption: t("found"), rows, rowId: (m) => `m-${m.id}`,
    columns: [
      { key: "accepted", title: t("accepted"), cell: (m) => [h("a", { href: `#/messages/${m.id}` }, time(m.accepted_at)), h("small", { class: "soft below" }, ago(m.accepted_at))] },
      { key: "state", title: t("state"), cell: (m) => [stateBadge(m.state), m.reason ? h("small", { class: "below" }, reasonWord(m.reason.code)) : null] },
      { key: "account", title: t("account"), cell: (m) => [datum(m.account), m.ref ? h("small", { class: "soft below" }, datum(m.ref)) : null] },
      { key: "category", title: t("category"), cell: (m) => t.of("category", m.category) },
      { key: "channel", title: t("channel"), cell: (m) => m.timeline.findLast((e) => e.what === "attempt")?.channel ?? "–" },
      { key: "to", title: t("number"), cell: (m) => h("span", { class: "mono nowrap" }, m.to) },
      { key: "parts", title: t("parts"), kind: "number", cell: (m) => String(m.parts) },
    ],
  })));
}

// --- one message

async function showMessage({ main, signal, t }, id) {
  const whole = h("div", { class: "card whole" });
  const top = h("div", { class: "card state-card" });
  const life = h("div", { class: "card life" });
  const side = h("div", { class: "card facts-card" });
  let now = null, secret = null, again = null;

  function showSecret() {
    if (secret) {
      fill(whole, h("h2", null, t("whole")), h("p", { class: "whole-number" }, h("span", { class: "soft" }, t("number")), " ", h("strong", { class: "mono" }, secret.to), " ", copyButton(secret.to, t)),
        secret.text === null ? h("p", { class: "soft" }, t("text.gone")) : h("pre", { class: "block text", dir: "auto" }, secret.text),
        secret.meta ? h("p", null, h("span", { class: "soft" }, t("meta")), " ", datum(secret.meta)) : null,
        button(t("hide"), () => { secret = null; showSecret(); }, { small: true, id: "hide-text" }));
      return;
    }
    fill(whole, h("h2", null, t("whole")), h("p", { class: "mono" }, now.to),
      h("p", { class: "soft small" }, now.text_kept ? t("whole.help") : t("text.gone")),
      session.may("operator") ? button(t("whole.show"), async () => { secret = await get(`${PLACE}/${encodeURIComponent(id)}?full=1`, { signal }); showSecret(); }, { id: "show-text", t })
        : h("p", { class: "soft small" }, t("not_allowed", { role: t.of("role", "operator") })));
  }

  async function act(action) {
    const agreed = await confirm({ title: t(`${action}.title`), text: t(`${action}.text`), yes: t(action === "cancel" ? "cancel.do" : action), no: action === "cancel" ? t("cancel.not") : undefined, danger: action === "cancel",
      more: action === "resend" && now.state === "uncertain" ? h("p", { class: "notice warn" }, icon("warn"), t("resend.twice")) : null });
    if (!agreed) return;
    try {
      const told = await ask("POST", `${PLACE}/${encodeURIComponent(id)}`, { action }, { signal });
      done(t(`did.${told.result}`, { state: t.of("state", told.state) }));
    } catch (error) { failed(error, t); }
    await again();
  }

  function paint(m) {
    const first = now === null;
    now = m;
    const buttons = m.final || !session.may("operator") ? null : h("div", { class: "buttons" },
      ["retry", "answer"].includes(m.waiting?.why) ? button(t("resend"), () => act("resend"), { id: "resend", t }) : null, button(t("cancel.do"), () => act("cancel"), { id: "cancel", t }));
    fill(top, headOf(m), waitingOf(m), buttons, m.final ? null : h("p", { class: "soft small watch" }, t("watching")));
    fill(life, h("h2", null, t("timeline.title")), timelineOf(m), h("p", { class: "soft small" }, t("times", { zone: zone() })));
    fill(side, h("h2", null, t("details")), factsOf(m, [[t("worker"), m.worker && /[^-]/.test(m.worker) ? datum(m.worker) : null]]));
    if (first) showSecret();
  }

  fill(main, h("div", { class: "head" }, h("a", { class: "button small", href: "#/messages" }, t("back.found")), h("h1", null, t("message")),
    h("span", { class: "id", id: "message-id" }, id), copyButton(id, t, t("copy.id"))),
  h("div", { class: "two" }, h("div", null, top, life), h("div", null, whole, side)));
  fill(top, h("p", { class: "loading" }, t("loading")));
  for (const node of [life, side, whole]) node.hidden = true;
  again = follow(id, {
    signal,
    show: (m) => { for (const node of [life, side, whole]) node.hidden = false; paint(m); },
    failed: (error) => {
      if (now) return failed(error, t);
      for (const node of [life, side, whole]) node.remove();
      fill(top, h("p", { class: "notice bad", role: "alert" }, icon("bad"), error.status === 404 ? t("gone") : error.field === "id" ? t("no_id") : problemText(error, t)));
    },
  });
}

