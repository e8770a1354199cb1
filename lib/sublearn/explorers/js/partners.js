// Entangled partners: pick a word or a number, read its partners both ways, and find its pairs among all pairs.

import { chart } from "./chart.js";
import { oneOf, text } from "./checks.js";
import { assign, drawn, element, fixed, follow, select, sized, table, uniqueId, voice } from "./controls.js";
import { floats } from "./packed.js";

const COUNT = 8;
const PATIENCE = 120; // ms after a letter, before the search

// What is embedded, with `value(measure, word, number)` by place.
export function unpacked({ words, numbers, measures }) {
  const values = Object.fromEntries(Object.entries(measures).map(([name, packed]) => [name, floats(packed)]));
  const value = (name, word, at) => values[name][word * numbers.length + at];
  return { words, numbers, names: Object.keys(measures), value };
}

// Places of the names that are a token, or else of those that begin with one.
function places(names, tokens) {
  const found = (matches) =>
    names.flatMap((name, place) => (tokens.some((token) => matches(name, token)) ? [place] : []));
  const whole = found((name, token) => name.toLowerCase() === token);
  return whole.length ? whole : found((name, token) => name.toLowerCase().startsWith(token));
}

// Places of the words and numbers that a reader's text names, whole or by their first letters; all words (or numbers)
// where it names none of them. Null where a part of the text names nothing.
export function named(data, text) {
  const tokens = text.trim().toLowerCase().split(/\s+/);
  const [words, numbers] = [places(data.words, tokens), places(data.numbers, tokens)];
  const known = (token) => places(data.words, [token]).length || places(data.numbers, [token]).length;
  if (!tokens[0] || !tokens.every(known)) return null;
  const all = (names) => names.map((_, place) => place);
  return {
    words: words.length ? words : all(data.words),
    numbers: numbers.length ? numbers : all(data.numbers),
    single: words.length === 1 && numbers.length === 1,
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
  let timer = 0;
  const id = uniqueId(),
    list = element("datalist", { id: `${id}-names` }, ...[...data.words, ...data.numbers].map(option));
  const input = element("input", {
    id,
    type: "search",
    list: `${id}-names`,
    autocomplete: "off",
    "data-trait": "chosen",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(search, PATIENCE);
    },
    onchange: () => search(),
  });
  const field = element(
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
    ...Object.entries(model.get("meanings")).map(([name, meaning]) =>
      element("p", { class: "explorer-note" }, element("strong", {}, name), `: ${meaning}`),
    ),
    element(
      "div",
      { class: "explorer-controls" },
      field,
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

  function search() {
    clearTimeout(timer);
    assign(model, "chosen", input.value);
  }

  // Of all pairs, those that fall on one spot of the screen are drawn once.
  function cloud(frame, pairs, across, upward, look) {
    const quiet = look === "quiet",
      spots = pairs.map(({ word, at }) => {
        const [x, y] = [frame.atX(data.value(across, word, at)), frame.atY(data.value(upward, word, at))];
        return quiet ? `M${Math.round(x)} ${Math.round(y)}h0` : `M${x.toFixed(1)} ${y.toFixed(1)}h0`;
      });
    return drawn("path", { d: [...(quiet ? new Set(spots) : spots)].join(""), class: `cloud ${look}` });
  }

  const every = data.words.flatMap((_, word) => data.numbers.map((_, at) => ({ word, at })));
  const limits = (name) => {
    const values = every.map(({ word, at }) => data.value(name, word, at));
    const low = values.reduce((least, value) => Math.min(least, value)),
      high = values.reduce((most, value) => Math.max(most, value));
    return [low - 0.03 * (high - low || 1), high + 0.03 * (high - low || 1)];
  };

  // The cloud of all pairs waits for other axes or another width; what is found is drawn anew at each letter.
  let frame = null,
    framed = "";
  function plot(pairs, across, upward) {
    if (framed !== `${width} ${across} ${upward}`) {
      framed = `${width} ${across} ${upward}`;
      frame = chart(svg, { width, x: limits(across), y: limits(upward), right: 14, xLabel: across });
      svg.append(
        drawn("text", { x: frame.inner.left + 6, y: 10 }, upward),
        cloud(frame, every, across, upward, "quiet"),
      );
    }
    svg.querySelector(".cloud.found")?.remove();
    svg.append(cloud(frame, pairs, across, upward, "student found"));
  }

  function says(text, selection, pairs, upward) {
    const [word, at] = [data.words[0], data.numbers[0]],
      range = `numbers go from ${data.numbers[0]} to ${data.numbers.at(-1)}`;
    if (!selection) return `Nothing here is called ${text || "by no name"}: try ${word} or ${at}; ${range}.`;
    const [best] = pairs,
      values = data.names.map((measure) => `${measure} ${fixed(data.value(measure, best.word, best.at))}`);
    if (selection.single) return `${name(best)}: ${values.join("; ")}.`;
    return `${pairs.length.toLocaleString("en")} pairs; the largest of ${upward}: ${name(best)}.`;
  }

  const name = ({ word, at }) => `${data.words[word]}, ${data.numbers[at]}`;

  function draw() {
    const [text, across, upward] = ["chosen", "across", "upward"].map((name) => model.get(name));
    const pairs = ranked(data, text, upward),
      selection = named(data, text);
    if (document.activeElement !== input) input.value = text;
    if (width) plot(pairs, across, upward);
    const sentence = says(text, selection, pairs, upward);
    spoken.say(sentence);
    svg.setAttribute("aria-label", `All pairs, ${upward} against ${across}; marked: ${text}. ${sentence}`);
    tables.replaceChildren(
      ...[upward, across]
        .filter((measure, place, both) => both.indexOf(measure) === place)
        .map((measure) => {
          const { node, fill } = table(`Largest of ${measure}`, ["pair", ...data.names]);
          const best = ranked(data, text, measure).slice(0, COUNT),
            values = ({ word, at }) => data.names.map((name) => fixed(data.value(name, word, at)));
          fill(best.map((pair) => [name(pair), ...values(pair)]));
          return node;
        }),
    );
  }

  for (const name of ["chosen", "across", "upward"]) follow(model, name, () => draw());
  return stop;
}

// What a link may set.
export const address = ({ measures }) => ({
  chosen: text(60),
  across: oneOf(Object.keys(measures)),
  upward: oneOf(Object.keys(measures)),
});
