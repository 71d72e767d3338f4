// Copying something short to the clipboard. Owns the button; where the browser has no clipboard (plain http from
// elsewhere) the text is selected, so that the keys for copying work.

import { h, icon } from "./dom.js";
import { done } from "./say.js";

/** A button that copies `text`; `t` is the page's translator, `label` what is spoken in place of "Copy". */
export function copyButton(text, t, label = t("copy"), { wide = false } = {}) {
  return h("button", { type: "button", class: wide ? "small" : "bare copy", "aria-label": wide ? null : label, title: wide ? null : label,
    on: { click: async (event) => {
      try {
        await navigator.clipboard.writeText(text);
        done(t("copied"));
      } catch {
        const near = event.currentTarget.parentElement.querySelector(".secret, .id, .mono") ?? event.currentTarget;
        const range = document.createRange();
        range.selectNodeContents(near);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
      }
    } } }, icon("copy"), wide ? label : null);
}
