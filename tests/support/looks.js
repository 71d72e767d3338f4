// What a reader sees on the page that is open, measured: contrast, width, sizes, words, focus. Evaluated by
// tests/support/looks.py in the page under test; answers with plain lists of what is wrong. Refuses to know any page.

(() => {
  const seen = (el) => el.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && el.getClientRects().length > 0;
  const spoken = (el) => el.closest(".spoken, .skip") !== null;

  /** How to find an element again, for a person. */
  const place = (el) => {
    const id = el.id ? `#${el.id}` : "";
    const kind = el.getAttribute("class") ? "." + el.getAttribute("class").trim().split(/\s+/).join(".") : "";
    const above = el.parentElement ? el.parentElement.tagName.toLowerCase() + (el.parentElement.getAttribute("class") ? "." + el.parentElement.getAttribute("class").trim().split(/\s+/)[0] : "") + " > " : "";
    return `${above}${el.tagName.toLowerCase()}${id}${kind}`;
  };

  function* texts(root = document.body) {
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      const el = node.parentElement;
      if (!node.data.trim() || /^(script|style|noscript|title|desc)$/i.test(el.tagName) || !seen(el)) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      if ([...range.getClientRects()].some((r) => r.width > 0 && r.height > 0)) yield [node.data.trim(), el];
    }
  }

  // --- contrast, as WCAG 2.2 defines it (1.4.3, relative luminance)

  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  function rgba(color) {
    if (!known.has(color)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = color;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      known.set(color, [r, g, b, a / 255]);
    }
    return known.get(color);
  }
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const luminance = (color) => {
    const [r, g, b] = color.map((v) => { const x = v / 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };

  function ground(el) {
    const above = [];
    for (let at = el; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      above.push(color);
      if (color[3] === 1) break;
    }
    let under = document.documentElement.style.colorScheme === "dark" ? [18, 18, 18, 1] : [255, 255, 255, 1];
    for (const color of above.reverse()) under = over(color, under);
    return under;
  }

  function contrast(least) {
    const bad = [];
    for (const [text, el] of texts()) {
      if (el.closest("[disabled], [aria-disabled=true]") || spoken(el)) continue;
      const style = getComputedStyle(el);
      const under = ground(el);
      let ink = rgba(el instanceof SVGElement ? style.fill : style.color);
      for (let at = el; at; at = at.parentElement) ink = [ink[0], ink[1], ink[2], ink[3] * Number(getComputedStyle(at).opacity)];
      const found = ratio(over(ink, under), under);
      if (found < least) bad.push(`${found.toFixed(2)}:1 “${text.slice(0, 40)}” ${place(el)}`);
    }
    for (const el of document.querySelectorAll("input[placeholder], textarea[placeholder]")) {
      if (!seen(el) || el.value) continue;
      const under = ground(el);
      const found = ratio(over(rgba(getComputedStyle(el, "::placeholder").color), under), under);
      if (found < least) bad.push(`${found.toFixed(2)}:1 placeholder “${el.placeholder}” ${place(el)}`);
    }
    return bad;
  }

  // --- width and sizes

  const scrolls = (el) => {
    for (let at = el.parentElement; at && at !== document.body; at = at.parentElement) {
      if (/auto|scroll|hidden|clip/.test(getComputedStyle(at).overflowX)) return true;
    }
    return false;
  };

  function wide() {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    const bad = [];
    for (const el of document.body.querySelectorAll("*")) {
      const box = el.getBoundingClientRect();
      if (box.width && box.right > room + 1 && seen(el) && !scrolls(el)) bad.push(`${Math.round(box.right)} px of ${room}: ${place(el)}`);
    }
    return bad.length ? bad : [`the page is ${document.documentElement.scrollWidth} px wide in ${room}`];
  }

  /** Texts that are cut: wider than their box, which hides the rest and does not say so. */
  function cut() {
    const bad = [];
    for (const [text, el] of texts()) {
      if (spoken(el)) continue;
      const style = getComputedStyle(el);
      if (style.overflowX === "hidden" && style.textOverflow !== "ellipsis" && el.scrollWidth > el.clientWidth + 1) bad.push(`“${text.slice(0, 40)}” ${place(el)}`);
    }
    return bad;
  }

  const CONTROLS = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0'], [role=button], [role=tab], [role=switch]";
  const controls = () => [...document.querySelectorAll(CONTROLS)].filter((el) => seen(el) && !el.closest("[inert]"));

  function targets(least) {
    const bad = [];
    for (const el of controls()) {
      if (el.disabled || el.matches(".table, svg, .skip") || spoken(el)) continue;
      let box = el.getBoundingClientRect();
      // A link in a line of text is as high as its line (WCAG 2.5.8 excepts it).
      if (el.matches("a") && getComputedStyle(el).display === "inline" && el.closest("p, td, th, dd, li, figcaption, label, span")) continue;
      const label = el.labels?.[0];
      if (label) {
        const more = label.getBoundingClientRect();
        box = { width: Math.max(box.right, more.right) - Math.min(box.left, more.left), height: Math.max(box.bottom, more.bottom) - Math.min(box.top, more.top) };
      }
      if (box.width < least || box.height < least) bad.push(`${Math.round(box.width)} × ${Math.round(box.height)} ${place(el)} “${(el.innerText || el.getAttribute("aria-label") || "").slice(0, 30)}”`);
    }
    return bad;
  }

  // --- words

  const data = (el) => el.closest("code, pre, .id, .mono, .hostile, [lang=en], [translate=no], option[lang], textarea, .who, .brand") !== null;

  /** Words as `t` shows them when it knows none: the key itself. */
  function keys(all) {
    const names = new Set(all);
    const bad = [];
    const look = (text, el) => { if (names.has(text) || /^(state|reason|category|role|breaker|operator|gate|problem|page|unit|theme|live)\.[\w.-]+$/.test(text)) bad.push(`“${text}” ${place(el)}`); };
    for (const [text, el] of texts()) if (!data(el)) look(text, el);
    for (const el of document.querySelectorAll("[aria-label], [title], [placeholder]")) {
      for (const name of ["aria-label", "title", "placeholder"]) if (el.hasAttribute(name)) look(el.getAttribute(name), el);
    }
    for (const el of document.querySelectorAll("option")) look(el.textContent, el);
    return bad;
  }

  /** Places of words that are not filled: {n}. */
  function unfilled() {
    return [...texts()].filter(([text, el]) => !data(el) && /\{\w+\}/.test(text)).map(([text, el]) => `“${text.slice(0, 60)}” ${place(el)}`);
  }

  /** English sentences on a Chinese page: three words of small letters in a row, or a single word in a place of its own. */
  function english(allowed) {
    const may = new Set(allowed);
    const bad = [];
    const look = (text, el) => {
      // Files, command words of protocols, hexadecimal numbers and the like are names in every language.
      const plain = text.replace(/[\w./-]+\.(md|toml|csv|json)\b|\b0x[0-9A-Fa-f]+|\bSmsgw\w+|\b[A-Z][A-Z_]{2,}\b|\bp\d\d\b/g, " ");
      const words = plain.match(/[A-Za-z][A-Za-z'’-]*/g) ?? [];
      const strange = words.filter((w) => !may.has(w) && !may.has(w.toLowerCase()) && !/\d/.test(w));
      if (strange.length) bad.push(`“${text.slice(0, 80)}” [${strange.slice(0, 4).join(" ")}] ${place(el)}`);
    };
    for (const [text, el] of texts()) if (!data(el)) look(text, el);
    for (const el of document.querySelectorAll("[aria-label], [title], [placeholder]")) {
      if (data(el)) continue;
      for (const name of ["aria-label", "title", "placeholder"]) if (el.hasAttribute(name)) look(el.getAttribute(name), el);
    }
    return bad;
  }

  // --- structure and focus

  function structure() {
    const bad = [];
    const shown = (what) => [...document.querySelectorAll(what)].filter(seen);
    if (shown("h1").length !== 1) bad.push(`${shown("h1").length} h1`);
    for (const [what, n] of [["main", 1], ["header", 1]]) if (shown(what).length < n) bad.push(`no <${what}>`);
    if (document.querySelectorAll("nav[aria-label]").length < 1) bad.push("no named <nav>");
    let before = 1;
    for (const el of shown("main :is(h1, h2, h3, h4, h5, h6)")) {
      const level = Number(el.tagName[1]);
      if (level > before + 1) bad.push(`h${level} after h${before}: “${el.textContent.slice(0, 40)}”`);
      before = level;
    }
    for (const el of shown("main table")) {
      if (!el.querySelector("th[scope]")) bad.push(`a table without headers: ${place(el.parentElement)}`);
      if (!el.caption?.textContent.trim() && !el.getAttribute("aria-label") && !el.getAttribute("aria-labelledby")) bad.push(`a table without a name: ${place(el.parentElement)}`);
    }
    for (const el of shown("svg[role=img], svg:not([aria-hidden=true])")) {
      if (!el.closest("[aria-hidden=true]") && !el.getAttribute("aria-label") && !el.getAttribute("aria-labelledby") && !el.querySelector("title")) bad.push(`a picture without a name: ${place(el)}`);
    }
    const ids = [...document.querySelectorAll("[id]")].map((el) => el.id);
    for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) bad.push(`the id ${id} is there ${ids.filter((one) => one === id).length} times`);
    for (const el of document.querySelectorAll("[aria-labelledby], [aria-describedby], [aria-controls], label[for]")) {
      for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
        for (const id of (el.getAttribute(name) ?? "").split(/\s+/).filter(Boolean)) if (!document.getElementById(id)) bad.push(`${name} names ${id}, which is not there: ${place(el)}`);
      }
    }
    return bad;
  }

  /** The controls that Tab has to reach; a group of radio buttons is one stop. */
  function tabbable() {
    const groups = new Set();
    return controls().filter((el) => {
      if (el.disabled || el.tabIndex < 0) return false;
      if (el.type === "radio") { if (groups.has(el.name)) return false; groups.add(el.name); }
      return true;
    });
  }
  let stops = [];
  function beginTabs() { stops = tabbable(); document.activeElement?.blur(); getSelection()?.removeAllRanges(); window.focus(); return stops.length; }
  const reached = new Set();
  /** Where the focus is now, and whether it shows. */
  function focusNow() {
    const el = document.activeElement;
    if (!el || el === document.body) return null;
    reached.add(el.type === "radio" ? stops.find((s) => s.name === el.name && s.type === "radio") ?? el : el);
    const style = getComputedStyle(el);
    const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const box = el.getBoundingClientRect();
    const inView = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    return { what: place(el), ring, inView };
  }
  function unreached() { return stops.filter((el) => el.isConnected && !reached.has(el)).map(place); }

  return window.__looks = { contrast, wide, cut, targets, keys, unfilled, english, structure, beginTabs, focusNow, unreached };
})();
