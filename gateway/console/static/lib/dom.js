// Making elements. Owns the one way by which text reaches the page: text nodes, never markup. Texts, senders, ids and
// carriers' codes are hostile: every string passes `visible`, which shows control and direction characters as what they
// are (U+202E) in place of obeying them.

const SVG = "http://www.w3.org/2000/svg";
const ATTRIBUTES = new Set([
  "accept", "alt", "autocapitalize", "autocomplete", "colspan", "cols", "datetime", "dir", "download", "enterkeyhint",
  "for", "form", "headers", "hidden", "href", "id", "inputmode", "lang", "list", "max", "maxlength", "method", "min",
  "minlength", "multiple", "name", "open", "pattern", "placeholder", "readonly", "rel", "required", "role", "rows",
  "rowspan", "scope", "size", "span", "spellcheck", "step", "tabindex", "title", "translate", "type", "wrap",
]);
const PROPERTIES = new Set(["checked", "disabled", "indeterminate", "selected", "value", "noValidate"]);

// C0 and C1 controls but tab and line feed, soft hyphen, zero-width and direction marks, isolates, tags, BOM.
const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000B-\\u001F\\u007F-\\u009F\\u00AD\\u061C\\u180E\\u200B-\\u200F\\u2028-\\u202E\\u2060-\\u206F" +
  "\\uFEFF\\uFFF9-\\uFFFB\\u{E0000}-\\u{E007F}]", "gu");

/** Nodes for a text: unseen characters become <span class="unseen">U+202E</span>, all else is a text node. */
export function visible(text) {
  const nodes = [];
  let from = 0;
  for (const found of text.matchAll(UNSEEN)) {
    if (found.index > from) nodes.push(document.createTextNode(text.slice(from, found.index)));
    const mark = document.createElement("span");
    mark.className = "unseen";
    mark.textContent = "U+" + found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    nodes.push(mark);
    from = found.index + found[0].length;
  }
  if (from < text.length || !nodes.length) nodes.push(document.createTextNode(text.slice(from)));
  return nodes;
}

/** The same as `visible` for places that hold plain text only (titles, options, labels). */
export function visibleText(text) {
  return String(text).replace(UNSEEN, (c) => `[U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
}

function append(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false || child === true) continue;
    if (Array.isArray(child)) append(node, child);
    else if (child instanceof Node) node.append(child);
    else node.append(...visible(String(child)));
  }
}

function safeLink(href) {
  if (/^(#|static\/|\/admin\/v1\/|\/console\/)/.test(href)) return href;
  throw new Error("a link of the console leads into the console");
}

function setProps(node, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false && name !== "value" && !name.startsWith("aria-")) continue;
    if (name === "class") node.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
    else if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "data") for (const [key, datum] of Object.entries(value)) node.dataset[key] = datum;
    else if (PROPERTIES.has(name)) node[name] = value;
    else if (name === "href") node.setAttribute("href", safeLink(String(value)));
    else if (name.startsWith("aria-") || ATTRIBUTES.has(name)) {
      node.setAttribute(name, value === true ? (name.startsWith("aria-") ? "true" : "") : visibleText(value));
    } else throw new Error(`no such property here: ${name}`);
  }
}

/** Make an element: h("p", {class: "x", on: {click: f}}, "text", node, [more]). Strings become text, nothing else. */
export function h(tag, props = null, ...children) {
  if (/^(script|style|iframe|object|embed|link|meta|base|img)$/i.test(tag)) throw new Error(`no <${tag}> in the console`);
  const node = document.createElement(tag);
  if (props) setProps(node, props);
  append(node, children);
  return node;
}

/** Make an SVG element; attributes are drawn by our own numbers and class names only. */
export function s(tag, attributes = {}, ...children) {
  if (!/^(svg|g|path|rect|circle|line|polyline|polygon|text|tspan|title|desc|defs|clipPath|linearGradient|stop)$/.test(tag)) {
    throw new Error(`no <${tag}> in a chart`);
  }
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (/^on|^style$|href/i.test(name)) throw new Error(`no ${name} in a chart`);
    else if (value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  append(node, children);
  return node;
}

/** A text of the words with a piece that is the same in every language, as a file's name: coded("in {file}", {file: "a.toml"}). */
export function coded(text, values) {
  return text.split(/(\{\w+\})/).map((piece) => {
    const name = /^\{(\w+)\}$/.exec(piece)?.[1];
    return name in values ? h("code", null, values[name]) : piece;
  });
}

/** What is the same in every language: names, refs, codes. */
export const datum = (value) => (value === null || value === undefined || value === "" ? null : h("span", { translate: "no" }, value));

/** Put these children in place of what is there; the element with the focus keeps it where its `id` is still there. */
export function fill(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement.id : "";
  node.replaceChildren();
  append(node, children);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  return node;
}

let made = 0;
/** A name for an element's id that nobody else has. */
export const newId = (of = "n") => `${of}-${(made += 1)}`;

/** A small picture by its name, for the eye only: what it says stands beside it, or in an aria-label. */
const ICONS = {
  menu: "M3 6h18M3 12h18M3 18h18", close: "M6 6l12 12M18 6L6 18", more: "M5 12h.01M12 12h.01M19 12h.01",
  overview: "M3 13h4l3-8 4 14 3-6h4", channels: "M4 8h12l-3-3M20 16H8l3 3", routes: "M6 20V10a4 4 0 0 1 4-4h8m-3-3l3 3-3 3M6 4v2",
  queues: "M4 6h16M4 12h10M4 18h6", messages: "M4 5h16v11H10l-5 4v-4H4z", inbound: "M20 5H4v11h10l5 4v-4h1z",
  blacklist: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM6 6l12 12", accounts: "M4 20c0-4 4-6 8-6s8 2 8 6M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
  webhooks: "M9 12l-3 5a3 3 0 1 0 3 2h7M12 5a3 3 0 0 1 2 5l3 5M15 17a3 3 0 1 0 2-3", stats: "M4 20V10M10 20V4M16 20v-7M21 20H3",
  config: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4", audit: "M6 3h9l4 4v14H6zM9 11h7M9 15h7", profile: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM5 20c1-4 4-5 7-5s6 1 7 5", users: "M3 20c0-3 3-5 6-5s6 2 6 5M9 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM16 6a3 3 0 0 1 0 5M17 15c3 0 4 2 4 5",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1 1M18 18l1 1M5 19l1-1M18 6l1-1", moon: "M20 14A8 8 0 1 1 10 4a7 7 0 0 0 10 10z",
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18", search: "M10 4a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM15 15l5 5", copy: "M9 9h11v11H9zM5 15H4V4h11v1", plus: "M12 5v14M5 12h14",
  ok: "M5 12l5 5 9-10", warn: "M12 4l9 16H3zM12 10v4M12 17h.01", bad: "M8 3h8l5 5v8l-5 5H8l-5-5V8zM12 8v5M12 16h.01", info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5M12 8h.01",
  pause: "M8 5v14M16 5v14", play: "M7 4l12 8-12 8z", drain: "M12 4v12m-5-5l5 5 5-5M5 20h14", refresh: "M20 11A8 8 0 1 0 18 17M20 5v6h-6", down: "M6 9l6 6 6-6", out: "M14 4H5v16h9M10 12h11m-4-4l4 4-4 4",
};
export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, s("path", { d: ICONS[name] ?? ICONS.info }));
}
