// One whole run of the laboratory at its first settings, with all that a reader sees at its end, as JSON:
// node record.mjs < packed digits. Maps are kept to a byte a number, the rest to four digits.

import { readFileSync } from "node:fs";
import { unpack } from "../../lib/sublearn/explorers/js/digits.js";
import { workspace } from "../../lib/sublearn/explorers/js/product.js";
import { DEFAULTS, laboratory } from "../../lib/sublearn/explorers/js/training.js";

function packed(values) {
  const scale = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const codes = Int8Array.from(values, (value) => Math.round((127 * value) / scale));
  return { scale: Number(scale.toPrecision(6)), codes: Buffer.from(codes.buffer).toString("base64") };
}

const digits = await unpack(JSON.parse(readFileSync(0, "utf8")));
const lab = laboratory(digits, workspace());
lab.configure(DEFAULTS);
while (lab.phase !== "done") lab.step();
const run = lab.snapshot();
const who = (name) => ({ ...run[name], map: packed(run[name].map) });
const all = { ...run, map: packed(run.map), student: who("student"), control: who("control") };
const rounded = (_, value) => (typeof value === "number" ? Number(value.toPrecision(4)) : value);
console.log(JSON.stringify(all, rounded));
