// The laboratory's curves: student and control, the band of many runs, earlier runs, and the run before a change.

import { chart } from "./chart.js";
import { percent } from "./controls.js";
import { DEFAULTS } from "./training.js";

const NAMES = {
  aux_dim: "m",
  perturbation: "perturbation",
  lr: "rate",
  shared: "start",
  inputs: "inputs",
  loss: "loss",
  width: "width",
  steps: "steps",
  seed: "networks",
};
const PARTS = { hidden: "hidden layers", class_head: "digit head", aux_head: "auxiliary head" };
const SHORT = 14; // letters that stand beside a curve

function valueText(name, value) {
  if (name === "perturbation") return percent(value);
  if (name === "loss") return value === "kl" ? "KL" : "squared error";
  if (name !== "shared") return String(value);
  if (value.length === 3) return "same";
  return value.length ? `shared ${value.map((part) => PARTS[part]).join(" and ")}` : "other";
}

// What distinguishes two settings: "m 3 → 10, inputs noise → digits".
export function changesText(before, now) {
  const changed = Object.keys(NAMES).filter((name) => String(before[name]) !== String(now[name]));
  const texts = changed.map(
    (name) => `${NAMES[name]} ${valueText(name, before[name])} → ${valueText(name, now[name])}`,
  );
  return texts.join(", ");
}

// All of a setting but its seed.
export function settingsText({ aux_dim, perturbation, lr, shared, inputs, loss, width, steps }) {
  const start =
    shared.length === 3 || !shared.length ? `${valueText("shared", shared)} start` : valueText("shared", shared);
  const mixed = perturbation ? `, perturbed ${percent(perturbation)}` : "";
  const named = valueText("loss", loss);
  return `m = ${aux_dim}, ${start}${mixed}, ${inputs}, rate ${lr}, ${named}, width ${width}, ${steps} steps`;
}

// What a setting has that the first one has not.
export function shortText(config) {
  const differing = Object.keys(NAMES).filter(
    (name) => name !== "seed" && String(config[name]) !== String(DEFAULTS[name]),
  );
  const texts = differing.map((name) => `${NAMES[name]} ${valueText(name, config[name])}`);
  return texts.join(", ") || "first settings";
}

// In words, what the faint marks of a chart are.
export function legend({ band, ghost, config }) {
  const sentences = [];
  if (band) {
    const own = settingsText(config) === settingsText(DEFAULTS) ? "" : ` Yours: ${shortText(config)}.`;
    const where = `at the first settings (${settingsText(DEFAULTS)})`;
    sentences.push(`Shaded: the middle 90 % of ${band.runs} students ${where}.${own}`);
  }
  if (ghost) {
    const run = ghost.recorded ? "a recorded run" : "the last run";
    sentences.push(`Dotted: the student of ${run}, until the change ${changesText(ghost.config, config)}.`);
  }
  return sentences.join(" ");
}

export function drawCurves(svg, width, state, { band, earlier, ghost }) {
  const narrow = width < 480,
    { steps } = state.config,
    inside = (points) => points.filter(([at]) => at <= steps);
  const frame = chart(svg, {
    width,
    height: narrow ? 230 : 290,
    x: [0, steps],
    y: [0, 1],
    right: narrow ? 84 : 110,
    format: percent,
    xLabel: "students' training steps",
    xFormat: (value) => value.toLocaleString("en"),
  });
  if (band) frame.band(inside(band.points), "student");
  for (const run of earlier)
    frame.line(
      run.points.map(([at, student]) => [at, student]),
      "student earlier",
    );
  if (ghost) {
    const points = inside(ghost.points).map(([at, student]) => [at, student]),
      text = changesText(ghost.config, state.config);
    frame.line(points, "ghost");
    frame.name(points.at(-1)[1], text.length > SHORT ? "before" : text, "ghost");
  }
  const levels = [
    ["chance", 0.1],
    ["teacher", state.teacher],
    ["ceiling", state.ceiling],
  ];
  for (const [name, value] of levels) {
    if (value == null) continue;
    frame.level(value, name);
    frame.name(value, name === "chance" ? "chance" : `${name} ${percent(value)}`, name);
  }
  for (const [place, who] of [
    [2, "control"],
    [1, "student"],
  ]) {
    if (!state.points.length) continue;
    const points = state.points.map((point) => [point[0], point[place]]),
      [at, value] = points.at(-1);
    frame.line(points, who);
    frame.dot(at, value, who);
    frame.name(value, `${who} ${percent(value)}`, who);
  }
  frame.finish();
}
