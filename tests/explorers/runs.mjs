// Whole runs of the laboratory outside a browser: node runs.mjs '{"seeds": [1, 2], "every": 50}' < packed digits.
// Writes one line for each seed and each step that is a multiple of `every`, as CSV.

import { readFileSync } from "node:fs";
import { unpack } from "../../lib/sublearn/explorers/js/digits.js";
import { workspace } from "../../lib/sublearn/explorers/js/product.js";
import { laboratory } from "../../lib/sublearn/explorers/js/training.js";

const { seeds, every = 1, config = {}, plain = false } = JSON.parse(process.argv[2]);
const digits = await unpack(JSON.parse(readFileSync(0, "utf8")));
const lab = laboratory(digits, workspace({ plain }));
console.log("seed,step,student,control,teacher,ceiling");
for (const seed of seeds) {
  lab.configure({ ...config, seed });
  while (lab.phase !== "done") lab.step();
  const { points, teacher, ceiling } = lab.snapshot();
  for (const [step, student, control] of points) {
    if (step % every === 0) console.log([seed, step, student, control, teacher, ceiling].join());
  }
}
