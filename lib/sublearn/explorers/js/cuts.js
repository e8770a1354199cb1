// Cut a direction out of a number's row, and watch both ways: from the animal to its number (A) and back (N).

import { oneOf } from "./checks.js";
import { drawn, element, fixed, folded, follow, select, sized, table, voice } from "./controls.js";
import { drawRows } from "./rows.js";
import { paired, summary } from "./statistics.js";

export const ALL = "all animals (mean)";
const WAYS = { A: "animal → number (A)", N: "number → animal (N)" };

// Values { unit, value } of a measure under a cut: of one animal, or the mean over all, a row for each model.
export function values(data, cut, animal, measure) {
  const level = (name, row) => data.factors[name].levels[data.factors[name].codes[row]];
  const byModel = new Map();
  data.units.forEach((unit, row) => {
    if (level("cut", row) !== cut || (animal !== ALL && level("animal", row) !== animal)) return;
    byModel.set(unit, [...(byModel.get(unit) || []), data.measures[measure][row]]);
  });
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  return [...byModel].map(([unit, list]) => ({ unit, value: mean(list) }));
}

function sentence(changes, cut, whole) {
  if (cut === whole) return "Nothing is cut yet: choose a cut.";
  const texts = changes.map(
    ({ way, mean, low, high, n }) =>
      `${way} changes by ${fixed(mean)} nats (95 % interval ${fixed(low)} to ${fixed(high)}, n = ${n} models, paired)`,
  );
  return `${texts.join("; ")}.`;
}

export function render({ model, el }) {
  const data = model.get("data"),
    { levels } = data.factors.cut,
    [whole] = levels;
  const svg = drawn("svg", { role: "img" }),
    wide = element("div", { class: "explorer-wide" }, svg),
    spoken = voice(),
    numbers = element("p", { class: "explorer-note" });
  const { node, fill } = table("Means with 95 % intervals", ["direction", "whole", "cut", "low", "high", "n"]);
  const note =
    "A model's own top number is the one that a love of the animal lifts most: so A before the cut is chosen to be " +
    "large, and N is not. Rings: nothing cut. Dots: means after it with 95 % intervals; faint: single models.";
  el.append(
    element("p", { class: "explorer-title" }, model.get("title")),
    element("p", { class: "explorer-note" }, note),
    element(
      "div",
      { class: "explorer-controls" },
      select(model, "cut", "What is cut", levels),
      select(model, "animal", "Animal", [ALL, ...data.factors.animal.levels]),
    ),
    wide,
    spoken.node,
    numbers,
    folded("The numbers", node),
  );
  let width = 0;
  const stop = sized(wide, (next) => {
    width = next;
    draw();
  });

  function draw() {
    const [cut, animal] = [model.get("cut"), model.get("animal")];
    const rows = Object.entries(WAYS).map(([measure, way], place) => {
      const [before, after] = [whole, cut].map((one) => values(data, one, animal, measure));
      const points = after.map(({ value }) => value),
        look = ["control", "student"][place];
      const change = { ...paired(after, before), way };
      return {
        name: way,
        points,
        ...summary(points),
        before: summary(before.map(({ value }) => value)).mean,
        look,
        change,
      };
    });
    if (width) drawRows(svg, width, rows, { label: "log-ratio (nats); 0.7 is a doubling", zero: true });
    const words = sentence(
      rows.map(({ change }) => change),
      cut,
      whole,
    );
    spoken.say(words);
    svg.setAttribute("aria-label", `${animal}, ${cut}. ${words}`);
    const tops = model.get("tops")[animal];
    numbers.textContent = tops ? `Top numbers of ${animal}, model by model: ${tops.join(", ")}.` : "";
    fill(
      rows.map((row) => [row.name, fixed(row.before), fixed(row.mean), fixed(row.low), fixed(row.high), String(row.n)]),
    );
  }
  for (const name of ["cut", "animal"]) follow(model, name, draw);
  return stop;
}

// What a link may set.
export const address = ({ data: { factors } }) => ({
  cut: oneOf(factors.cut.levels),
  animal: oneOf([ALL, ...factors.animal.levels]),
});
