// One explorer for any table of results: choose factor, hue, measure and baseline; means with intervals, single models.

import { oneOf } from "./checks.js";
import { assign, button, drawn, element, fixed, folded, follow, plain, select, sized, table } from "./controls.js";
import { save } from "./csv.js";
import { drawRows, looks } from "./rows.js";
import { paired, summary } from "./statistics.js";

const NONE = "(none)";

// Rows that a filter keeps, of a table packed by columns: factors as { name: { levels, codes } }, measures, units.
function kept(data, { factor, hue, where }) {
  const rest = Object.keys(data.factors).filter((name) => name !== factor && name !== hue);
  const keeps = (row) => rest.every((name) => levelOf(data, name, row) === where[name]);
  return data.units.map((_, row) => row).filter(keeps);
}

const levelOf = (data, name, row) => data.factors[name].levels[data.factors[name].codes[row]];

// Levels of the chosen factor that the filter leaves, in their order: what a difference can be taken to.
export function levelsLeft(data, choice) {
  const present = new Set(kept(data, choice).map((row) => levelOf(data, choice.factor, row)));
  return data.factors[choice.factor].levels.filter((level) => present.has(level));
}

// Means and intervals by level of the factor and of the hue, or paired differences to the baseline where there are
// partners; `lonely` counts the groups without any.
export function choose(data, choice) {
  const { factor, hue, measure, baseline } = choice;
  const left = kept(data, choice);
  const values = (first, second) =>
    left
      .filter((row) => levelOf(data, factor, row) === first && (hue === NONE || levelOf(data, hue, row) === second))
      .map((row) => ({ unit: data.units[row], value: data.measures[measure][row] }))
      .filter(({ value }) => value != null);
  const rows = [];
  for (const second of hue === NONE ? [NONE] : data.factors[hue].levels) {
    const base = baseline === NONE ? null : values(baseline, second);
    for (const first of data.factors[factor].levels) {
      const chosen = values(first, second);
      if (!chosen.length || (base && first === baseline)) continue;
      const partners = base && new Map(base.map(({ unit, value }) => [unit, value]));
      const points = base
        ? chosen.filter(({ unit }) => partners.has(unit)).map(({ unit, value }) => value - partners.get(unit))
        : chosen.map(({ value }) => value);
      const repeated = new Set(chosen.map(({ unit }) => unit)).size < chosen.length;
      const result = base ? paired(chosen, base) : summary(points, measure);
      rows.push({ level: first, hue: second, points, repeated, ...result });
    }
  }
  const order = data.factors[factor].levels;
  return rows.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

const named = (levels) => levels.map((level) => [level, plain(level)]);
const number = (value) => fixed(value, Math.abs(value) >= 100 ? 0 : 3);

function fileRows(data) {
  const names = [...Object.keys(data.factors), "unit", ...Object.keys(data.measures)];
  const cells = (row) => [
    ...Object.values(data.factors).map(({ levels, codes }) => levels[codes[row]]),
    data.units[row],
    ...Object.values(data.measures).map((values) => values[row]),
  ];
  return [names, ...data.units.map((_, row) => cells(row))];
}

// What the points are, or why there are none.
function noteText(rows, all, { baseline, factor, hue }, unit) {
  const difference = baseline !== NONE;
  if (!all.length && !difference) return "The table has no row of this kind: choose another level.";
  if (!rows.length)
    return (
      `No other level of ${factor} shares a ${unit.replace(/s$/, "")} with “${plain(baseline)}” here, ` +
      "so there is no paired difference to show: choose another level, or no difference."
    );
  const counts = rows.map(({ n }) => n),
    [least, most] = [Math.min(...counts), Math.max(...counts)];
  const n = least === most ? least : `${least} to ${most}`;
  const sentences = [`Points are means over n = ${n} ${unit}, bars are 95 % intervals, faint dots are single ${unit}.`];
  if (difference) sentences.push("Differences are paired.");
  const lonely = all.length - rows.length,
    single = Math.max(0, ...rows.map((row) => row.single || 0));
  if (lonely)
    sentences.push(`${lonely} of ${all.length} rows are left out: they have no partner in “${plain(baseline)}”.`);
  if (single) sentences.push(`${single} ${unit} without a partner are left out.`);
  if (rows.some(({ repeated }) => repeated))
    sentences.push("Some units occur several times here, so the bars are too short.");
  if (hue !== NONE) sentences.push(`Colors: ${hue}.`);
  return sentences.join(" ");
}

export function render({ model, el }) {
  const data = model.get("data"),
    names = Object.keys(data.factors);
  const svg = drawn("svg", { role: "img" }),
    wide = element("div", { class: "explorer-wide" }, svg),
    controls = element("div", { class: "explorer-controls" });
  const note = element("p", { class: "explorer-note" }),
    body = element("div");
  const several = names.filter((name) => data.factors[name].levels.length > 1);
  const file = () => save(model.get("name"), fileRows(data));
  let width = 0;
  el.append(
    element("p", { class: "explorer-title" }, model.get("title")),
    controls,
    note,
    wide,
    folded("The numbers", body),
    button("Download the rows (CSV)", file),
  );
  const stop = sized(wide, (next) => {
    width = next;
    draw();
  });

  // Choices depend on each other: a hue differs from the factor, a baseline is a level of the factor.
  function choices() {
    const factor = model.get("factor"),
      had = document.activeElement?.dataset?.trait;
    if (model.get("hue") === factor) model.set("hue", NONE);
    const left = levelsLeft(data, { factor, hue: model.get("hue"), where: model.get("where") });
    if (!left.includes(model.get("baseline"))) model.set("baseline", NONE);
    const rest = several.filter((name) => name !== factor && name !== model.get("hue"));
    const filters = rest.map((name) => {
      const filter = {
        get: () => model.get("where")[name],
        set: (_, value) => model.set("where", { ...model.get("where"), [name]: value }),
        save_changes: () => model.save_changes(),
        on() {},
      };
      return select(filter, `where ${name}`, name, named(data.factors[name].levels));
    });
    const quiet = {
      get: (name) => model.get(name),
      set: (name, value) => model.set(name, value),
      save_changes: () => model.save_changes(),
      on() {},
    };
    controls.replaceChildren(
      select(quiet, "factor", "Compare", several.length ? several : names),
      select(quiet, "hue", "Split by", [NONE, ...several.filter((name) => name !== factor)]),
      select(quiet, "measure", "Measure", Object.keys(data.measures)),
      select(quiet, "baseline", "Difference to", named([NONE, ...left])),
      ...filters,
    );
    if (had) controls.querySelector(`[data-trait="${had}"]`)?.focus();
    draw();
  }

  function draw() {
    const choice = Object.fromEntries(
      ["factor", "hue", "measure", "baseline", "where"].map((name) => [name, model.get(name)]),
    );
    const all = choose(data, choice),
      rows = all.filter(({ n }) => n),
      levels = choice.hue === NONE ? [NONE] : data.factors[choice.hue].levels,
      hues = levels.filter((level) => rows.some(({ hue }) => hue === level)),
      difference = choice.baseline !== NONE,
      colors = looks(hues.length);
    const label = difference ? `${choice.measure}, minus that of ${plain(choice.baseline)}` : choice.measure;
    const describe = (row) => plain(`${row.level} ${choice.hue === NONE ? "" : row.hue} ${number(row.mean)}`);
    note.textContent = noteText(rows, all, choice, model.get("unit"));
    wide.hidden = !rows.length;
    const drawnRows = rows.map((row) => ({
      ...row,
      ...colors[Math.max(0, hues.indexOf(row.hue))],
      name: plain(choice.hue !== NONE ? `${row.level} · ${row.hue}` : row.level),
    }));
    if (width && rows.length) drawRows(svg, width, drawnRows, { label, zero: difference });
    const head = [
      choice.factor,
      ...(choice.hue === NONE ? [] : [choice.hue]),
      difference ? "difference" : "mean",
      "low",
      "high",
      "n",
    ];
    const { node, fill } = table(label, head);
    fill(
      rows.map((row) => [
        plain(row.level),
        ...(choice.hue === NONE ? [] : [plain(row.hue)]),
        number(row.mean),
        number(row.low),
        number(row.high),
        String(row.n),
      ]),
    );
    body.replaceChildren(node);
    svg.setAttribute("aria-label", `${label} by ${choice.factor}: ${rows.map(describe).join("; ")}`);
    assign(
      model,
      "shown",
      rows.map(({ level, hue, mean, low, high, n }) => ({ level, hue, mean, low, high, n })),
    );
  }

  for (const name of ["factor", "hue", "baseline"]) model.on(`change:${name}`, choices);
  follow(model, "measure", draw);
  model.on("change:where", choices);
  choices();
  return stop;
}

// What a link may set.
export function address({ data }) {
  const names = Object.keys(data.factors);
  const levels = (name) => data.factors[name].levels;
  return {
    factor: oneOf(names),
    hue: oneOf([NONE, ...names]),
    measure: oneOf(Object.keys(data.measures)),
    where: (value) => names.every((name) => levels(name).includes(value?.[name])),
    baseline: oneOf([NONE, ...names.flatMap(levels)]),
  };
}
