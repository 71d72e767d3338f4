// Light, dark, or as the system has it. Owns the choice and where it is kept; the colours stand in css/base.css.

const KEPT = "smsgw.theme";
export const THEMES = ["auto", "light", "dark"];

export function theme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen === "light" || chosen === "dark" ? chosen : "auto";
}

export function setTheme(to) {
  if (to === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = to;
  try {
    if (to === "auto") localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, to);
  } catch { /* it holds until the page is closed */ }
}
