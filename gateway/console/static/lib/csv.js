// Files that leave the page, and those that are read in it: CSV of what is shown, saving, lines of a large file. Owns the
// guard against cells that a spreadsheet would take for a formula: they get a leading apostrophe, as the gateway's own
// CSV has it, and imports take it off again.

const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;  // in full width too: spreadsheets in Chinese and Japanese take it as well

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);  // ours, and may be negative
  const text = FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows of texts and numbers as CSV (RFC 4180), the first one being the titles. */
export const toCsv = (rows) => rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";

/** Hand a file to the browser, which saves it under `name`. `content` is a Blob or a text. */
export function saveFile(name, content, type = "text/csv;charset=utf-8") {
  // U+FEFF: without it spreadsheets do not take a text for UTF-8.
  const blob = content instanceof Blob ? content : new Blob(["\uFEFF", content], { type });
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The cells of one line, or null where it is no CSV (a quote that is not closed, or in the middle of a cell). */
export function readLine(text) {
  const cells = [];
  let at = 0;
  for (;;) {
    if (text[at] === '"') {
      let value = "";
      for (;;) {
        const end = text.indexOf('"', at + 1);
        if (end < 0) return null;
        value += text.slice(at + 1, end);
        at = end + 1;
        if (text[at] !== '"') break;
        value += '"';
      }
      cells.push(value);
      if (at < text.length && text[at] !== ",") return null;
    } else {
      const end = text.indexOf(",", at);
      cells.push(text.slice(at, end < 0 ? text.length : end));
      at = end < 0 ? text.length : end;
    }
    if (at >= text.length) return cells;
    at += 1;
  }
}

/** The lines of a file as they are read: yields {number, text, read (octets so far)}; the file is never held as a whole. */
export async function* lines(file, signal) {
  const reader = file.stream().getReader();
  const decoder = new TextDecoder("utf-8");
  let rest = "", read = 0, number = 0;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await reader.read();
      if (value) read += value.byteLength;
      rest += decoder.decode(value, { stream: !done });
      const found = rest.split(/\r\n|\n|\r(?!$)/);
      rest = done ? "" : found.pop();
      for (const text of found) yield { number: (number += 1), text, read };
      if (done) return;
    }
  } finally { reader.cancel().catch(() => {}); }
}
