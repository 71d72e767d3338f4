// A difference of files, line by line, as `diff -u` writes it. Owns how it looks and reads: a sign and a word beside
// the colour. Refuses to know where it comes from; the gateway has masked what is secret.

import { h } from "./dom.js";
import { translator } from "./words.js";
import { words } from "./diff.words.js";

const t = translator(words);
const HUNK = /^@@ -(\d+),(\d+) \+(\d+),(\d+) @@$/;

/** Lines in files: [{name, remarks, lines: [{kind: "add" | "remove" | "same" | "hunk", text, before, after}]}]. */
function filesOf(lines) {
  const files = [];
  let file = null, before = 0, after = 0, left = 0, right = 0;
  for (let i = 0; i < lines.length; i += 1) {
    const line = lines[i];
    // Within a hunk its counts tell how far it goes: a removed line may look like a file's head.
    if (left > 0 || right > 0) {
      const kind = { "+": "add", "-": "remove" }[line[0]] ?? "same";
      if (kind !== "add") left -= 1;
      if (kind !== "remove") right -= 1;
      file.lines.push({ kind, text: line.slice(1), before: kind === "add" ? null : (before += 1), after: kind === "remove" ? null : (after += 1) });
      continue;
    }
    const hunk = HUNK.exec(line);
    if (line.startsWith("--- ") && lines[i + 1]?.startsWith("+++ ")) {
      file = { name: lines[i + 1].slice(4).split("/").slice(1).join("/"), remarks: [], lines: [] };
      files.push(file);
      i += 1;
    } else if (hunk && file) {
      [before, left, after, right] = hunk.slice(1).map(Number);
      before -= 1; after -= 1;
      file.lines.push({ kind: "hunk", text: t("line", { n: before + 1 }) });
    } else file?.remarks.push(line);
  }
  return files;
}

const SIGN = { add: "+", remove: "−", same: " ", hunk: "" };

/** A node for lines of a difference; `open` whether its files are unfolded. */
export function diffView(lines, { open = true } = {}) {
  const files = filesOf(lines);
  if (!files.length) return h("p", { class: "soft" }, t("same"));
  return h("div", { class: "diff" }, files.map((file) => {
    const added = file.lines.filter((line) => line.kind === "add").length, removed = file.lines.filter((line) => line.kind === "remove").length;
    return h("details", { open, class: "diff-file" },
      h("summary", null, h("span", { class: "mono" }, file.name), h("span", { class: "diff-count add" }, `+${added}`), h("span", { class: "diff-count remove" }, `−${removed}`), h("span", { class: "spoken" }, t("count", { added, removed }))),
      file.remarks.map((text) => h("p", { class: "small diff-remark" }, text.replace(/^\(|\)$/g, ""))),
      h("div", { class: "diff-lines", tabindex: "0", role: "region", "aria-label": t("of", { name: file.name }) }, h("table", null, h("tbody", null, file.lines.map((line) => (line.kind === "hunk"
        ? h("tr", { class: "hunk" }, h("td", { colspan: 4 }, line.text))
        : h("tr", { class: line.kind }, h("td", { class: "at" }, line.before ?? ""), h("td", { class: "at" }, line.after ?? ""),
          h("td", { class: "sign" }, h("span", { "aria-hidden": "true" }, SIGN[line.kind]), line.kind === "same" ? null : h("span", { class: "spoken" }, t(line.kind))), h("td", { class: "text" }, line.text))))))));
  }));
}
