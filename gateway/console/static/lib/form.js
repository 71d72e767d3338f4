// Forms: fields with their labels, help and errors, and what happens when one is sent. Owns how a problem that names a
// field is shown at that field. Refuses to know what is asked for.

import { Problem } from "./api.js";
import { h, newId } from "./dom.js";
import { failed, problemText } from "./say.js";

/**
 * One field: {name, label, type, value, help, required, options: [[value, text]], wide, ...attributes}. Types: text,
 * password, number, select, textarea, checkbox, date, datetime-local, file, search, tel.
 */
export function field({ name, label, type = "text", value = "", help = "", options = null, wide = false, control = null, id = newId(name), ...more }) {
  const helpId = help ? `${id}-help` : null;
  const common = { id, name, "aria-describedby": [helpId, `${id}-error`].filter(Boolean).join(" "), ...more };
  let input = control;
  if (input) { input.id = id; input.setAttribute("name", name); }
  else if (type === "select") {
    input = h("select", common, options.map(([v, text]) => h("option", { value: v, selected: v === value }, text)));
  } else if (type === "textarea") input = h("textarea", { rows: 4, ...common, value });
  else if (type === "checkbox") input = h("input", { type, ...common, checked: Boolean(value) });
  else input = h("input", { type, ...common, value: type === "file" ? undefined : value });
  // What a reset brings back is what stood in it at first.
  if (type === "select" && !control) for (const option of input.options) option.defaultSelected = option.value === value;
  else if (type === "checkbox" && !control) input.defaultChecked = Boolean(value);
  else if (!control && type !== "file") input.defaultValue = value;
  const error = h("p", { class: "error", id: `${id}-error` });
  const tag = h("label", { for: id }, label);
  return h("div", { class: ["field", type === "checkbox" && "check", wide && "wide"], data: { field: name } },
    type === "checkbox" ? [input, tag] : [tag, input], help ? h("p", { class: "help", id: helpId }, help) : null, error);
}

/** What a form holds, by name; empty fields are left out, checkboxes are true or false, numbers are numbers. */
export function valuesOf(form) {
  const values = {};
  for (const input of form.elements) {
    if (!input.name || input.disabled || input.type === "file") continue;
    if (input.type === "checkbox") values[input.name] = input.checked;
    else if (input.type === "radio") { if (input.checked) values[input.name] = input.value; }
    else if (input.value !== "") values[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  return values;
}

function clear(form) {
  for (const node of form.querySelectorAll(".error")) node.textContent = "";
  for (const node of form.querySelectorAll("[aria-invalid]")) node.removeAttribute("aria-invalid");
}

/** Show a problem at the field that it names; elsewhere below the buttons. */
export function showProblem(form, error, own = undefined) {
  const at = error instanceof Problem && error.field
    ? [...form.querySelectorAll("[data-field]")].find((node) => node.dataset.field === error.field) : null;
  const place = at?.querySelector(".error") ?? form.querySelector(".form-error");
  if (!place) return failed(error, own);
  place.textContent = problemText(error, own);
  const input = at?.querySelector("input, select, textarea");
  input?.setAttribute("aria-invalid", "true");
  input?.focus();
}

/**
 * A form of fields with one button: `send(values, form)` is awaited, the button is busy meanwhile, and what it throws is
 * shown at its field. `also` stands beside the button; `t` is the page's translator, for the words of problems.
 */
export function form({ fields, button, send, also = null, inline = false, kind = "main", label = null, t = undefined }) {
  const submit = h("button", { type: "submit", class: kind }, button);
  const node = h("form", { class: inline ? "form inline" : "form", noValidate: true, "aria-label": label,
    on: { submit: async (event) => {
      event.preventDefault();
      clear(node);
      const missing = [...node.elements].find((input) => input.willValidate && !input.checkValidity());
      if (missing) {
        const place = missing.closest("[data-field]")?.querySelector(".error");
        if (place) place.textContent = missing.validationMessage;
        missing.setAttribute("aria-invalid", "true");
        missing.focus();
        return;
      }
      submit.disabled = true;
      submit.setAttribute("aria-busy", "true");
      try { await send(valuesOf(node), node); }
      catch (error) { if (error.name !== "AbortError" && error.code !== "not_confirmed") showProblem(node, error, t); }
      finally { submit.disabled = false; submit.removeAttribute("aria-busy"); }
    } } },
    fields, h("div", { class: "buttons" }, submit, also), h("p", { class: "error form-error", role: "alert" }));
  return node;
}

/** A button that is busy while `act` runs, and says what went wrong. */
export function button(text, act, { kind = "plain", small = false, label = null, picture = null, disabled = false, id = null, t = undefined } = {}) {
  const node = h("button", { type: "button", id, class: [kind, small && "small"], "aria-label": label, disabled,
    on: { click: async () => {
      node.disabled = true;
      node.setAttribute("aria-busy", "true");
      try { await act(); }
      catch (error) { failed(error, t); }
      finally { node.disabled = false; node.removeAttribute("aria-busy"); }
    } } }, picture, text);
  return node;
}
