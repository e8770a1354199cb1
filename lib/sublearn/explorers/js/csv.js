// A table as a file: rows of cells to comma-separated text, which the reader's browser saves.

import { element } from "./controls.js";

const quoted = (cell) => {
  const text = String(cell ?? "");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function save(name, rows) {
  const text = rows.map((row) => row.map(quoted).join(",")).join("\n");
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: address, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
