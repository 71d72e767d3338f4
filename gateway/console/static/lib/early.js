// Runs before the first paint, so that nobody who chose dark sees a white flash. A classic script: modules come too late.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("smsgw.theme"); } catch { /* storage may be switched off: the system decides */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
