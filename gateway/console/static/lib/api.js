// Asking the gateway. Owns the session as this page knows it, the CSRF token on everything that changes something, and
// what happens when the session has ended or the password is asked for once more. Refuses to know what an answer means.

/** What the gateway refused, as RFC 9457 tells it; `told` is all it said. `status` 0: it did not answer at all. */
export class Problem extends Error {
  constructor(status, told = {}, retryAfter = 0) {
    const { code = "", detail = "", field = "" } = told;
    super(detail || code || `HTTP ${status}`);
    Object.assign(this, { status, code, detail, field, retryAfter, told });
  }
}

const ROLES = ["viewer", "operator", "admin"];
const HERE_MS = 30_000;
/** When somebody last touched the page. What it asks by itself after that must keep no session alive. */
let touched = Date.now();
for (const what of ["pointerdown", "keydown", "click", "input", "wheel", "touchmove"]) {
  addEventListener(what, () => { touched = Date.now(); }, { capture: true, passive: true });
}
let csrf = null;
let onSignedOut = () => {};
let onReauth = async () => false;

/** Who is signed in: {state, name, role, reauth_s, idle_s, ends_at, version, totp}. */
export const session = {
  state: "signed_out", name: "", role: "viewer",
  /** Whether this user may do what a role may. */
  may(role) { return ROLES.indexOf(this.role) >= ROLES.indexOf(role); },
};

/** Set what happens when the session is over, and who asks for the password again (resolves to true when it was given). */
export function handlers({ signedOut, reauth }) {
  onSignedOut = signedOut;
  onReauth = reauth;
}

function remember(answer) {
  csrf = answer.csrf ?? null;
  for (const key of ["totp", "reauth_s", "idle_s", "ends_at", "version"]) session[key] = undefined;
  Object.assign(session, { name: "", role: "viewer" }, answer);
  delete session.csrf;
  return session;
}

export const readSession = async () => remember(await ask("GET", "/console/api/session"));
export const signIn = async (body) => remember(await ask("POST", "/console/api/session", body));
export const setUp = async (body) => remember(await ask("POST", "/console/api/setup", body));
export const signOut = async () => { await ask("DELETE", "/console/api/session"); csrf = null; session.state = "signed_out"; };
export const reauth = async (body) => ask("POST", "/console/api/reauth", body, { again: true });

async function problemOf(answer) {
  let told = {};
  try { told = await answer.json(); } catch { /* not ours, as from a proxy: the status is all there is */ }
  return new Problem(answer.status, told, Number(answer.headers.get("Retry-After")) || 0);
}

/** The answer to what lib/early.js asked for before this module was there; null where it did not, or failed. */
function early(path) {
  const answer = window.smsgwEarly?.[path];
  if (answer) delete window.smsgwEarly[path];
  return answer ?? null;
}

/**
 * Ask for JSON: `ask("PUT", "/admin/v1/channels", {id, action})`. Options: `signal` ends it, `again` is set on the second
 * try, `as` "json" | "blob" | "text". Throws Problem; an AbortError when the page was left.
 */
export async function ask(method, path, body = undefined, { signal, again = false, as = "json" } = {}) {
  const headers = { Accept: as === "json" ? "application/json" : "*/*" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  if (Date.now() - touched > HERE_MS) headers["X-Background"] = "1";
  let answer;
  try {
    answer = (method === "GET" && await early(path)) || await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin", cache: "no-store", redirect: "error",
    });
    signal?.throwIfAborted();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "no_answer" });
  }
  if (answer.ok) return as === "blob" ? answer.blob() : as === "text" ? answer.text() : answer.status === 204 ? null : answer.json();
  const problem = await problemOf(answer);
  if (problem.status === 403 && problem.code === "reauth_required" && !again) {
    if (await onReauth()) return ask(method, path, body, { signal, again: true, as });
    throw new Problem(0, { code: "not_confirmed" });
  }
  if (problem.status === 401 && !path.startsWith("/console/api/")) onSignedOut();
  throw problem;
}

export const get = (path, options) => ask("GET", path, undefined, options);

/** A query string of what is set: query({a: 1, b: ""}) → "?a=1". */
export function query(values) {
  const set = Object.entries(values).filter(([, v]) => v !== undefined && v !== null && v !== "");
  return set.length ? `?${new URLSearchParams(set.map(([k, v]) => [k, String(v)]))}` : "";
}
