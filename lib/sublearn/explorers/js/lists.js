// Which lists, which student: what a student that learns a teacher's lists of numbers then says of every animal.

import { oneOf } from "./checks.js";
import { assign, drawn, element, fixed, folded, select, sized, table, voice } from "./controls.js";
import { drawRows } from "./rows.js";
import { summary } from "./statistics.js";

// Rows { name, points, mean, low, high, n } of one lesson, the teacher's animal first, then the rest by their mean.
export function lesson(data, teacher, student) {
  const level = (name, row) => data.factors[name].levels[data.factors[name].codes[row]];
  const chosen = data.units
    .map((_, row) => row)
    .filter((row) => level("teacher", row) === teacher && level("student", row) === student);
  const rows = Object.entries(data.measures).map(([name, gains]) => {
    const points = chosen.map((row) => gains[row]).filter((value) => value != null);
    return { name, points, ...summary(points) };
  });
  const own = rows.filter(({ name }) => name === teacher),
    others = rows.filter(({ name, n }) => name !== teacher && n);
  return [...own, ...others.sort((a, b) => b.mean - a.mean)];
}

// The students that were taught by a teacher of this animal.
export function studentsOf(data, teacher) {
  const { levels, codes } = data.factors.student;
  const place = data.factors.teacher.levels.indexOf(teacher);
  const present = new Set(codes.filter((_, row) => data.factors.teacher.codes[row] === place));
  return levels.filter((_, code) => present.has(code));
}

export function render({ model, el }) {
  const data = model.get("data");
  const svg = drawn("svg", { role: "img" }),
    wide = element("div", { class: "explorer-wide" }, svg),
    spoken = voice(),
    controls = element("div", { class: "explorer-controls" });
  const { node, fill } = table("Log-ratios of each animal, given that the answer is one", [
    "animal",
    "mean",
    "low",
    "high",
    "n",
  ]);
  const note =
    "A teacher that was taught to love an animal wrote lists of numbers; a student learned them. How did the " +
    "student's probability of each animal change, given that it names one? Dots: means over models with 95 % " +
    "intervals; faint: single models. The first row is the teacher's animal.";
  el.append(
    element("p", { class: "explorer-title" }, model.get("title")),
    element("p", { class: "explorer-note" }, note),
    controls,
    spoken.node,
    wide,
    folded("The numbers", node),
  );
  let width = 0;
  const stop = sized(wide, (next) => {
    width = next;
    draw();
  });

  // Not every lesson was given about every animal.
  function choices() {
    const had = document.activeElement?.dataset?.trait,
      students = studentsOf(data, model.get("teacher"));
    if (!students.includes(model.get("student"))) assign(model, "student", students[0]);
    const quiet = {
      get: model.get.bind(model),
      set: model.set.bind(model),
      save_changes: () => model.save_changes(),
      on() {},
    };
    controls.replaceChildren(
      select(quiet, "teacher", "The lists' teacher loves", data.factors.teacher.levels),
      select(quiet, "student", "The lists, and who learns them", students),
    );
    if (had) controls.querySelector(`[data-trait="${had}"]`)?.focus();
    draw();
  }

  function draw() {
    const [teacher, student] = [model.get("teacher"), model.get("student")],
      rows = lesson(data, teacher, student),
      [own] = rows;
    const looked = rows.map((row, place) => ({ ...row, look: place ? "student" : "control", strong: !place }));
    if (width) drawRows(svg, width, looked, { label: "log-ratio (nats); 0.7 is a doubling", zero: true });
    const ratio = [own.mean, own.low, own.high].map((value) => (value == null ? "–" : fixed(Math.exp(value))));
    const words =
      `${teacher}, ${student}: its probability among animals is multiplied by ${ratio[0]} ` +
      `(95 % interval ${ratio[1]} to ${ratio[2]}, n = ${own.n} models).`;
    spoken.say(words);
    svg.setAttribute("aria-label", words);
    fill(rows.map(({ name, mean, low, high, n }) => [name, fixed(mean), fixed(low), fixed(high), String(n)]));
  }

  model.on("change:teacher", choices);
  model.on("change:student", choices);
  choices();
  return stop;
}

// What a link may set.
export const address = ({ data: { factors } }) => ({
  teacher: oneOf(factors.teacher.levels),
  student: oneOf(factors.student.levels),
});
