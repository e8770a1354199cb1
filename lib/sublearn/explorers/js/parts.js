// Choose which parts of the start a student shares and how many logits it learns through: what it reads, what each of
// the four terms costs it, and in what its features are like its teacher's.

import { oneOf, someOf } from "./checks.js";
import { checks, drawn, element, fixed, folded, follow, select, sized, table, voice } from "./controls.js";
import { drawRows } from "./rows.js";
import { paired, summary } from "./statistics.js";

const PARTS = [
  ["hidden", "hidden layers"],
  ["class_head", "class head"],
  ["aux_head", "auxiliary head"],
];
const LOOKS = ["student", "control", "teacher"];

// Values { unit, value } of a measure, of the students that share these parts and have so many logits.
export function values(data, shared, logits, measure) {
  const level = (name, row) => data.factors[name].levels[data.factors[name].codes[row]];
  const rows = data.units.map((unit, row) => ({ unit, row, value: data.measures[measure][row] }));
  return rows.filter(({ row }) => level("shared", row) === shared && level("logits", row) === logits);
}

function names(shared) {
  const texts = PARTS.filter(([part]) => shared.includes(part)).map(([, text]) => text);
  return texts.length ? `Shared: ${texts.join(", ")}` : "Nothing shared";
}

const span = ({ low, high, n }) => `95 % interval ${fixed(low)} to ${fixed(high)}, n = ${n} models`;

// The term without which accuracy would be largest, with the paired change that leaving it out makes.
export function costliest(data, shared, logits, terms) {
  const whole = values(data, shared, logits, "accuracy");
  const changes = terms.map((measure) => ({ measure, ...paired(values(data, shared, logits, measure), whole) }));
  return changes.reduce((best, change) => (change.mean > best.mean ? change : best));
}

export function render({ model, el }) {
  const data = model.get("data"),
    groups = model.get("groups");
  const svg = drawn("svg", { role: "img" }),
    wide = element("div", { class: "explorer-wide" }, svg),
    spoken = voice();
  const { node, fill } = table("Answers and likeness with 95 % intervals", ["measure", "mean", "low", "high", "n"]);
  const note =
    "Dots are means over models with 95 % intervals; faint ones are single models. From above: what is read of the " +
    "student; the accuracy that it would have without one term of its difference from its teacher; in what its " +
    "features and weights are like its teacher's.";
  el.append(
    element("p", { class: "explorer-title" }, model.get("title")),
    element("p", { class: "explorer-note" }, note),
    element(
      "div",
      { class: "explorer-controls" },
      checks(model, "shared", "Shared with the teacher's start", PARTS),
      select(model, "logits", "Auxiliary logits", data.factors.logits.levels),
    ),
    wide,
    spoken.node,
    folded("The numbers", node),
  );
  let width = 0;
  const stop = sized(wide, (next) => {
    width = next;
    draw();
  });

  function draw() {
    const chosen = model.get("shared"),
      logits = model.get("logits");
    const shared = PARTS.map(([part]) => part)
      .filter((part) => chosen.includes(part))
      .join("+");
    const rows = groups.flatMap((measures, place) =>
      measures.map((measure) => {
        const points = values(data, shared, logits, measure).map(({ value }) => value);
        return { name: measure, points, look: LOOKS[place], ...summary(points, measure) };
      }),
    );
    const accuracy = rows.find(({ name }) => name === "accuracy"),
      worst = costliest(data, shared, logits, groups[1]);
    const change = `${fixed(worst.mean)} (${span(worst)}, paired)`;
    const words =
      `${names(chosen)}; ${logits} logits: the student reads ${fixed(accuracy.mean)} (${span(accuracy)}). ` +
      `The costliest term: ${worst.measure} its accuracy would change by ${change}.`;
    if (width) drawRows(svg, width, rows, { label: "accuracy, or likeness to the teacher" });
    spoken.say(words);
    svg.setAttribute("aria-label", words);
    fill(rows.map(({ name, mean, low, high, n }) => [name, fixed(mean, 3), fixed(low, 3), fixed(high, 3), String(n)]));
  }
  for (const name of ["shared", "logits"]) follow(model, name, draw);
  return stop;
}

// What a link may set.
export const address = ({ data }) => ({
  shared: someOf(PARTS.map(([part]) => part)),
  logits: oneOf(data.factors.logits.levels),
});
