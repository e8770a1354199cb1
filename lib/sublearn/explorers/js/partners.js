// Entangled partners: pick a word or a number, read its partners both ways, and find its pairs among all pairs.

import { chart } from "./chart.js";
import { assign, drawn, element, follow, select, sized, table, uniqueId, voice } from "./controls.js";

const COUNT = 8;

const number = (value) => value.toFixed(2);

// What is embedded, with `value(measure, word, number)` by place.
export function unpacked({ words, numbers, measures }) {
  const read = ({ scale, codes }) => {
    const bytes = Int8Array.from(atob(codes), (letter) => letter.charCodeAt(0));
    return (word, at) => (bytes[word * numbers.length + at] * scale) / 127;
  };
  const values = Object.fromEntries(Object.entries(measures).map(([name, packed]) => [name, read(packed)]));
  return { words, numbers, names: Object.keys(measures), value: (name, word, at) => values[name](word, at) };
}

// Places of the words and numbers that a reader's text names; all words (or numbers) where it names none of them.
export function named(data, text) {
  const names = text.trim().toLowerCase().split(/\s+/);
  const places = (all) => all.flatMap((name, place) => (names.includes(name.toLowerCase()) ? [place] : []));
  const [words, numbers] = [places(data.words), places(data.numbers)];
  if (!words.length && !numbers.length) return null;
  const all = (names) => names.map((_, place) => place);
  return {
    words: words.length ? words : all(data.words),
    numbers: numbers.length ? numbers : all(data.numbers),
    single: Boolean(words.length && numbers.length),
  };
}

// The pairs of what was named, the largest of a measure first.
export function ranked(data, text, measure) {
  const selection = named(data, text);
  if (!selection) return [];
  const pairs = selection.words.flatMap((word) => selection.numbers.map((at) => ({ word, at })));
  return pairs.sort((a, b) => data.value(measure, b.word, b.at) - data.value(measure, a.word, a.at));
}

export function render({ model, el }) {
  const data = unpacked({
    words: model.get("words"),
    numbers: model.get("numbers"),
    measures: model.get("measures"),
  });
  const id = uniqueId(),
    list = element("datalist", { id: `${id}-names` }, ...[...data.words, ...data.numbers].map(option));
  const input = element("input", {
    id,
    type: "search",
    list: `${id}-names`,
    autocomplete: "off",
    "data-trait": "chosen",
    onchange: () => assign(model, "chosen", input.value),
  });
  const search = element(
    "div",
    { class: "explorer-control" },
    element("label", { for: id }, "Word, number, or both"),
    input,
    list,
  );
  const svg = drawn("svg", { role: "img" }),
    wide = element("div", { class: "explorer-wide" }, svg),
    tables = element("div", { class: "explorer-planes explorer-four" }),
    spoken = voice();
  el.append(
    element("p", { class: "explorer-title" }, model.get("title")),
    element(
      "div",
      { class: "explorer-controls" },
      search,
      select(model, "across", "Across", data.names),
      select(model, "upward", "Upward", data.names),
    ),
    spoken.node,
    wide,
    tables,
  );
  let width = 0;
  const stop = sized(wide, (next) => {
    width = next;
    draw();
  });

  function option(name) {
    return element("option", { value: name });
  }

  function cloud(frame, pairs, across, upward, look) {
    const marks = pairs.map(({ word, at }) => {
      const [x, y] = [data.value(across, word, at), data.value(upward, word, at)];
      return `M${frame.atX(x).toFixed(1)} ${frame.atY(y).toFixed(1)}h0`;
    });
    svg.append(drawn("path", { d: marks.join(""), class: `cloud ${look}` }));
  }

  function plot(pairs, across, upward) {
    const every = data.words.flatMap((_, word) => data.numbers.map((_, at) => ({ word, at })));
    const limits = (name) => {
      const values = every.map(({ word, at }) => data.value(name, word, at));
      const low = values.reduce((least, value) => Math.min(least, value)),
        high = values.reduce((most, value) => Math.max(most, value));
      return [low - 0.03 * (high - low || 1), high + 0.03 * (high - low || 1)];
    };
    const frame = chart(svg, { width, x: limits(across), y: limits(upward), right: 14, xLabel: across });
    cloud(frame, every, across, upward, "quiet");
    cloud(frame, pairs, across, upward, "student found");
  }

  function draw() {
    const [text, across, upward] = ["chosen", "across", "upward"].map((name) => model.get(name));
    const pairs = ranked(data, text, upward),
      selection = named(data, text);
    input.value = text;
    if (width) plot(pairs, across, upward);
    const name = ({ word, at }) => `${data.words[word]}, ${data.numbers[at]}`;
    const sentence = selection
      ? selection.single
        ? data.names
            .map((measure) => `${measure} ${number(data.value(measure, pairs[0].word, pairs[0].at))}`)
            .join("; ")
        : `${pairs.length} pairs; the largest of ${upward}: ${name(pairs[0])}.`
      : `Nothing here is called ${text || "by no name"}: try ${data.words[0]} or ${data.numbers[0]}.`;
    spoken.say(sentence);
    svg.setAttribute("aria-label", `All pairs, ${upward} against ${across}; marked: ${text}. ${sentence}`);
    tables.replaceChildren(
      ...[upward, across]
        .filter((measure, place, both) => both.indexOf(measure) === place)
        .map((measure) => {
          const { node, fill } = table(`Largest of ${measure}`, ["pair", ...data.names]);
          const best = ranked(data, text, measure).slice(0, COUNT),
            values = ({ word, at }) => data.names.map((name) => number(data.value(name, word, at)));
          fill(best.map((pair) => [name(pair), ...values(pair)]));
          return node;
        }),
    );
  }

  for (const name of ["chosen", "across", "upward"]) follow(model, name, () => draw());
  return stop;
}
