// Figures and times as people read them, in the page's language and the browser's zone. Pure but for language and zone.

import { locale, translator } from "./words.js";

const t = translator();
const made = new Map();
function intl(Kind, options) {
  const key = Kind.name + locale() + JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Kind(locale(), options));
  return made.get(key);
}

const nothing = (value) => value === null || value === undefined || Number.isNaN(value);
export const DASH = "–";

/** 12,345 */
export const count = (n) => (nothing(n) ? DASH : intl(Intl.NumberFormat, { maximumFractionDigits: 0 }).format(n));
/** 12.3k, for charts and tight places */
export const short = (n) => (nothing(n) ? DASH : intl(Intl.NumberFormat, { notation: "compact", maximumFractionDigits: 1 }).format(n));
/** Per second: 0.4, 12.3, 1,234 */
export const rate = (n) => (nothing(n) ? DASH : intl(Intl.NumberFormat, { maximumFractionDigits: n < 100 ? 1 : 0 }).format(n));
/** 0.983 → 98.3 % */
export const share = (x) => (nothing(x) ? DASH : intl(Intl.NumberFormat, { style: "percent", maximumFractionDigits: x > 0.999 && x < 1 ? 3 : 1 }).format(x));
/** A decimal text or number with its currency: CNY 12.34 */
export const money = (x, currency = "") => (nothing(x) || x === "" ? DASH
  : intl(Intl.NumberFormat, { minimumFractionDigits: 2, maximumFractionDigits: 6 }).format(Number(x)) + (currency ? ` ${currency}` : ""));
/** 1.5 GB */
export function bytes(n) {
  if (nothing(n)) return DASH;
  const step = n >= 1e9 ? [1e9, "GB"] : n >= 1e6 ? [1e6, "MB"] : n >= 1e3 ? [1e3, "kB"] : [1, "B"];
  return `${intl(Intl.NumberFormat, { maximumFractionDigits: n / step[0] < 10 ? 1 : 0 }).format(n / step[0])} ${step[1]}`;
}
/** Seconds as 12 ms, 3.4 s, 5 min, 2 h 10 min, 3 d */
export function span(seconds) {
  if (nothing(seconds)) return DASH;
  const x = Math.abs(seconds);
  const n = (value, digits = 0) => intl(Intl.NumberFormat, { maximumFractionDigits: digits }).format(value);
  if (x < 1) return `${n(x * 1000)} ${t("unit.ms")}`;
  if (x < 10) return `${n(x, 1)} ${t("unit.s")}`;
  if (x < 120) return `${n(x)} ${t("unit.s")}`;
  if (x < 7200) return `${n(x / 60, x < 600 ? 1 : 0)} ${t("unit.min")}`;
  if (x < 172800) {
    const whole = Math.floor(x / 3600), rest = Math.round((x % 3600) / 60);
    return rest ? `${whole} ${t("unit.h")} ${rest} ${t("unit.min")}` : `${whole} ${t("unit.h")}`;
  }
  return `${n(x / 86400, 1)} ${t("unit.d")}`;
}

const asDate = (value) => (typeof value === "number" ? new Date(value) : new Date(String(value)));
/** A time (ms or RFC 3339) as 21 Nov 2026, 14:05:09 */
export const time = (value) => (nothing(value) || value === "" ? DASH
  : intl(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "medium" }).format(asDate(value)));
/** The clock only: 14:05:09 */
export const clock = (value) => (nothing(value) || value === "" ? DASH
  : intl(Intl.DateTimeFormat, { timeStyle: "medium" }).format(asDate(value)));
/** With milliseconds, for timelines */
export const exact = (value) => (nothing(value) || value === "" ? DASH
  : intl(Intl.DateTimeFormat, { dateStyle: undefined, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit",
      minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hour12: false }).format(asDate(value)));
/** "5 minutes ago" by the browser's clock */
export function ago(value) {
  if (nothing(value) || value === "") return DASH;
  const seconds = (asDate(value).getTime() - Date.now()) / 1000;
  const by = intl(Intl.RelativeTimeFormat, { numeric: "auto", style: "long" });
  const x = Math.abs(seconds);
  if (x < 60) return by.format(Math.round(seconds), "second");
  if (x < 3600) return by.format(Math.round(seconds / 60), "minute");
  if (x < 172800) return by.format(Math.round(seconds / 3600), "hour");
  return by.format(Math.round(seconds / 86400), "day");
}
/** The zone that times are shown in: "Asia/Shanghai (UTC+8)" */
export function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const part = intl(Intl.DateTimeFormat, { timeZoneName: "shortOffset" }).formatToParts(new Date())
    .find((p) => p.type === "timeZoneName");
  return part && part.value !== name ? `${name} (${part.value})` : name;
}
