// Steps per second of the laboratory's training, with its product in WebAssembly and in plain loops:
// node bench.mjs < packed digits (`make bench` runs it). The programs take turns, and the best of their turns counts.

import { readFileSync } from "node:fs";
import { unpack } from "../../lib/sublearn/explorers/js/digits.js";
import { workspace } from "../../lib/sublearn/explorers/js/product.js";
import { laboratory } from "../../lib/sublearn/explorers/js/training.js";

const TURNS = 10;
const STEPS = 100;

const digits = await unpack(JSON.parse(readFileSync(0, "utf8")));
const programs = [false, true].map((plain) => {
  const lab = laboratory(digits, workspace({ plain }));
  lab.configure({ steps: 2 * TURNS * STEPS });
  while (lab.phase === "teacher") lab.step();
  return { name: plain ? "plain loops" : "WebAssembly", lab, best: 0 };
});
for (let turn = 0; turn < TURNS; turn++) {
  for (const program of programs) {
    const start = performance.now();
    for (let step = 0; step < STEPS; step++) program.lab.step();
    const speed = (1000 * STEPS) / (performance.now() - start);
    program.best = Math.max(program.best, speed);
  }
}
for (const { name, best } of programs) console.log(`laboratory, ${name}: ${Math.round(best)} steps per second`);
