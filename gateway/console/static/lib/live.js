// What the gateway tells by itself: one stream of server-sent events for the whole page, over the topics that somebody on
// it listens to. Owns the stream's life: opened with the first listener, closed with the last and while the page is hidden.

import { readSession, session } from "./api.js";

const PATH = "/admin/v1/events";
const REOPEN_MS = 3000;
const HIDDEN_MS = 60_000;
const STALE_MS = 20_000;

const listeners = new Map();
const last = new Map();
const watchers = new Set();
let source = null, open = "", state = "off", timer = 0, heard = 0, hiding = 0;

function become(next) {
  if (next === state) return;
  state = next;
  for (const watch of watchers) watch(state);
}

function wanted() {
  return [...listeners.keys()].sort().join(",");
}

function close() {
  source?.close();
  source = null;
  open = "";
  clearTimeout(timer);
}

function connect() {
  const topics = wanted();
  if (topics === open && source) return;
  close();
  if (!topics || document.hidden && hiding === -1) return become("off");
  open = topics;
  become("connecting");
  source = new EventSource(`${PATH}?topics=${encodeURIComponent(topics)}`);
  source.onopen = () => { heard = Date.now(); become("live"); };
  for (const topic of topics.split(",")) {
    source.addEventListener(topic, (event) => {
      heard = Date.now();
      become("live");
      const value = JSON.parse(event.data);
      last.set(topic, value);
      for (const tell of [...(listeners.get(topic) ?? [])]) tell(value);
    });
  }
  source.addEventListener("beat", () => { heard = Date.now(); });
  source.addEventListener("end", (event) => {  // the gateway ends it on purpose: a reload, which is no loss, or a role that is gone
    if (JSON.parse(event.data).why !== "reload") return;
    close();
    become("connecting");
    timer = setTimeout(connect, 200);
  });
  source.onerror = async () => {
    close();
    become("lost");
    try { await readSession(); } catch { /* not reachable: tried again below */ }
    if (session.state === "signed_in" || session.state === undefined) timer = setTimeout(connect, REOPEN_MS);
    else dispatchEvent(new Event("smsgw:signed-out"));
  };
}

let soon = 0;
function change() {
  clearTimeout(soon);
  soon = setTimeout(connect, 0);  // a page that comes and one that goes are one change
}

/** Hear of a topic until `signal` is aborted; what was told last is told at once. */
export function listen(topic, tell, signal) {
  if (signal.aborted) return;
  const of = listeners.get(topic) ?? new Set();
  listeners.set(topic, of.add(tell));
  if (last.has(topic)) tell(last.get(topic));
  signal.addEventListener("abort", () => {
    of.delete(tell);
    if (!of.size) { listeners.delete(topic); last.delete(topic); }
    change();
  }, { once: true });
  change();
}

/** Hear how the stream is: off | connecting | live | lost. */
export function watchState(watch) {
  watchers.add(watch);
  watch(state);
  return () => watchers.delete(watch);
}

/** Forget everything, as at the end of a session. */
export function silence() {
  listeners.clear();
  last.clear();
  close();
  become("off");
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiding = setTimeout(() => { hiding = -1; close(); become("off"); }, HIDDEN_MS);
  else { if (hiding > 0) clearTimeout(hiding); hiding = 0; connect(); }
});

// A stream that hangs says nothing: what has not been heard of for long is opened anew.
setInterval(() => { if (source && state === "live" && Date.now() - heard > STALE_MS) { close(); become("lost"); connect(); } }, 5000);
