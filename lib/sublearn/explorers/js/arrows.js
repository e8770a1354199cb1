// A plane with arrows from its origin, some of which the reader drags: by pointer, by touch, or by the arrow keys.

import { drawn, element, fixed } from "./controls.js";
import { layout } from "./labels.js";

const HALF = 130; // px from the origin to the edge of the drawing
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export const degrees = ([x, y]) => Math.round((Math.atan2(y, x) * 180) / Math.PI);

function shaft(tip, width) {
  const [x, y] = tip,
    length = Math.hypot(x, y);
  if (length < 2) return "M0 0h0.1";
  const [u, v] = [x / length, y / length],
    head = Math.min(length, 6 + 1.6 * width),
    back = [x - u * head, y - v * head];
  const side = head / 2.2;
  const barbs = [back[0] - v * side, back[1] + u * side, back[0] + v * side, back[1] - u * side];
  return `M0 0L${x} ${y}M${barbs[0]} ${barbs[1]}L${x} ${y}L${barbs[2]} ${barbs[3]}`;
}

// Marks at whole steps on both axes, so that lengths can be read.
function scaleMarks(range) {
  const step = [1, 2, 5, 10].find((one) => range / one < 3) || 10,
    unit = HALF / range;
  const places = [];
  for (let value = -step * Math.floor((0.9 * range) / step); value < 0.9 * range; value += step)
    if (value) places.push(value);
  return places.flatMap((value) => [
    drawn("path", { d: `M${value * unit} -3v6M-3 ${-value * unit}h6`, class: "line scale" }),
    drawn("text", { x: value * unit, y: 13, "text-anchor": "middle", class: "scale" }, value),
    drawn("text", { x: -6, y: -value * unit + 3, "text-anchor": "end", class: "scale" }, value),
  ]);
}

// A titled plane of [-range(), range()] in both directions. Arrows: { key, name, look, label, band, drag(tip), line }.
// After the tips are placed, `finish` places the names and the scale.
export function plane(title, { range = () => 2, arrows }) {
  const svg = drawn("svg", { viewBox: `${-HALF} ${-HALF} ${2 * HALF} ${2 * HALF}`, class: "explorer-plane" });
  const node = element("figure", {}, element("figcaption", {}, title), svg);
  const scale = () => HALF / range();
  const marks = drawn("g", { "aria-hidden": "true" });
  svg.append(
    marks,
    drawn(
      "g",
      { class: "axis" },
      drawn("line", { x1: -HALF, x2: HALF, y1: 0, y2: 0 }),
      drawn("line", { y1: -HALF, y2: HALF, x1: 0, x2: 0 }),
    ),
  );
  const shown = new Map();
  for (const arrow of arrows) {
    const path = drawn("path", { class: `edge ${arrow.look}` }),
      label = drawn(
        "text",
        { class: `name ${arrow.look}`, "text-anchor": "middle", "aria-hidden": "true" },
        arrow.name,
      );
    const group = drawn(
      "g",
      arrow.drag
        ? {
            tabindex: 0,
            role: "slider",
            "aria-label": arrow.label,
            "aria-valuemin": -180,
            "aria-valuemax": 180,
            class: "handle",
          }
        : { "aria-hidden": "true" },
      path,
      label,
    );
    const grip = arrow.drag && drawn("circle", { r: 15, class: "grip" });
    if (grip) group.append(grip);
    svg.append(group);
    shown.set(arrow.key, { ...arrow, group, path, label, grip, tip: [0, 0] });
    if (arrow.drag) movable(svg, shown.get(arrow.key), range, scale);
  }
  const inPixels = ({ tip: [x, y] }) => [x * scale(), -y * scale()];
  return {
    node,
    finish() {
      marks.replaceChildren(...scaleMarks(range()));
      const visible = [...shown.values()].filter(({ group, line }) => group.style.display !== "none" && !line),
        named = visible.filter(({ name }) => name);
      const names = named.map((arrow) => ({ text: arrow.name, tip: inPixels(arrow), away: arrow.grip ? 27 : 14 }));
      layout(names, visible.map(inPixels), HALF).forEach(([x, y], place) => {
        named[place].label.setAttribute("x", x);
        named[place].label.setAttribute("y", y + 4);
      });
    },
    // Place the tip of an arrow; null hides it.
    place(key, tip, spoken = "") {
      const arrow = shown.get(key);
      arrow.group.style.display = tip ? "" : "none";
      if (!tip) return;
      arrow.tip = tip;
      const [x, y] = [tip[0] * scale(), -tip[1] * scale()],
        length = Math.hypot(x, y) || 1;
      if (arrow.line) {
        const far = 2 * HALF;
        arrow.path.setAttribute(
          "d",
          `M${(-x / length) * far} ${(-y / length) * far}L${(x / length) * far} ${(y / length) * far}`,
        );
      } else arrow.path.setAttribute("d", shaft([x, y], arrow.band ? 0 : 3));
      if (!arrow.grip) return;
      arrow.grip.setAttribute("cx", x);
      arrow.grip.setAttribute("cy", y);
      arrow.group.setAttribute("aria-valuenow", degrees(tip));
      arrow.group.setAttribute("aria-valuetext", `${fixed(tip[0])} right, ${fixed(tip[1])} up. ${spoken}`);
    },
  };
}

function movable(svg, arrow, range, scale) {
  const bound = (value) => Math.round(100 * Math.max(-range(), Math.min(range(), value))) / 100;
  const to = (x, y) => arrow.drag([bound(x), bound(y)]);
  arrow.group.addEventListener("keydown", (event) => {
    const by = KEYS[event.key],
      step = event.shiftKey ? 0.25 : 0.05;
    if (!by) return;
    event.preventDefault();
    to(arrow.tip[0] + step * by[0], arrow.tip[1] + step * by[1]);
  });
  // touch-action alone does not keep the page from scrolling under a finger on a part of an SVG
  arrow.grip.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  arrow.grip.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    arrow.group.focus();
    arrow.grip.setPointerCapture(event.pointerId);
    const box = svg.getBoundingClientRect(),
      unit = (box.width / (2 * HALF)) * scale(); // read once, not at each move
    const move = ({ clientX, clientY }) =>
      to((clientX - box.left - box.width / 2) / unit, -(clientY - box.top - box.height / 2) / unit);
    const end = () => {
      for (const name of ["pointerup", "pointercancel"]) arrow.grip.removeEventListener(name, end);
      arrow.grip.removeEventListener("pointermove", move);
    };
    arrow.grip.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) arrow.grip.addEventListener(name, end);
  });
}
