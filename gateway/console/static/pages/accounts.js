// Accounts: what each may do and did today; a new key, shown once; a test message, followed until it is final. Owns how
// usage is drawn. Refuses to know limits: the gateway keeps them; accounts.toml is changed where it lies.

import { ask, get, query, session } from "../lib/api.js";
import { copyButton } from "../lib/copy.js";
import { confirm, dialog } from "../lib/dialog.js";
import { coded, datum, fill, h, icon, s } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { ago, count, rate, share, span, time } from "../lib/format.js";
import { follow, headOf, timelineOf, waitingOf } from "../lib/message.js";
import { failed } from "../lib/say.js";
import { badge, facts, table } from "../lib/table.js";
import { webhookBadge } from "../lib/webhook.js";
import { words } from "./accounts.words.js";

export { words };

const PLACE = "/admin/v1/accounts";
const NEAR = 0.8;
const FILE = { file: "accounts.toml", key: "key_hashes" };

export const show = (view) => (view.params[0] ? showAccount(view, view.params[0]) : showAll(view));

const total = (a) => Object.values(a.today).reduce((sum, n) => sum + n, 0);

/** What is used of a quota as a bar with its words; `small` leaves the sentence out. */
function meter(a, t, small = false) {
  const used = total(a);
  if (!a.daily_quota) return h("div", { class: "usage" }, h("p", null, t("usage.free", { n: count(used) })));
  const part = used / a.daily_quota, held = a.quota_reserved / a.daily_quota;
  const said = t("usage.of", { n: count(used), quota: count(a.daily_quota), share: share(part) });
  return h("div", { class: ["usage", part >= 1 ? "full" : part >= NEAR ? "near" : ""] },
    s("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": said },
      s("rect", { class: "used", x: 0, y: 0, height: 6, width: Math.min(100, 100 * part) }),
      s("rect", { class: "reserved", x: Math.min(100, 100 * part), y: 0, height: 6, width: Math.max(0, Math.min(100 - 100 * part, 100 * held)) })),
    h("p", null, part >= 1 ? badge("bad", t("usage.full")) : part >= NEAR ? badge("warn", t("usage.near")) : null, part >= NEAR ? " " : null, said),
    !small && a.quota_reserved ? h("p", { class: "soft" }, t("usage.reserved", { n: count(a.quota_reserved) })) : null);
}

async function showAll({ main, signal, t }) {
  const { accounts } = await get(PLACE, { signal });
  fill(main, h("div", { class: "head" }, h("h1", null, t("page.accounts")), h("p", { class: "soft" }, coded(t("about"), FILE))),
    h("div", { class: "card" }, table({
      caption: t("page.accounts"), rows: accounts, empty: coded(t("none.yet"), FILE),
      columns: [
        { key: "id", title: t("account"), cell: (a) => h("a", { href: `#/accounts/${encodeURIComponent(a.id)}` }, a.id) },
        { key: "today", title: t("today"), cell: (a) => meter(a, t, true) },
        { key: "rate", title: t("rate"), kind: "number", cell: (a) => (a.max_per_s ? `${rate(a.max_per_s)}${t("per_s")}` : t("no_limit")) },
        { key: "categories", title: t("categories"), cell: (a) => a.categories.map((c) => t.of("category", c)).join(", ") },
        { key: "keys", title: t("keys"), cell: (a) => (a.keys ? [count(a.keys), h("small", { class: "soft below" }, lastUse(a, t))] : badge("warn", t("keys.none"))) },
        { key: "webhook", title: t("webhook"), cell: (a) => (a.webhook ? h("a", { href: `#/webhooks/${encodeURIComponent(a.id)}` }, webhookBadge(a.webhook)) : webhookBadge(null)) },
      ],
    })));
}

function lastUse(a, t) {
  const last = a.key_list.map((k) => k.last_used_at).filter(Boolean).sort().at(-1);
  return last ? t("used.last", { ago: ago(last) }) : t("used.never");
}

async function showAccount(view, id) {
  const { main, signal, t } = view;
  const body = h("div");
  const read = async () => {
    const { accounts: [a] } = await get(`${PLACE}${query({ account: id })}`, { signal });
    paint(a);
    return a;
  };
  const usage = h("section", { class: "card", "aria-label": t("usage") });
  const rules = h("section", { class: "card", "aria-label": t("rules") });
  const keys = h("section", { class: "card", "aria-label": t("keys") });
  const hook = h("section", { class: "card", "aria-label": t("webhook") });
  const trial = h("section", { class: "card", id: "test-send", "aria-label": t("trial") });
  fill(main, h("div", { class: "head" }, h("a", { class: "button small", href: "#/accounts" }, t("back.all")), h("h1", { translate: "no" }, id),
    h("span", { class: "grow" }), button(t("refresh"), read, { small: true, picture: icon("refresh"), t })), body);
  fill(body, h("p", { class: "loading" }, t("loading")));

  function paint(a) {
    fill(usage, h("h2", null, t("usage")), meter(a, t), h("ul", { class: "outcomes" }, Object.entries(a.today).map(([c, n]) => h("li", null, h("b", null, count(n)), ` ${t.of("category", c)}`))),
      h("p", { class: "soft small" }, t("usage.help", { s: span((Date.parse(a.day_ends_at) - Date.now()) / 1000) })),
      facts([[t("rate"), a.max_per_s ? `${rate(a.max_per_s)} ${t("per_s")}` : t("no_limit")], [t("quota"), a.daily_quota ? t("per_day", { n: count(a.daily_quota) }) : t("no_limit")],
        ...Object.entries(a.per_number).map(([c, caps]) => [t("per_number", { category: t.of("category", c) }), caps.length ? caps.map((one) => capText(one, t)).join(", ") : t("no_limit")]),
        [t("when_capped"), t.of("capped", a.when_capped)]]));
    const list = (values, none, own = false) => (values?.length ? h("ul", { class: "tags" }, values.map((v) => h("li", { translate: own ? null : "no" }, v))) : h("span", { class: "soft" }, none));
    fill(rules, h("h2", null, t("rules")), facts([
      [t("categories"), list(a.categories.map((c) => t.of("category", c)), "–", true)], [t("senders"), list(a.senders, t("senders.none"))], [t("signatures"), list(a.signatures, t("signatures.none"))],
      [t("default_country"), a.default_country], [t("links"), a.link_domains === null ? t("links.any") : list(a.link_domains, t("links.none"))],
      [t("consent"), t(a.consent_required ? "consent.yes" : "no")], [t("optout"), t("optout.of", { scope: t.of("optout.scope", a.optout_scope), categories: a.optout_categories.map((c) => t.of("category", c)).join(", ") })],
    ]), h("p", { class: "soft small apart" }, coded(t("rules.help"), FILE)));
    fill(keys, h("h2", null, t("keys")), table({
      caption: t("keys"), rows: a.key_list, empty: t("keys.none.text"),
      columns: [
        { key: "id", title: t("key.id"), cell: (k) => h("span", { class: "id nowrap" }, k.id ? `sg_live_${k.id}…` : t("key.unseen")) },
        { key: "hash", title: t("key.hash"), cell: (k) => h("span", { class: "id nowrap" }, `${k.hash}…`) },
        { key: "used", title: t("key.used"), cell: (k) => (k.last_used_at ? [time(k.last_used_at), h("small", { class: "soft below" }, ago(k.last_used_at))] : t("never")) },
      ],
    }), h("div", { class: "tools" }, session.may("admin") ? button(t("key.new"), () => newKey(a, t, signal), { id: "new-key", picture: icon("plus"), t }) : h("p", { class: "soft small" }, t("not_allowed", { role: t.of("role", "admin") }))));
    const w = a.webhook;
    fill(hook, h("h2", null, t("webhook")), w ? [facts([[t("state"), webhookBadge(w)], [t("host"), datum(w.host)], [t("waiting"), count(w.backlog)], [t("oldest"), w.backlog ? span(w.oldest_age_s) : null], [t("dead"), count(w.dead)], [t("last_success"), w.last_success_at ? ago(w.last_success_at) : t("never")]]),
      h("p", { class: "tools" }, h("a", { class: "button small", href: `#/webhooks/${encodeURIComponent(a.id)}` }, t("hook.open")))] : h("p", { class: "soft" }, t("hook.none")));
    if (!trial.firstChild) fill(trial, ...trialCard(view, a, () => read().catch((e) => failed(e, t))));
    if (!usage.parentElement) fill(body, h("div", { class: "two even" }, h("div", null, usage, keys), h("div", null, rules, hook)), trial);
  }

  try { await read(); }
  catch (error) {
    if (error.status !== 404) throw error;
    fill(body, h("p", { class: "notice bad", role: "alert" }, icon("bad"), t("gone", { account: id })));
  }
}

function capText(written, t) {
  const [n, seconds] = written.split("/");
  return t("cap", { n, s: span(Number.parseInt(seconds, 10)) });
}

// --- a new key

async function newKey(a, t, signal) {
  if (!(await confirm({ title: t("key.title", { account: a.id }), text: t("key.text"), yes: t("key.new") }))) return;
  const made = await ask("POST", `${PLACE}/${encodeURIComponent(a.id)}/key`, {}, { signal });
  await dialog({
    title: t("key.made", { account: a.id }), wide: true, firm: true,
    body: h("div", null, h("p", { class: "notice warn" }, icon("warn"), t("key.once")),
      h("h3", null, t("key.key")), h("div", { class: "shown-once" }, h("span", { class: "secret", id: "made-key" }, made.key), copyButton(made.key, t, t("key.copy"), { wide: true })),
      h("h3", null, coded(t("key.line"), FILE)), h("div", { class: "shown-once" }, h("span", { class: "secret", id: "made-line" }, made.line), copyButton(made.line, t, t("line.copy"), { wide: true })),
      h("h3", null, t("key.next")), h("ol", { class: "todo" }, h("li", null, coded(t("key.step.line", { account: a.id }), FILE)), h("li", null, t("key.step.reload"), " ", h("code", null, "smsgw config reload")), h("li", null, t("key.step.give")), a.keys ? h("li", null, t("key.step.old")) : null)),
    buttons: [{ text: t("key.kept"), value: true, kind: "main" }],
  });
}

// --- a test message

function trialCard({ signal, t }, a, sent) {
  const told = h("div", { id: "trial-result", tabindex: "-1", "aria-live": "polite" });
  if (!session.may("operator")) return [h("h2", null, t("trial")), h("p", { class: "soft" }, t("not_allowed", { role: t.of("role", "operator") }))];
  let before = null;
  const mark = a.signatures[0] ? `【${a.signatures[0]}】` : "";
  const node = form({
    label: t("trial"), button: t("trial.send"), t,
    fields: [
      field({ name: "to", label: t("number"), type: "tel", required: true, autocomplete: "off", maxlength: 40, placeholder: "+8613800138000" }),
      field({ name: "country", label: t("country"), value: a.default_country, help: t("trial.country"), maxlength: 2, size: 3, autocomplete: "off", autocapitalize: "characters", spellcheck: "false" }),
      field({ name: "category", label: t("category"), type: "select", value: a.categories.includes("notification") ? "notification" : a.categories[0], options: a.categories.map((c) => [c, t.of("category", c)]) }),
      a.senders.length ? field({ name: "sender", label: t("sender"), type: "select", value: a.senders[0], options: a.senders.map((one) => [one, one]) }) : null,
      field({ name: "text", label: t("text"), type: "textarea", required: true, maxlength: 1530, value: `${mark}${t("trial.text")}`, rows: 3 }),
    ],
    send: async (values) => {
      const to = values.to.normalize("NFKC").replace(/[\s().-]/g, "");
      const body = { ...values, to };
      if (to.startsWith("+")) delete body.country;
      const made = await ask("POST", `${PLACE}/${encodeURIComponent(a.id)}/test-send`, body, { signal });
      before?.abort();
      before = new AbortController();
      const both = AbortSignal.any([signal, before.signal]);
      fill(told, h("p", { class: "loading" }, t("loading")));
      follow(made.id, {
        signal: both, failed: (error) => failed(error, t),
        show: (m) => fill(told, h("h3", { class: "apart" }, t("trial.went"), " ", h("a", { class: "id small", href: `#/messages/${m.id}`, id: "trial-link" }, m.id)), headOf(m), waitingOf(m), timelineOf(m)),
      });
      sent();
    },
  });
  return [h("h2", null, t("trial")), h("p", { class: "soft" }, t("trial.help")), h("div", { class: "two trial" }, node, told)];
}
