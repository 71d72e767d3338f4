// Runs before the first paint. A classic script: modules come too late. Nobody who chose dark sees a white flash; the
// modules of the page that the address names are asked for together with those of index.html, not one after the other; and
// while they come, who is signed in and what the page will show first (lib/api.js takes each answer once).
(function () {
  var files = document.currentScript.src.replace(/lib\/early\.js$/, "");  // static/VERSION/
  var chosen = null;
  try { chosen = localStorage.getItem("smsgw.theme"); } catch { /* storage may be switched off: the system decides */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;

  // What each page imports beside its own module and words (tests/console/test_sources.py holds it against the imports).
  var more = {
    overview: ["now", "now.words", "chart", "chart.words"],
    channels: ["now", "now.words", "chart", "chart.words"],
    routes: ["now", "now.words"],
    queues: [],
    messages: ["copy", "message", "message.words", "now", "now.words"],
    inbound: [],
    blacklist: ["chart", "chart.words", "csv"],
    webhooks: ["poll", "webhook", "webhook.words"],
    stats: ["chart", "chart.words", "csv"],
    accounts: ["copy", "message", "message.words", "now", "now.words", "webhook", "webhook.words"],
    config: ["diff", "diff.words"],
    audit: ["csv"],
    users: ["sessions", "sessions.words"],
    profile: ["sessions", "sessions.words"]
  };
  var page = /^#\/([a-z]+)/.exec(location.hash);
  page = page && Object.hasOwn(more, page[1]) ? page[1] : "overview";
  ["pages/" + page, "pages/" + page + ".words"].concat(more[page].map(function (name) { return "lib/" + name; })).forEach(function (name) {
    var link = document.createElement("link");
    link.rel = "modulepreload";
    link.href = files + name + ".js";
    document.head.append(link);
  });

  function ask(path) {
    return fetch(path, { headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store", redirect: "error" });
  }
  var first = { overview: "/admin/v1/overview", channels: "/admin/v1/channels" }[page];
  var session = ask("/console/api/session");
  var early = { "/console/api/session": session };
  if (first) {
    early[first] = session.then(function (answer) { return answer.clone().json(); })
      .then(function (told) { return told.state === "signed_in" ? ask(first) : null; });
  }
  for (var path in early) early[path] = early[path].catch(function () { return null; });  // asked for again, and told there
  window.smsgwEarly = early;
})();
