// What the laboratory shows beside its curves: an input, ten test digits with answers, the map of features.

import { drawn, element, fixed, percent } from "./controls.js";

const SIDE = 8;
const WIDE = 340,
  HIGH = 260;

function paint(canvas, pixels) {
  const context = canvas.getContext("2d"),
    image = context.createImageData(SIDE, SIDE);
  for (let at = 0; at < SIDE * SIDE; at++) {
    const ink = Math.round(255 * (1 - (pixels[at] + 1) / 2));
    image.data.set([ink, ink, ink, 255], 4 * at);
  }
  context.putImageData(image, 0, 0);
}

const picture = (label) => element("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": label });

// One input of the step with its auxiliary logits: bars for the student, rings for the teacher.
export function inputPanel() {
  const canvas = picture("One input of the latest step"),
    bars = drawn("svg", { class: "explorer-bars", "aria-hidden": "true" });
  const note = element("figcaption");
  const node = element("figure", { class: "explorer-input" }, canvas, bars, note);
  paint(canvas, new Array(SIDE * SIDE).fill(-1));
  return {
    node,
    show(tile, config) {
      const kind = config.inputs === "digits" ? "digits (the students get no labels)" : "noise images";
      note.textContent = tile
        ? `One of this step's 64 ${kind}. Rings: the teacher's auxiliary logits for it; bars: the student's.`
        : `The students will be shown 64 ${kind} in each step.`;
      bars.replaceChildren();
      if (!tile) return;
      paint(canvas, tile.input);
      const high = 120 / Math.max(5, tile.teacher.length),
        most = Math.max(0.5, ...tile.teacher.map(Math.abs), ...tile.student.map(Math.abs));
      bars.setAttribute("viewBox", "0 0 120 124");
      bars.append(drawn("line", { x1: 60, x2: 60, y1: 0, y2: 124 }));
      tile.teacher.forEach((target, place) => {
        const y = 2 + high * place + high / 2,
          x = 54 * (tile.student[place] / most);
        bars.append(
          drawn("rect", {
            x: 60 + Math.min(0, x),
            y: y - high * 0.3,
            width: Math.abs(x),
            height: high * 0.6,
            class: "fill student",
          }),
        );
        bars.append(
          drawn("circle", { cx: 60 + (54 * target) / most, cy: y, r: Math.min(5, high * 0.4), class: "line teacher" }),
        );
      });
    },
  };
}

// Ten test digits and what both students answer; right answers carry a tick, so that color is not all.
export function digitsPanel(digits) {
  const places = Array.from({ length: 10 }, (_, digit) => digits.testLabels.indexOf(digit));
  const pictures = places.map((place, digit) => {
    const canvas = picture(`a ${digit}`);
    paint(canvas, digits.test.subarray(place * 64, place * 64 + 64));
    return element("th", { scope: "col" }, canvas);
  });
  const rows = {
    student: Array.from({ length: 10 }, () => element("td")),
    control: Array.from({ length: 10 }, () => element("td")),
  };
  const line = (who) => element("tr", { class: who }, element("th", { scope: "row" }, who), ...rows[who]);
  const caption = element(
    "caption",
    {},
    "Ten test digits, and what the never trained digit heads of both students say",
  );
  const head = element("tr", {}, element("th", { scope: "row" }, "digit"), ...pictures);
  const node = element(
    "table",
    { class: "explorer-digits" },
    caption,
    element("tbody", {}, head, line("student"), line("control")),
  );
  return {
    node,
    show(state) {
      for (const who of ["student", "control"]) {
        rows[who].forEach((cell, digit) => {
          const prediction = state[who].predictions?.[digit];
          cell.textContent = prediction == null ? "–" : prediction === digit ? `${prediction} ✓` : String(prediction);
          cell.classList.toggle("right", prediction === digit);
        });
      }
    },
  };
}

// Test digits in the plane of the teacher's leading components: the teacher's clouds and those of one student.
export function mapPanel(labels, choice) {
  const svg = drawn("svg", { class: "explorer-map", role: "img" }),
    note = element("figcaption");
  const node = element("figure", { class: "explorer-beside" }, svg, element("div", {}, choice, note));
  const clouds = (map, place) => Array.from(map, (value, at) => (at % 2 ? "" : place(value, map[at + 1])));
  const centers = (map) =>
    Array.from({ length: 10 }, (_, digit) => {
      const sum = [0, 0, 0];
      labels.forEach((label, at) => {
        if (label !== digit) return;
        sum[0] += map[2 * at];
        sum[1] += map[2 * at + 1];
        sum[2]++;
      });
      return [sum[0] / sum[2], sum[1] / sum[2]];
    });
  return {
    node,
    show(state, who) {
      const network = state[who];
      if (!state.map || !network.map) {
        svg.replaceChildren();
        note.textContent = "The map is drawn when the teacher is ready.";
        svg.setAttribute("aria-label", note.textContent);
        return;
      }
      const limits = [0, 1].map((axis) => {
        const values = state.map.filter((_, place) => place % 2 === axis);
        return [Math.min(...values), Math.max(...values)];
      });
      const scale = Math.min((WIDE - 24) / (limits[0][1] - limits[0][0]), (HIGH - 24) / (limits[1][1] - limits[1][0]));
      const along = (axis, size, value) => size / 2 + scale * (value - (limits[axis][0] + limits[axis][1]) / 2);
      const at = (x, y) => [along(0, WIDE, x).toFixed(1), (HIGH - along(1, HIGH, y)).toFixed(1)];
      const point = (x, y) => `M${at(x, y).join(" ")}h0`;
      const numerals = (map, look) =>
        centers(map).map((center, digit) => {
          const [x, y] = at(...center);
          return drawn("text", { x, y, dy: 5, "text-anchor": "middle", class: `name ${look}` }, digit);
        });
      svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
      svg.replaceChildren(
        drawn("path", { d: clouds(state.map, point).join(""), class: "cloud teacher" }),
        drawn("path", { d: clouds(network.map, point).join(""), class: `cloud ${who}` }),
        ...numerals(state.map, "teacher"),
        ...numerals(network.map, who),
      );
      const [first, second] = network.agreement.map((value) => fixed(value));
      const text =
        `Each dot is one of ${labels.length} test digits as the second hidden layer sees it, each numeral the middle ` +
        `of its class: green for the teacher, colored for the ${who}. The two directions are those in which the ` +
        `teacher's features spread most (${percent(state.variance)} of their variance). Where a digit lies for the ` +
        `${who} and where it lies for the teacher correlates by ${first} from left to right and by ${second} from ` +
        "bottom to top; 1 is the same order, 0 is none in common.";
      note.textContent = text;
      svg.setAttribute("aria-label", text);
    },
  };
}
