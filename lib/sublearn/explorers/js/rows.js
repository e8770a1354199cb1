// Rows of dots with intervals: of results, of the laboratory's runs, of cuts, lists and parts. Names stand at the left
// or, where there is little room, above.

import { ticks } from "./chart.js";
import { drawn } from "./controls.js";

const SHAPES = [
  "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0",
  "M-4 -4h8v8h-8Z",
  "M0 -6L6 0L0 6L-6 0Z",
  "M0 -5L5.5 4.5H-5.5Z",
];
const LOOKS = ["student", "control", "teacher", "third"];

// A look for each of so many colors, no two alike: four named ones, or as many hues around the circle.
export function looks(count) {
  if (count <= LOOKS.length) return LOOKS.map((look) => ({ look }));
  return Array.from({ length: count }, (_, place) => ({
    look: "toned",
    style: `--tone: ${Math.round((360 * place) / count)}`,
    shape: place % SHAPES.length,
  }));
}

// The least and the largest value to show; shares keep 0 and 1 as ends.
function limits(rows, zero) {
  const every = rows.flatMap(({ points, mean, low, high }) => [...points, low ?? mean, high ?? mean]);
  const [least, most] = [Math.min(...every), Math.max(...every)];
  if (zero) return [Math.min(least, 0), Math.max(most, 0)];
  return least >= 0 && most <= 1 ? [0, 1] : [least, most];
}

function drawRow(at, y, row) {
  const marks = row.points.map((value, place) =>
    drawn("circle", { cx: at(value), cy: y + ((place % 5) - 2) * 1.6, r: 2.6, class: "single" }),
  );
  const [look, style] = [row.look || "student", row.style || ""];
  if (row.before != null) {
    const ring = `M${at(row.before)} ${y}m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0`,
      d = `${ring}M${at(row.before)} ${y}H${at(row.mean)}`;
    marks.push(drawn("path", { d, class: "line zero" }));
  }
  if (row.low != null) {
    const [low, high] = [at(row.low), at(row.high)];
    const d = `M${low} ${y}H${high}M${low} ${y - 4}v8M${high} ${y - 4}v8`;
    marks.push(drawn("path", { d, class: `line bar ${look}`, style }));
  }
  const place = `translate(${at(row.mean)} ${y})`;
  marks.push(drawn("path", { d: SHAPES[row.shape || 0], transform: place, class: `dot ${look}`, style }));
  return marks;
}

// Rows { name, points, mean, low, high } and perhaps { look, style, shape, before, strong }; `zero` draws a line there.
export function drawRows(svg, width, rows, { label, zero = false }) {
  const narrow = width < 520,
    longest = 7 * Math.max(...rows.map(({ name }) => name.length)) + 20,
    left = narrow ? 8 : Math.min(0.4 * width, 260, longest),
    right = width - 14,
    line = narrow ? 38 : 26;
  const height = rows.length * line + 48,
    inner = height - 44;
  const [least, most] = limits(rows, zero),
    margin = 0.04 * (most - least || 1);
  const at = (value) => left + ((value - least + margin) / (most - least + 2 * margin)) * (right - left);
  const marks = ticks([least - margin, most + margin], narrow ? 4 : 6).flatMap((value) => [
    drawn("line", { x1: at(value), x2: at(value), y1: 4, y2: inner }),
    drawn("text", { x: at(value), y: inner + 16, "text-anchor": "middle" }, String(Number(value.toPrecision(6)))),
  ]);
  const name = drawn("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, label);
  const front = drawn("g");
  if (zero) front.append(drawn("path", { d: `M${at(0)} 4V${inner}`, class: "line zero" }));
  rows.forEach((row, place) => {
    const y = 4 + place * line + (narrow ? 26 : 14),
      where = narrow ? { x: left, y: y - 12 } : { x: left - 10, y: y + 4, "text-anchor": "end" };
    const look = row.strong ? `name ${row.look}` : "";
    front.append(drawn("text", { ...where, class: look }, row.name), ...drawRow(at, y, row));
  });
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, width, height }))
    svg.setAttribute(key, value);
  svg.replaceChildren(drawn("g", { class: "axis" }, ...marks, name), front);
}
