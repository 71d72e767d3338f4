// A webhook's state as every page shows it. Owns the words' choice and their colours.

import { badge } from "./table.js";
import { translator } from "./words.js";
import { words } from "./webhook.words.js";

const t = translator(words);
const KINDS = { enabled: "ok", backing_off: "warn", disabled: "bad" };

/** Its state as a badge; dead letters make a sound one a warning. */
export const webhookBadge = (w) => (w ? badge(w.state === "enabled" && w.dead ? "warn" : KINDS[w.state] ?? "off", t.of("webhook", w.state)) : badge("off", t("webhook.none")));

/** Why a call failed, in words. */
export const resultWord = (result) => t.of("result", result);
