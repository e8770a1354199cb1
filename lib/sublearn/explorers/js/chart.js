// A chart in pixels: axes, bands, lines with their names at the end, dots with intervals. Colors are CSS classes.

import { drawn } from "./controls.js";

const MARGIN = { top: 12, bottom: 42, left: 46 };

const plain = (value) => String(Number(value.toPrecision(6)));

// Round numbers that divide [low, high] into about `count` parts.
export function ticks([low, high], count) {
  const raw = (high - low) / count,
    power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, place) => (first + place) * step);
}

// The same for an axis of base-10 logarithms, and limits that end at marks: 1, 2 and 5 times a power of ten, or powers
// alone where these are many.
export function logTicks([low, high]) {
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, place) => Math.floor(low) + place);
  const few = powers.flatMap((power) => [1, 2, 5].map((factor) => power + Math.log10(factor)));
  const marks = high - low < 2 ? few : powers;
  const first = marks.findLastIndex((mark) => mark <= low + 1e-9),
    last = marks.findIndex((mark) => mark >= high - 1e-9);
  const inside = marks.slice(first, last + 1);
  const step = Math.ceil(inside.length / 7);
  return { limits: [inside[0], inside.at(-1)], marks: inside.filter((_, place) => place % step === 0) };
}

// Names at the right must not lie on each other: push them apart, in order of height.
function spread(names, top, bottom) {
  const gap = 15,
    sorted = [...names].sort((a, b) => a.y - b.y);
  sorted.forEach((name, place) => (name.y = Math.max(name.y, place ? sorted[place - 1].y + gap : top)));
  let limit = bottom;
  for (const name of sorted.reverse()) {
    name.y = Math.min(name.y, limit);
    limit = name.y - gap;
  }
}

// A frame of the given width (px) and limits; `right` is the room for names at the right.
export function chart(
  svg,
  { width, height = 290, x, y, right = 110, xLabel, format = plain, xFormat = plain, yTicks },
) {
  const inner = { left: MARGIN.left, right: width - right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const atX = (value) => inner.left + ((value - x[0]) / (x[1] - x[0])) * (inner.right - inner.left);
  const atY = (value) => inner.bottom - ((value - y[0]) / (y[1] - y[0])) * (inner.bottom - inner.top);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const back = drawn("g", { class: "axis" }),
    front = drawn("g"),
    names = [];
  for (const value of yTicks || ticks(y, 5)) {
    back.append(drawn("line", { x1: inner.left, x2: inner.right, y1: atY(value), y2: atY(value) }));
    back.append(drawn("text", { x: inner.left - 8, y: atY(value) + 4, "text-anchor": "end" }, format(value)));
  }
  for (const value of ticks(x, Math.max(3, Math.floor((inner.right - inner.left) / 90)))) {
    back.append(drawn("text", { x: atX(value), y: inner.bottom + 18, "text-anchor": "middle" }, xFormat(value)));
  }
  back.append(drawn("text", { x: (inner.left + inner.right) / 2, y: height - 5, "text-anchor": "middle" }, xLabel));
  svg.replaceChildren(back, front);
  const path = (points) =>
    points.map(([a, b], place) => `${place ? "L" : "M"}${atX(a).toFixed(1)} ${atY(b).toFixed(1)}`).join("");
  const add = (name, properties, ...children) => front.appendChild(drawn(name, properties, ...children));

  return {
    inner,
    atX,
    atY,
    band(points, look) {
      const upper = points.map(([at, , high]) => [at, high]),
        lower = points.map(([at, low]) => [at, low]).reverse();
      return add("path", { d: `${path([...upper, ...lower])}Z`, class: `band ${look}` });
    },
    line: (points, look) => add("path", { d: path(points), class: `line ${look}` }),
    level: (value, look) =>
      add("path", {
        d: path([
          [x[0], value],
          [x[1], value],
        ]),
        class: `line ${look}`,
      }),
    dot: (at, value, look, radius = 4) =>
      add("circle", { cx: atX(at), cy: atY(value), r: radius, class: `dot ${look}` }),
    bar(at, low, high, look) {
      const [a, b, c] = [atX(at), atY(low), atY(high)];
      return add("path", { d: `M${a} ${b}V${c}M${a - 4} ${b}h8M${a - 4} ${c}h8`, class: `line ${look}` });
    },
    // A name beside the right edge at the height of a value.
    name: (value, text, look) => names.push({ y: atY(value) + 4, text, look }),
    finish() {
      spread(names, inner.top + 4, inner.bottom + 4);
      for (const { y: height, text, look } of names)
        add("text", { x: inner.right + 8, y: height, class: `name ${look}` }, text);
    },
  };
}
