// One message as every page shows it: its state, what it waits for, and its timeline. Owns these forms and how a message
// is followed until it is final. Refuses to know how one is found, and what may be done with it.

import { get } from "./api.js";
import { datum, h, icon } from "./dom.js";
import { exact, span, time } from "./format.js";
import { words as own } from "./message.words.js";
import { carrierName } from "./now.js";
import { nowWords } from "./now.words.js";
import { reasons } from "./reasons.words.js";
import { badge, facts } from "./table.js";
import { translator } from "./words.js";

const words = { en: { ...reasons.en, ...own.en }, zh: { ...reasons.zh, ...own.zh } };
const t = translator(words);
const carriers = translator(nowWords);
const SOON_MS = 700;
const POLL_MS = 2000;
const SOON_TIMES = 12;

const KINDS = {
  delivered: "ok", submitted: "info", queued: "info", scheduled: "info", deferred: "info", uncertain: "warn", expired: "bad",
  undeliverable: "bad", rejected: "bad", failed: "bad", blocked: "bad", cancelled: "off", unknown: "warn",
};

/** A state as a word with its colour and sign. */
export const stateBadge = (state) => badge(KINDS[state] ?? "off", t.of("state", state));

/** A reason in a few words, and as a sentence where there is one. */
export const reasonWord = (code) => t.of("reason", code);
export const reasonSentence = (code) => (t.has(`reason.says.${code}`) ? t(`reason.says.${code}`) : "");

/** A time that a machine can read too, with its milliseconds. */
export const at = (value) => h("time", { datetime: value }, exact(value));

const spanBetween = (from, to) => span((Date.parse(to) - Date.parse(from)) / 1000);

/** What a message waits for, the first to change first; null where it waits for nothing. */
export function waitingOf(m) {
  if (!m.waiting) return null;
  const all = [m.waiting, ...(m.waiting.also ?? [])];
  const stuck = all.some((one) => ["gate", "channels", "route"].includes(one.why));
  return h("div", { class: ["notice", "waits", stuck ? "warn" : "info"], id: "waits" }, icon(stuck ? "warn" : "info"),
    h("div", null, h("strong", null, t("waits")), h("ul", null, all.map(waitLine))));
}

function waitLine(one) {
  const key = one.why === "gate" && one.state === "closed" ? "wait.gate.closed" : `wait.${one.why}`;
  const said = t(key, { what: one.what ?? t("wait.its") });
  const times = [one.since && t("wait.since", { at: time(one.since) }), one.until && t("wait.until", { at: time(one.until) })].filter(Boolean);
  return h("li", null, said, times.length ? h("span", { class: "soft" }, ` ${times.join(", ")}`) : null,
    one.why === "gate" ? [" ", h("a", { href: "#/queues" }, t("page.queues"))] : null,
    one.channels ? h("ul", null, one.channels.map((c) => h("li", null,
      h("a", { href: `#/channels/${encodeURIComponent(c.id)}` }, c.id), ` · ${c.rank ? t("rank.backup", { n: c.rank }) : t("rank.primary")}: ${t.of("wait.channel", c.why)}`,
      c.cause ? ` (${c.cause})` : "", c.since && c.why !== "not_bound" ? h("span", { class: "soft" }, ` ${t("wait.since", { at: time(c.since) })}`) : null))) : null);
}

const ENCODINGS = { gsm7: "GSM 7", ucs2: "UCS 2", latin1: "Latin 1" };
const PICTURES = { accepted: "messages", due: "info", attempt: "channels", receipt: "inbound", feedback: "stats", state: "ok" };

function outcomeKind(e) {
  if (e.what === "attempt") return e.outcome === "sent" || e.outcome === "" ? "ok" : e.outcome === "permanent" || e.outcome === "bug" ? "bad" : "warn";
  if (e.what === "receipt" || e.what === "state") return KINDS[e.state] ?? "off";
  return "info";
}

function titleOf(e, m) {
  if (e.what === "attempt") return t("event.attempt", { n: e.number, channel: e.channel });
  if (e.what === "due") return t(`event.due.${e.why}`);
  if (e.what === "receipt") return e.part === null || m.parts === 1 ? t("event.receipt", { channel: e.channel }) : t("event.receipt.part", { n: e.part, of: m.parts, channel: e.channel });
  if (e.what === "feedback") return t("event.feedback");
  if (e.what === "state") return e.final ? t("event.final") : t("event.now");
  return t("event.accepted", { account: m.account });
}

function detailOf(e, m) {
  if (e.what === "attempt") {
    const ids = e.parts.map((p) => h("span", { class: "id" }, p.part === null || m.parts === 1 ? p.smsc_id : t("event.id", { n: p.part, id: p.smsc_id })));
    return [h("p", null, badge(outcomeKind(e), t.of("outcome", e.outcome || "sent")),
      e.command_status ? h("span", { class: "id" }, ` ${e.command_status}${e.status_name ? ` ${e.status_name}` : ""}`) : null),
    ids.length ? h("p", { class: "ids small" }, h("span", { class: "soft" }, t("event.ids")), " ", ids.flatMap((one, i) => (i ? [" ", one] : [one]))) : null];
  }
  if (e.what === "receipt") {
    return h("p", null, badge(outcomeKind(e), t.of("state", e.state)), e.reason ? ` ${reasonWord(e.reason)}` : "",
      e.carrier_code ? h("span", { class: "id" }, ` ${e.carrier_code}`) : null, e.permanent ? h("span", { class: "soft" }, ` ${t("event.permanent")}`) : null);
  }
  if (e.what === "feedback") return h("p", null, t.of("feedback", e.outcome), h("span", { class: "id soft" }, ` ${e.event_id}`));
  if (e.what === "state") return h("p", null, stateBadge(e.state), m.reason ? ` ${reasonWord(m.reason.code)}` : "");
  return null;
}

/** Everything that happened to a message, with exact times and the gaps between them; gaps of a second or more stand out. */
export function timelineOf(m) {
  let before = null;
  // What is still to come stands last; what a final message will not see any more does not stand at all.
  const ends = m.final ? Date.parse(m.state_at) : Date.now() + 1000, ahead = (e) => e.what === "due" && Date.parse(e.at) > ends;
  const events = [...m.timeline.filter((e) => !ahead(e)), ...(m.final ? [] : m.timeline.filter(ahead))];
  return h("ol", { class: "timeline", "aria-label": t("timeline") }, events.map((e) => {
    const gap = before === null ? null : spanBetween(before, e.at);
    const slow = before !== null && Date.parse(e.at) - Date.parse(before) >= 1000;
    const early = Date.parse(e.at) > Date.now() + 1000;
    before = e.at;
    return h("li", { class: ["event", `is-${outcomeKind(e)}`, early && "is-ahead"] },
      h("span", { class: "event-sign", "aria-hidden": "true" }, icon(e.what === "state" && !e.final ? "info" : e.what === "state" && outcomeKind(e) === "bad" ? "bad" : PICTURES[e.what] ?? "info")),
      h("div", { class: "event-when" }, at(e.at), gap === null ? null : h("span", { class: slow ? "gap slow" : "gap" }, early ? t("event.ahead") : t("event.gap", { gap }))),
      h("div", { class: "event-what" }, h("h3", null, titleOf(e, m)), detailOf(e, m)));
  }));
}

/** The state of a message in a line: badge, reason, since when, how long it took. */
export function headOf(m) {
  const done = m.final && m.state === "delivered" ? t("took", { s: spanBetween(m.accepted_at, m.state_at) }) : "";
  return h("div", { class: "state-line" }, h("p", { class: "state-big" }, stateBadge(m.state),
    m.reason ? h("strong", null, reasonWord(m.reason.code)) : null,
    m.reason?.carrier_code ? h("span", { class: "id" }, t("code", { code: m.reason.carrier_code })) : null,
    m.possible_duplicate ? badge("warn", t("duplicate")) : null, m.late_correction ? badge("info", t("corrected")) : null, m.test ? badge("info", t("test")) : null),
  h("p", { class: "soft" }, [m.reason ? reasonSentence(m.reason.code) : "", m.final ? t("final.since", { at: time(m.state_at) }) : t("state.since", { at: time(m.state_at) }), done].filter(Boolean).join(" ")));
}

/** The short facts of a message. */
export function factsOf(m, more = []) {
  return facts([
    [t("account"), h("a", { href: `#/accounts/${encodeURIComponent(m.account)}` }, m.account)], [t("category"), t.of("category", m.category)],
    [t("sender"), datum(m.sender)], [t("signature"), datum(m.signature)],
    [t("route"), m.route ? h("a", { href: `#/routes/${encodeURIComponent(m.route)}` }, m.rank ? `${m.route} · ${t("rank.backup", { n: m.rank })}` : m.route) : null], [t("carrier"), m.carrier ? datum(carrierName(carriers, m.carrier)) : null],
    [t("parts"), t("parts.of", { n: m.parts, accepted: m.parts_accepted, delivered: m.parts_delivered, encoding: ENCODINGS[m.encoding] ?? "–" })],
    [t("attempts"), String(m.attempt)], [t("cost"), m.cost && Number(m.cost) ? m.cost : null],
    [t("ref"), datum(m.ref)], [t("campaign"), datum([m.campaign, m.variant].filter(Boolean).join(" · "))], [t("template"), datum(m.template)],
    [t("tags"), datum(m.tags?.join(", "))], [t("gate"), datum(m.gate)], [t("contact"), datum(m.contact)],
    [t("accepted_at"), at(m.accepted_at)], [t("send_at"), m.send_at ? at(m.send_at) : null],
    [t("window_until"), m.window_until ? at(m.window_until) : null], [t("expires_at"), m.final ? null : at(m.expires_at)], ...more,
  ]);
}

/**
 * Read a message again and again until it is final and give each reading to `show(message)`; a hidden page waits until
 * it is seen. `failed(error)` hears of what went wrong, once in a row. Ends with `signal`. Returns a function that reads at once.
 */
export function follow(id, { signal, show, failed }) {
  let timer = 0, turns = 0, bad = false, last = "", reading = null;
  async function read() {
    clearTimeout(timer);
    try {
      reading ??= get(`/admin/v1/messages/${encodeURIComponent(id)}`, { signal });
      const m = await reading;
      bad = false;
      const now = JSON.stringify(m);
      if (now !== last) { last = now; show(m); }
      if (m.final && turns > 0) return;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      if (!bad) failed(error);
      bad = true;
      if (error.status === 404) return;
    } finally { reading = null; }
    turns += 1;
    if (!signal.aborted && !document.hidden) timer = setTimeout(read, turns < SOON_TIMES ? SOON_MS : POLL_MS);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) read(); }, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  const again = () => { turns = 0; return read(); };
  again();
  return again;
}
