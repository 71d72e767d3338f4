// Runs before the first paint. A classic script: modules come too late. Nobody who chose dark sees a white flash, and the
// modules of the page that the address names are asked for together with those of index.html, not one after the other.
(function () {
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
    link.href = "static/" + name + ".js";
    document.head.append(link);
  });
})();
