// Questions that hold the page until they are answered. Owns the <dialog>: the browser keeps the focus inside, Esc
// closes, and the focus goes back to where it was.

import { h, newId } from "./dom.js";
import { translator } from "./words.js";

const t = translator();

/**
 * Show a dialog: `title`, `body` (nodes), `buttons` [{text, value, kind: "main" | "danger" | ""}]. Resolves to the value
 * of the button, or null when it was closed. `ready(dialog, close)` may wire what stands in it. A `firm` one is not closed
 * by a click beside it: it shows what is shown only once.
 */
export function dialog({ title, body, buttons = [], wide = false, ready = null, firm = false }) {
  return new Promise((resolve) => {
    const id = newId("dialog");
    let answer = null;
    const close = (value) => { answer = value; box.close(); };
    const row = h("div", { class: "buttons" }, buttons.map((b) =>
      h("button", { type: "button", class: [b.kind || "plain"], on: { click: () => close(b.value) } }, b.text)));
    const box = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": id },
      h("h2", { id }, title), body, buttons.length ? row : null);
    box.addEventListener("close", () => { box.remove(); resolve(answer); });
    box.addEventListener("click", (event) => { if (event.target === box && !firm) box.close(); });  // beside it
    document.body.append(box);
    ready?.(box, close);
    box.showModal();
  });
}

/** Ask before something is done: true when it shall be. `danger` where it cannot be undone. */
export async function confirm({ title, text, yes, no = t("cancel"), danger = false, more = null }) {
  const found = await dialog({
    title, body: h("div", null, h("p", null, text), more),
    buttons: [{ text: no, value: false }, { text: yes, value: true, kind: danger ? "danger" : "main" }],
  });
  return found === true;
}
