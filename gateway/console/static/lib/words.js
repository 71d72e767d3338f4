// The page's language. Owns the choice (kept in this browser, else what the browser asks for) and how a word is found:
// the page's own words, then the common ones. Refuses to know any word itself.

import { common } from "./common.words.js";

export const LANGUAGES = { en: "English", zh: "中文" };
const KEPT = "smsgw.language";

function first() {
  let kept = null;
  try { kept = localStorage.getItem(KEPT); } catch { /* storage may be switched off */ }
  if (kept in LANGUAGES) return kept;
  return (navigator.languages ?? [navigator.language]).some((l) => /^zh\b/i.test(l)) &&
    !/^en\b/i.test(navigator.language) ? "zh" : "en";
}

let now = first();

export const language = () => now;
/** The tag for Intl: Chinese as it is written on the mainland. */
export const locale = () => (now === "zh" ? "zh-CN" : "en-GB");

export function setLanguage(to) {
  now = to in LANGUAGES ? to : "en";
  try { localStorage.setItem(KEPT, now); } catch { /* it holds until the page is closed */ }
  document.documentElement.lang = locale();
}

/** Fill the places of a text: {n}, and {n:one|many} by whether n is one. */
function put(text, values) {
  return text.replace(/\{(\w+):([^|}]*)\|([^}]*)\}/g, (_, name, one, many) => (String(values[name]) === "1" ? one : many)).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** A translator over a page's words: t("key", {n: 3}); `t.has("key")`; an unknown key shows itself. */
export function translator(words = {}) {
  const find = (key) => words[now]?.[key] ?? common[now][key];
  const t = (key, values = {}) => put(find(key) ?? key, values);
  t.has = (key) => find(key) !== undefined;
  /** A word for a value of the API (state, reason, cause …): `state.delivered`; a value without a word as it is. */
  t.of = (family, value) => (value === null || value === undefined || value === "" ? "–" : find(`${family}.${value}`) ?? String(value));
  return t;
}
