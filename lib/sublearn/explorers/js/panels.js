// What the laboratory shows beside its curves: an input, ten test digits with answers, the map of features, the runs.

import { drawn, element, percent, table } from "./controls.js";
import { summary } from "./statistics.js";

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
      const kind = config.inputs === "digits" ? "digits, shown without labels" : "noise images";
      note.textContent = tile
        ? `One of the 64 ${kind} of this step. Bars: the student's auxiliary logits; rings: the teacher's.`
        : `The inputs of the student will be ${kind}.`;
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
      const [first, second] = network.agreement.map((value) => value.toFixed(2));
      const text =
        `Second hidden layer, ${labels.length} test digits, along the teacher's two leading components (` +
        `${percent(state.variance)} of its variance). Numerals: class means, green for the teacher. The ${who}'s ` +
        `coordinates correlate with the teacher's by ${first} and ${second}.`;
      note.textContent = text;
      svg.setAttribute("aria-label", text);
    },
  };
}

export const settingsText = ({ aux_dim, perturbation, lr, shared, inputs, loss, width, steps }) => {
  const parts = { hidden: "hidden layers", class_head: "digit head", aux_head: "auxiliary head" };
  const start =
    shared.length === 3
      ? "same start"
      : shared.length
        ? `shared: ${shared.map((part) => parts[part]).join(", ")}`
        : "other start";
  const mixed = perturbation ? `, perturbed ${percent(perturbation)}` : "";
  const named = loss === "kl" ? "KL" : "squared error";
  return `m = ${aux_dim}, ${start}${mixed}, ${inputs}, rate ${lr}, ${named}, width ${width}, ${steps} steps`;
};

// The reader's finished runs; equal settings share a line with mean and interval.
export function runsPanel() {
  const caption =
    "Accuracy on the 500 test digits at the end of each run; ± is a 95 % t interval over runs of equal settings";
  const { node, fill } = table(caption, ["settings", "runs", "student", "control", "ceiling", "teacher"]);
  const shown = (values) => {
    const { mean, low, n } = summary(values);
    return n < 2 ? percent(mean) : `${percent(mean)} ± ${(100 * (mean - low)).toFixed(1)}`;
  };
  return {
    node,
    show(runs) {
      const groups = new Map();
      for (const run of runs)
        groups.set(settingsText(run.config), [...(groups.get(settingsText(run.config)) || []), run]);
      const lines = [...groups].map(([text, group]) => [
        text,
        String(group.length),
        ...["student", "control", "ceiling", "teacher"].map((who) => shown(group.map((run) => run[who]))),
      ]);
      fill(lines.length ? lines : [["no finished run yet", "0", "–", "–", "–", "–"]]);
    },
  };
}
