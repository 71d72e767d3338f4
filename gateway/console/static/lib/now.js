// What overview, channels and routes have in common: how a channel's state looks, why it is so, since when, and text that
// stands still while its figures move. Refuses to know where these come from.

import { fill, h, visibleText } from "./dom.js";
import { ago, span, time } from "./format.js";
import { locale } from "./words.js";

const KINDS = { up: "ok", partial: "warn", starting: "info", down: "bad", paused: "off", draining: "off", breaker_open: "bad", breaker_half: "warn" };
const SIGNS = { ok: "●", warn: "▲", bad: "■", info: "◆", off: "○" };
const TROUBLE = ["down", "breaker_open", "breaker_half", "partial", "draining", "paused", "starting", "up"];

/** How a state is to be seen: ok | warn | bad | info | off. */
export const kindOf = (state) => KINDS[state] ?? "off";
/** The place of a state when trouble stands first. */
export const troubleOf = (state) => (TROUBLE.indexOf(state) + TROUBLE.length) % TROUBLE.length;

/** Set a text, and touch the page only where it differs. */
export function put(node, text) {
  const shown = visibleText(text);
  if (node.textContent !== shown) node.textContent = shown;
  return node;
}

/** Set a class name where it differs. */
export function dress(node, name) {
  if (node.className !== name) node.className = name;
}

/** A badge that can be told anew: {node, set(kind, text)}. */
export function liveBadge() {
  const sign = h("span", { "aria-hidden": "true", class: "sign" }), word = h("span");
  const node = h("span", { class: "badge" }, sign, word);
  return { node, set(kind, text) { dress(node, `badge ${kind}`); put(sign, SIGNS[kind] ?? "●"); put(word, text); } };
}

/** Why a channel is as it is, as a sentence: cause {kind, detail}. */
export function causeText(t, cause) {
  if (!cause?.kind) return "";
  const close = `cause.${cause.kind}.${cause.detail}`;
  if (t.has(close)) return t(close);
  const said = t.has(`cause.${cause.kind}`) ? t(`cause.${cause.kind}`) : cause.kind;
  return cause.detail ? `${said} (${cause.detail})` : said;
}

/** "12 min" since a time. */
export const lasting = (ms) => (ms ? span(Math.max(0, Date.now() - ms) / 1000) : "");

/** A time as "5 minutes ago" that keeps up by itself; the whole time stands in its title. */
export function moment(ms) {
  return h("time", { datetime: new Date(ms).toISOString(), title: time(ms), data: { ms } }, ago(ms));
}

/** Keep the moments in `node` up to date until the page is left. */
export function keepMoments(node, signal) {
  const timer = setInterval(() => {
    for (const one of node.querySelectorAll("time[data-ms]")) put(one, ago(Number(one.dataset.ms)));
  }, 10_000);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

/** The name of a country by its two letters. */
export function countryName(code) {
  try { return `${new Intl.DisplayNames([locale()], { type: "region" }).of(code)} (${code})`; } catch { return code; }
}

/** A carrier's name where it has one in this language. */
export const carrierName = (t, name) => (t.has(`carrier.${name}`) ? t(`carrier.${name}`) : name);

/** Keep the children of `parent` in this order, moving only what is out of place: focus and scroll stay. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  nodes.forEach((node, i) => { if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null); });
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Fill a node only when what it is made of has changed: `key` says so in one text. */
export function refill(node, key, make) {
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  fill(node, make());
}

/** A share of something as a bar with its text beside it: {node, set(part, whole, text)}; full is a warning. */
export function meter(label) {
  const bar = h("span", { class: "meter-bar" }), text = h("span", { class: "meter-text" });
  const node = h("span", { class: "meter" }, h("span", { class: "meter-box", "aria-hidden": "true" }, bar), h("span", { class: "spoken" }, `${label}: `), text);
  return { node, set(part, whole, words) {
    const share = whole > 0 ? Math.min(1, part / whole) : 0;
    bar.style.width = `${Math.round(share * 100)}%`;
    dress(bar, share >= 0.95 ? "meter-bar is-full" : "meter-bar");
    put(text, words);
  } };
}
