// Sessions of users as a table, for the profile and for administrators. Owns how a browser's name is read from what it
// says of itself.

import { h } from "./dom.js";
import { button } from "./form.js";
import { ago, time } from "./format.js";
import { words } from "./sessions.words.js";
import { badge, table } from "./table.js";
import { translator } from "./words.js";

const t = translator(words);

/** "Chrome 120, Linux"; what is not known is shown as it came. */
export function browserName(said) {
  const browser = /(Edg|OPR|Firefox|Chrome|Version)\/(\d+)/.exec(said.replace(/Chrome\/\d+.*?(Edg|OPR)\//, "$1/"));
  const system = /(Android|iPhone|iPad|Windows|Mac OS X|Linux)/.exec(said);
  const name = { Edg: "Edge", OPR: "Opera", Version: "Safari" }[browser?.[1]] ?? browser?.[1];
  return name ? [`${name} ${browser[2]}`, system?.[1]?.replace("Mac OS X", "macOS")].filter(Boolean).join(", ") : said.slice(0, 60);
}

/** A table of sessions; `end(row)` ends one (none: no button). */
export function sessionTable(rows, end) {
  return table({
    caption: t("sessions"), rows, columns: [
      { key: "browser", title: t("browser"), cell: (row) => h("span", null, row.browser ? h("span", { title: row.browser, translate: "no" }, browserName(row.browser)) : t("browser.none"), row.here ? [" ", badge("ok", t("here"))] : null) },
      { key: "address", title: t("address"), cell: (row) => h("span", { class: "mono" }, row.address) },
      { key: "begun", title: t("begun"), cell: (row) => h("time", { datetime: row.begun_at }, time(row.begun_at)) },
      { key: "seen", title: t("seen"), cell: (row) => h("time", { datetime: row.seen_at, title: time(row.seen_at) }, ago(row.seen_at)) },
      { key: "act", title: t("actions"), cell: (row) => (row.here || !end ? null : button(t("end"), () => end(row), { small: true, label: t("end.of", { address: row.address }) })) },
    ],
  });
}
