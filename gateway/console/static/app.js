// The console's shell: who is signed in, which page is shown, language, colours, and the line to the gateway. Owns the
// frame around the pages and the routes (#/name/parameter?query). Refuses to know what a page shows.
//
// A page is a module pages/<name>.js with `export async function show(view)`; view = {main, params, query, signal, go, t}:
// `main` is its element, `signal` is aborted when the page is left (give it to ask, listen and addEventListener).

import { handlers, readSession, session, signOut } from "./lib/api.js";
import { dialog } from "./lib/dialog.js";
import { fill, h, icon } from "./lib/dom.js";
import { watchState, listen, silence } from "./lib/live.js";
import { failed, problemText } from "./lib/say.js";
import { setTheme, theme, THEMES } from "./lib/theme.js";
import { language, LANGUAGES, setLanguage, translator } from "./lib/words.js";

const t = translator();
const GROUPS = [
  ["group.now", ["overview", "channels", "routes", "queues"]],
  ["group.traffic", ["messages", "inbound", "blacklist", "webhooks", "stats"]],
  ["group.rules", ["accounts", "config", "audit", "users", "profile"]],
];
const PAGES = new Set(GROUPS.flatMap(([, names]) => names));
const ADMIN_ONLY = new Set(["users"]);
const FIRST = "overview";

const app = document.getElementById("app");
let leave = new AbortController();
let frame = null;

function where() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...params] = path.split("/").filter(Boolean).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { name: PAGES.has(name) ? name : FIRST, params, query: new URLSearchParams(search) };
}

/** Go to a page: go("messages", [id], {q: 1}). */
function go(name, params = [], search = {}) {
  const tail = new URLSearchParams(Object.entries(search).filter(([, v]) => v !== undefined && v !== "")).toString();
  location.hash = `#/${[name, ...params].map(encodeURIComponent).join("/")}${tail ? `?${tail}` : ""}`;
}

// --- the frame

function languages() {
  return h("select", { "aria-label": t("app.language"), class: "small", on: { change: (event) => { setLanguage(event.target.value); render(); } } },
    Object.entries(LANGUAGES).map(([value, text]) => h("option", { value, selected: value === language(), lang: value }, text)));
}

function themes() {
  return h("select", { "aria-label": t("app.theme"), class: "small", data: { choice: "theme" },
    on: { change: (event) => {
      setTheme(event.target.value);
      for (const other of document.querySelectorAll('[data-choice="theme"]')) other.value = event.target.value;
    } } },
    THEMES.map((value) => h("option", { value, selected: value === theme() }, t(`theme.${value}`))));
}

function navigation() {
  return h("nav", { class: "pages", id: "pages", "aria-label": t("app.pages") },
    GROUPS.map(([group, names]) => h("section", null, h("h2", null, t(group)),
      h("ul", null, names.filter((name) => !ADMIN_ONLY.has(name) || session.may("admin")).map((name) =>
        h("li", null, h("a", { href: `#/${name}`, data: { page: name } }, icon(name), h("span", null, t(`page.${name}`)))))))),
    h("div", { class: "choices" }, languages(), themes()));  // where the top has no room for them
}

function buildFrame() {
  const nav = navigation();
  const menu = h("button", { type: "button", class: "bare menu", "aria-label": t("app.menu"), "aria-expanded": "false", "aria-controls": "pages",
    on: { click: () => openMenu(!document.body.classList.contains("menu-open")) } }, icon("menu"));
  const live = h("span", { class: "live", role: "status" });
  const alarm = h("a", { class: "alarm", href: "#/overview", hidden: true });
  const main = h("main", { id: "main", tabindex: "-1" });
  const who = h("a", { class: "who", href: "#/profile" }, session.name, h("small", null, t.of("role", session.role)));
  const out = h("button", { type: "button", class: "bare", "aria-label": t("app.signout"), title: t("app.signout"),
    on: { click: async () => { try { await signOut(); } catch (error) { failed(error); } silence(); render(); } } }, icon("out"));
  fill(app, h("a", { class: "skip", href: "#main", on: { click: (event) => { event.preventDefault(); main.focus(); } } }, t("app.skip")),
    h("header", { class: "top" }, menu, h("a", { class: "brand", href: "#/overview" }, "smsgw", h("small", null, t("app.console"))),
      alarm, live, h("span", { class: "grow" }), h("div", { class: "choices" }, languages(), themes()), who, out),
    h("div", { class: "frame" }, nav, main));
  const stop = watchState((state) => {
    live.className = `live is-${state}`;
    fill(live, h("span", { class: "dot", "aria-hidden": "true" }), h("span", { class: "live-word" }, t(`live.${state}`)));
  });
  const over = new AbortController();
  over.signal.addEventListener("abort", stop);
  listen("overview", (told) => {
    const bad = (told.problems ?? []).filter((p) => p.severity !== "info");
    alarm.hidden = !bad.length;
    alarm.className = `alarm ${bad.some((p) => p.severity === "critical") ? "bad" : "warn"}`;
    if (alarm.dataset.n !== String(bad.length)) {
      alarm.dataset.n = bad.length;
      fill(alarm, icon("warn"), h("span", null, bad.length), h("span", { class: "spoken" }, t("app.alarms", { n: bad.length })));
    }
  }, over.signal);
  frame = { nav, main, menu, over };
}

function openMenu(open) {
  document.body.classList.toggle("menu-open", open);
  frame?.menu.setAttribute("aria-expanded", String(open));
  if (open) frame?.nav.querySelector("a")?.focus();
}
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("menu-open")) { openMenu(false); frame?.menu.focus(); }
});

// --- the page

async function showPage() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const at = where();
  if (document.body.classList.contains("menu-open")) openMenu(false);
  for (const link of frame.nav.querySelectorAll("a")) {
    if (link.dataset.page === at.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${t(`page.${at.name}`)} · smsgw`;
  const main = h("main", { id: "main", tabindex: "-1", class: `page-${at.name}` }, h("p", { class: "loading" }, t("loading")));
  frame.main.replaceWith(main);
  frame.main = main;
  let page = null;
  try {
    page = await import(`./pages/${at.name}.js`);
    if (signal.aborted) return;
    await page.show({ main, params: at.params, query: at.query, signal, go, t: translator(page.words) });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!error.code) console.error(error);
    // After an upgrade there are no files of the version before: the page itself has to be read again.
    const again = page ? showPage : () => location.reload();
    fill(main, h("h1", null, t(`page.${at.name}`)), h("p", { class: "notice bad", role: "alert" }, icon("bad"), problemText(error)),
      h("button", { type: "button", class: "plain", on: { click: again } }, t("refresh")));
  }
}

async function askPassword() {
  const { passwordForm } = await import("./pages/door.js");
  return (await dialog(passwordForm())) === true;
}

/** Show what the session allows: the door, or the frame with its page. */
async function render() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  leave.abort();
  frame?.over.abort();
  frame = null;
  for (const open of document.querySelectorAll("dialog")) open.close();
  if (session.state === "signed_in") {
    buildFrame();
    await showPage();
    return;
  }
  silence();
  document.title = "smsgw";
  const door = await import("./pages/door.js");
  door.show({ app, languages: languages(), themes: themes(), entered: render });
}

function over() {
  if (session.state !== "signed_in") return;
  session.state = "signed_out";
  render();
}

handlers({ signedOut: over, reauth: askPassword });
addEventListener("smsgw:signed-out", () => { if (frame) { session.state = "signed_out"; render(); } });
addEventListener("smsgw:profile", () => render());
// A page that puts the focus somewhere itself, as into its search, keeps it there.
addEventListener("hashchange", () => { if (frame) showPage().then(() => { if (frame && !frame.main.contains(document.activeElement)) frame.main.focus({ preventScroll: true }); }); });

setLanguage(language());
try {
  // The page's module comes while the session is read; what fails here fails again, and is told, in showPage.
  import(`./pages/${where().name}.js`).catch(() => {});
  await readSession();
  await render();
} catch (error) {
  fill(app, h("main", { class: "lonely" }, h("h1", null, "smsgw"), h("p", { class: "notice bad", role: "alert" }, problemText(error)),
    h("button", { type: "button", class: "main", on: { click: () => location.reload() } }, t("refresh"))));
}


