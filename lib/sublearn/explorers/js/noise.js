// The noise bench: family and parameter of the inputs; a sample, its spectra, and the accuracy measured nearest to it.

import { chart, logTicks } from "./chart.js";
import { numberIn, oneOf } from "./checks.js";
import { assign, button, drawn, element, follow, plain, select, sized, table, uniqueId, voice } from "./controls.js";

const PARTS = [
  ["radial spectrum", "power per pixel"],
  ["singular values", "of many samples, less their mean"],
  ["accuracy", "of students on test images"],
];
const number = (value) => (value == null ? "–" : Number(value.toPrecision(3)).toString());

// The entry of `family` whose parameter is nearest; null where there is none.
export function nearest(entries, family, parameter) {
  const candidates = entries.filter((entry) => entry.family === family);
  return candidates.reduce(
    (best, entry) =>
      best && Math.abs(best.parameter - parameter) <= Math.abs(entry.parameter - parameter) ? best : entry,
    null,
  );
}

function paint(canvas, { side, pixels }) {
  canvas.width = canvas.height = side;
  const image = canvas.getContext("2d").createImageData(side, side);
  [...atob(pixels)].forEach((letter, at) =>
    image.data.set([letter.charCodeAt(0), letter.charCodeAt(0), letter.charCodeAt(0), 255], 4 * at),
  );
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A falling curve on a logarithmic axis; zeros are left out.
function drawSpectrum(svg, width, values, xLabel) {
  const points = values.map((value, place) => [place, Math.log10(value)]).filter(([, value]) => Number.isFinite(value));
  const heights = points.map(([, value]) => value),
    low = Math.min(...heights, 0),
    high = Math.max(...heights, low + 0.5);
  const { limits, marks } = logTicks([low, high]);
  const frame = chart(svg, {
    width,
    height: 190,
    x: [0, Math.max(1, values.length - 1)],
    y: limits,
    right: 10,
    xLabel,
    yTicks: marks,
    format: (value) => (value < -3 ? (10 ** value).toExponential(0) : Number((10 ** value).toPrecision(1)).toString()),
  });
  frame.line(points, "student");
}

function drawAccuracies(svg, width, entries, chosen, parameter, label) {
  const places = entries.map((entry) => entry.parameter),
    [least, most] = [Math.min(...places, parameter), Math.max(...places, parameter)];
  const margin = 0.06 * (most - least || 1);
  const frame = chart(svg, {
    width,
    height: 190,
    x: [least - margin, most + margin],
    y: [0, 1],
    right: 10,
    xLabel: label,
    xFormat: number,
  });
  for (const entry of entries) {
    const look = entry === chosen ? "control" : "student";
    if (entry.low != null) frame.bar(entry.parameter, entry.low, entry.high, `${look} bar`);
    frame.dot(entry.parameter, entry.mean, look, entry === chosen ? 6 : 4);
  }
  frame.line(
    [
      [parameter, 0],
      [parameter, 1],
    ],
    "chance",
  );
}

export function render({ model, el }) {
  const looks = model.get("looks"),
    families = [...new Set(looks.map((look) => look.family))];
  const canvas = element("canvas", { role: "img", class: "explorer-sample" }),
    spoken = voice(),
    body = element("div"),
    sliderBox = element("div");
  const parts = PARTS.map(([name, unit]) => {
    const svg = drawn("svg", { role: "img", "aria-label": name });
    return { name, svg, node: element("figure", {}, element("figcaption", {}, `${name}: ${unit}`), svg) };
  });
  const { node, fill } = table("The accuracies measured for this family", ["strength", "mean", "low", "high", "n"]);
  const compute = button("Compute this setting", () => {
    spoken.say("The kernel is computing.");
    model.send({ do: "compute", family: model.get("family"), parameter: model.get("parameter") });
  });
  const planes = element(
    "div",
    { class: "explorer-planes explorer-four" },
    element("figure", {}, element("figcaption", {}, "one sample: black is -1, white 1"), canvas),
    ...parts.map((part) => part.node),
  );
  el.append(
    element("p", { class: "explorer-title" }, model.get("title")),
    element(
      "div",
      { class: "explorer-controls" },
      select(
        model,
        "family",
        "Family of inputs",
        families.map((family) => [family, plain(family)]),
      ),
      sliderBox,
    ),
    planes,
    spoken.node,
    node,
    ...(model.get("live") ? [compute] : []),
    body,
  );
  let width = 0;
  const stop = sized(parts[0].node, (next) => {
    width = next;
    draw();
  });

  // What the strength of the chosen family is, with its unit.
  const meaning = () => model.get("meanings")[model.get("family")] || model.get("label");

  function parameters() {
    const values = looks
      .filter((look) => look.family === model.get("family"))
      .map((look) => look.parameter)
      .sort((a, b) => a - b);
    if (!values.includes(model.get("parameter")))
      model.set("parameter", nearest(looks, model.get("family"), model.get("parameter")).parameter);
    if (values.length === 1) {
      const words = `${meaning()}: ${number(values[0])}, the only strength of this family that was run.`;
      sliderBox.replaceChildren(element("p", { class: "explorer-note" }, words));
      return draw();
    }
    const id = uniqueId(),
      shown = element("span", { class: "explorer-value", "aria-hidden": "true" });
    const input = element("input", {
      id,
      type: "range",
      min: 0,
      max: values.length - 1,
      "data-trait": "parameter",
      oninput: () => assign(model, "parameter", values[input.value]),
    });
    input.value = values.indexOf(model.get("parameter"));
    input.show = (value) => {
      input.value = values.indexOf(value);
      shown.textContent = number(value);
      input.setAttribute("aria-valuetext", number(value));
    };
    sliderBox.replaceChildren(
      element("div", { class: "explorer-control" }, element("label", { for: id }, meaning()), shown, input),
    );
    draw();
  }

  function draw() {
    const [family, parameter] = [model.get("family"), model.get("parameter")],
      look = nearest(looks, family, parameter);
    const entries = model
      .get("accuracies")
      .filter((entry) => entry.family === family)
      .sort((a, b) => a.parameter - b.parameter);
    const chosen = nearest(entries, family, parameter);
    sliderBox.querySelector("input")?.show(look.parameter);
    paint(canvas, look);
    canvas.setAttribute("aria-label", `A sample of ${plain(family)}, ${meaning()} ${number(parameter)}`);
    if (width) {
      drawSpectrum(parts[0].svg, width, look.spectrum, "frequency (cycles per image)");
      drawSpectrum(parts[1].svg, width, look.singular, "component");
      if (entries.length) drawAccuracies(parts[2].svg, width, entries, chosen, parameter, meaning());
      else parts[2].svg.replaceChildren();
    }
    const sentence = chosen
      ? `Measured nearest to this, at ${meaning()} ${number(chosen.parameter)}: accuracy ${number(chosen.mean)}, ` +
        `95 % interval ${number(chosen.low)} to ${number(chosen.high)}, n = ${chosen.n}.`
      : "No accuracy was measured for this family.";
    spoken.say(sentence);
    parts.forEach(({ name, svg }) =>
      svg.setAttribute(
        "aria-label",
        `${name} of ${plain(family)} at ${number(parameter)}. ${name === "accuracy" ? sentence : ""}`,
      ),
    );
    fill(
      entries.map((entry) => [
        number(entry.parameter),
        number(entry.mean),
        number(entry.low),
        number(entry.high),
        String(entry.n),
      ]),
    );
  }

  model.on("change:family", parameters);
  model.on("change:parameter", draw);
  follow(model, "accuracies", () => width && draw());
  parameters();
  return stop;
}

// What a link may set; a strength that was not run leads to the nearest one.
export const address = ({ looks }) => ({
  family: oneOf(looks.map(({ family }) => family)),
  parameter: numberIn(-1e6, 1e6),
});
