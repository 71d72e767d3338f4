// Webhooks: how each account's deliveries go, the worst first, and what an operator does about it. Owns the order and the
// questions before an action. Refuses to know calls and lists of events.

import { ask, get, session } from "../lib/api.js";
import { confirm, dialog } from "../lib/dialog.js";
import { coded, fill, h, icon } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { ago, count, span, time, zone } from "../lib/format.js";
import { poll } from "../lib/poll.js";
import { done, failed } from "../lib/say.js";
import { badge, facts, table } from "../lib/table.js";
import { resultWord, webhookBadge } from "../lib/webhook.js";
import { words } from "./webhooks.words.js";

export { words };

const PLACE = "/admin/v1/webhooks";
const TYPES = ["message.delivered", "message.failed", "message.corrected", "message.submitted"];
const CARDS = 6;
const EVERY_MS = 3000;

/** The worst first: disabled, backing off, dead letters, backlog. */
const weight = (w) => ({ disabled: 3, backing_off: 2 }[w.state] ?? 0) * 1e12 + (w.dead ? 1e11 : 0) + Math.min(w.backlog, 1e9);

export async function show({ main, params, signal, t }) {
  const place = h("div", { class: "hooks" });
  const said = new Map();
  let last = "";
  fill(main, h("div", { class: "head" }, params[0] ? h("a", { class: "button small", href: "#/webhooks" }, t("back.all")) : null, h("h1", null, t("page.webhooks")), h("p", { class: "soft" }, t("about"))), place);

  async function read() {
    const { webhooks } = await get(PLACE, { signal });
    const shown = (params[0] ? webhooks.filter((w) => w.account === params[0]) : webhooks).sort((a, b) => weight(b) - weight(a) || a.account.localeCompare(b.account));
    const now = JSON.stringify([shown, [...said]]) + Math.floor(Date.now() / 30_000);
    if (now === last) return;
    last = now;
    if (!shown.length) fill(place, h("div", { class: "card quiet" }, h("p", null, params[0] ? t("gone", { account: params[0] }) : coded(t("none.yet"), { file: "accounts.toml" }))));
    else if (params[0] || shown.length <= CARDS) fill(place, shown.map(card));
    else fill(place, h("div", { class: "card" }, all(shown, t)));
  }
  const again = poll(read, { signal, every_ms: EVERY_MS, failed: (error) => failed(error, t) });

  async function act(account, action, more = {}) {
    const told = await ask("POST", PLACE, { account, action, ...more }, { signal });
    last = "";
    await again();
    return told;
  }

  function card(w) {
    const id = (what) => `${what}-${w.account}`;
    const may = session.may("operator");
    const result = said.get(w.account);
    return h("section", { class: "card hook", id: id("hook"), "aria-labelledby": id("title") },
      h("div", { class: "hook-head" }, h("h2", { id: id("title") }, h("a", { href: `#/accounts/${encodeURIComponent(w.account)}` }, w.account)), webhookBadge(w), h("span", { class: "id soft" }, w.host)),
      trouble(w, t),
      facts([
        [t("waiting"), count(w.backlog)], [t("oldest"), w.backlog ? span(w.oldest_age_s) : null], [t("retrying"), w.retrying ? t("retrying.next", { n: count(w.retrying), at: w.next_retry_at ? time(w.next_retry_at) : "–" }) : null],
        [t("dead"), count(w.dead)], [t("dropped"), w.dropped ? count(w.dropped) : null], [t("calls"), count(w.calls)],
        [t("last_success"), w.last_success_at ? [ago(w.last_success_at), h("small", { class: "soft below" }, time(w.last_success_at))] : t("never")],
        [t("last_failure"), w.last_failure_at ? [ago(w.last_failure_at), h("small", { class: "soft below" }, resultWord(w.last_failure))] : t("never")],
      ]),
      Object.keys(w.dead_reasons).length ? h("p", { class: "small" }, t("dead.why"), " ", Object.entries(w.dead_reasons).sort((a, b) => b[1] - a[1]).map(([why, n]) => `${resultWord(why)} ${count(n)}`).join(" · ")) : null,
      w.replay ? h("p", { class: "small", id: id("replay-state"), role: "status" }, badge(w.replay.done ? "ok" : "info", t(w.replay.done ? "replay.done" : "replay.running")),
        ` ${t("replay.says", { n: count(w.replay.events), from: w.replay.from ? time(w.replay.from) : t("replay.start"), to: w.replay.to ? time(w.replay.to) : "–" })}`) : null,
      result ? h("p", { class: ["notice", result.result === "delivered" ? "ok" : "bad"], role: "status", id: id("tested") }, icon(result.result === "delivered" ? "ok" : "bad"),
        t("tested", { result: resultWord(result.result), status: result.status || "–", s: span(result.seconds) })) : null,
      may ? h("div", { class: "tools" },
        button(t("test"), async () => { said.set(w.account, await ask("POST", PLACE, { account: w.account, action: "test" }, { signal })); last = ""; await again(); }, { id: id("test"), t }),
        w.dead ? button(t("retry", { n: count(w.dead) }), () => retry(w), { id: id("retry"), t }) : null,
        button(t("replay"), () => replay(w), { id: id("replay"), disabled: Boolean(w.replay && !w.replay.done), t }),
        w.state === "disabled" ? button(t("enable"), () => enable(w), { kind: "main", id: id("enable"), t }) : button(t("disable"), () => disable(w), { id: id("disable"), t }))
        : h("p", { class: "soft small" }, t("not_allowed", { role: t.of("role", "operator") })));
  }

  async function disable(w) {
    if (!(await confirm({ title: t("disable.title", { account: w.account }), text: t("disable.text"), yes: t("disable"), danger: true }))) return;
    await act(w.account, "disable");
    done(t("disabled", { account: w.account }));
  }

  async function enable(w) {
    if (!(await confirm({ title: t("enable.title", { account: w.account }), text: t("enable.text", { n: count(w.backlog) }), yes: t("enable") }))) return;
    await act(w.account, "enable");
    done(t("enabled", { account: w.account }));
  }

  async function retry(w) {
    if (!(await confirm({ title: t("retry.title", { n: count(w.dead) }), text: t("retry.text", { account: w.account }), yes: t("retry.yes") }))) return;
    const { revived } = await act(w.account, "retry-dead");
    done(t("retried", { n: count(revived) }));
  }

  async function replay(w) {
    const hour = new Date(Date.now() - 3_600_000);
    const told = await dialog({
      title: t("replay.title", { account: w.account }), ready: (box, close) => { finish = close; },
      body: h("div", null, h("p", null, t("replay.text")), form({
        label: t("replay"), button: t("replay.begin"), t,
        also: h("button", { type: "button", on: { click: () => finish(null) } }, t("cancel")),
        fields: [
          field({ name: "from", label: t("from"), type: "datetime-local", value: local(hour), step: 1, required: true, help: t("times", { zone: zone() }) }),
          field({ name: "to", label: t("to"), type: "datetime-local", step: 1, value: "", help: t("replay.to") }),
          h("fieldset", { class: "picks", data: { field: "types" } }, h("legend", null, t("replay.types")), TYPES.map((type) => field({ name: type, label: t.of("type", type), type: "checkbox", value: false })), h("p", { class: "help" }, t("replay.types.help")), h("p", { class: "error" })),
        ],
        send: async (values) => {
          const body = { from: new Date(values.from).toISOString() };
          if (values.to) body.to = new Date(values.to).toISOString();
          const types = TYPES.filter((type) => values[type]);
          if (types.length) body.types = types;
          await act(w.account, "replay", body);
          finish(true);
        },
      })),
    });
    if (told) done(t("replay.begun", { account: w.account }));
  }
  let finish = () => {};

  await again();
}

/** What is wrong in a sentence, since when, and what helps. */
function trouble(w, t) {
  if (w.state === "disabled") return h("p", { class: "notice bad" }, icon("bad"), t(w.disabled_by === "operator" ? "trouble.operator" : "trouble.gone", { at: w.disabled_at ? time(w.disabled_at) : "–" }));
  if (w.state === "backing_off") return h("p", { class: "notice warn" }, icon("warn"), t("trouble.backing_off", { why: resultWord(w.last_failure), ago: w.last_success_at ? ago(w.last_success_at) : t("never") }));
  if (w.dead) return h("p", { class: "notice warn" }, icon("warn"), t("trouble.dead", { n: count(w.dead) }));
  return null;
}

function all(rows, t) {
  return table({
    caption: t("page.webhooks"), rows,
    columns: [
      { key: "account", title: t("account"), cell: (w) => h("a", { href: `#/webhooks/${encodeURIComponent(w.account)}`, id: `row-${w.account}` }, w.account, h("small", { class: "soft below" }, w.host)) },
      { key: "state", title: t("state"), cell: (w) => webhookBadge(w) },
      { key: "waiting", title: t("waiting"), kind: "number", cell: (w) => count(w.backlog) },
      { key: "oldest", title: t("oldest"), kind: "number", cell: (w) => (w.backlog ? span(w.oldest_age_s) : "–") },
      { key: "dead", title: t("dead"), kind: "number", cell: (w) => count(w.dead) },
      { key: "ok", title: t("last_success"), cell: (w) => (w.last_success_at ? ago(w.last_success_at) : t("never")) },
      { key: "bad", title: t("last_failure"), cell: (w) => (w.last_failure_at ? [ago(w.last_failure_at), h("small", { class: "soft below" }, resultWord(w.last_failure))] : t("never")) },
    ],
  });
}

/** A time as a field for date and time holds it, in the browser's zone. */
function local(date) {
  const two = (n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}`;
}
