// Telling what happened: short lines at the page's edge that a screen reader speaks, and problems in words. Owns nothing
// else. A success goes by itself; a failure stays until it is put away.

import { Problem } from "./api.js";
import { h, icon } from "./dom.js";
import { translator } from "./words.js";

const t = translator();
const GOES_MS = 6000;
/** Codes whose words say everything: the gateway's detail would say it again, in English. */
const WHOLE = new Set(["no_answer", "not_confirmed", "wrong_password", "wrong_token", "wrong_code", "otp_required", "already_set_up", "too_many_tries"]);

function line(kind, text) {
  const box = h("div", { class: ["say", kind] }, icon(kind === "bad" ? "bad" : "ok"), h("p", null, text),
    h("button", { type: "button", class: "bare", "aria-label": t("close"), on: { click: () => box.remove() } }, icon("close")));
  const all = document.getElementById("say");
  all.append(box);
  while (all.children.length > 4) all.firstElementChild.remove();
  return box;
}

export function done(text) {
  const box = line("ok", text);
  setTimeout(() => box.remove(), GOES_MS);
}

/**
 * What a problem means, in the page's language where its code has words (`own`: a page's translator, which knows more);
 * the gateway's own detail otherwise.
 */
export function problemText(error, own = t) {
  if (!(error instanceof Problem)) return t("problem.page");
  const known = `problem.${error.code}`, said = `detail.${error.detail}`;
  let text = own.has(said) ? own(said) : own.has(known) ? own(known) : error.detail || t("problem.status", { status: error.status });
  if (own.has(known) && !own.has(said) && error.detail && !WHOLE.has(error.code)) text += ` (${error.detail})`;
  if (error.retryAfter) text += ` ${t("problem.retry", { s: error.retryAfter })}`;
  return text;
}

/** Say what went wrong; a page that was left says nothing. */
export function failed(error, own = t) {
  if (error.name === "AbortError" || error.code === "not_confirmed") return;
  if (!(error instanceof Problem)) console.error(error);
  line("bad", problemText(error, own));
}
