// Files that leave the page: CSV of what is shown, and saving. Owns the guard against cells that a spreadsheet would
// take for a formula: they get a leading apostrophe, as the gateway's own CSV has it.

const FORMULA = /^[=+\-@\t\r]/;

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
