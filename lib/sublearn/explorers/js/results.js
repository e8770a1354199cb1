// One explorer for any table of results: choose factor, hue, measure and baseline; means with intervals, single models.

import { ticks } from "./chart.js";
import { assign, button, drawn, element, folded, follow, select, sized, table } from "./controls.js";
import { paired, summary } from "./statistics.js";

const LOOKS = ["student", "control", "teacher", "third"];
const NONE = "(none)";

// Rows of a table packed by columns: factors as { name: { levels, codes } }, measures as { name: values }, units.
export function choose(data, { factor, hue, measure, baseline, where }) {
  const names = Object.keys(data.factors),
    fixed = names.filter((name) => name !== factor && name !== hue);
  const level = (name, row) => data.factors[name].levels[data.factors[name].codes[row]];
  const kept = data.units.map((_, row) => row).filter((row) => fixed.every((name) => level(name, row) === where[name]));
  const values = (first, second) =>
    kept
      .filter((row) => level(factor, row) === first && (hue === NONE || level(hue, row) === second))
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
      rows.push({
        level: first,
        hue: second,
        points,
        repeated,
        ...(base ? paired(chosen, base) : summary(points, measure)),
      });
    }
  }
  const order = data.factors[factor].levels;
  return rows.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

const number = (value) => (value == null ? "–" : Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3));

function csv(data) {
  const names = [...Object.keys(data.factors), "unit", ...Object.keys(data.measures)];
  const quoted = (cell) =>
    /[",\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell ?? "");
  const cells = (row) => [
    ...Object.values(data.factors).map(({ levels, codes }) => levels[codes[row]]),
    data.units[row],
    ...Object.values(data.measures).map((values) => values[row]),
  ];
  return [names, ...data.units.map((_, row) => cells(row))].map((row) => row.map(quoted).join(",")).join("\n");
}

function drawRows(svg, width, rows, { label, hues, difference }) {
  const narrow = width < 520,
    left = narrow ? 8 : Math.min(0.4 * width, 260),
    right = width - 14,
    line = narrow ? 38 : 26;
  const height = rows.length * line + 48,
    inner = height - 44;
  const every = rows.flatMap(({ points, low, high }) => [...points, low ?? points[0], high ?? points[0]]);
  let [least, most] = [Math.min(...every), Math.max(...every)];
  if (difference) [least, most] = [Math.min(least, 0), Math.max(most, 0)];
  else if (least >= 0 && most <= 1) [least, most] = [0, 1];
  const margin = 0.04 * (most - least || 1);
  const at = (value) => left + ((value - least + margin) / (most - least + 2 * margin)) * (right - left);
  const parts = ticks([least - margin, most + margin], narrow ? 4 : 6).flatMap((value) => [
    drawn("line", { x1: at(value), x2: at(value), y1: 4, y2: inner }),
    drawn("text", { x: at(value), y: inner + 16, "text-anchor": "middle" }, String(Number(value.toPrecision(6)))),
  ]);
  const back = drawn(
    "g",
    { class: "axis" },
    ...parts,
    drawn("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, label),
  );
  const front = drawn("g");
  if (difference) front.append(drawn("path", { d: `M${at(0)} 4V${inner}`, class: "line zero" }));
  rows.forEach((row, place) => {
    const y = 4 + place * line + (narrow ? 26 : 14),
      look = LOOKS[Math.max(0, hues.indexOf(row.hue)) % LOOKS.length];
    const title = hues.length > 1 ? `${row.level} · ${row.hue}` : row.level;
    const name = drawn(
      "text",
      narrow ? { x: left, y: y - 12 } : { x: left - 10, y: y + 4, "text-anchor": "end" },
      title,
    );
    row.points.forEach((value, point) =>
      front.append(drawn("circle", { cx: at(value), cy: y + ((point % 5) - 2) * 1.6, r: 2.6, class: `single` })),
    );
    if (row.low != null)
      front.append(
        drawn("path", {
          d: `M${at(row.low)} ${y}H${at(row.high)}M${at(row.low)} ${y - 4}v8M${at(row.high)} ${y - 4}v8`,
          class: `line bar ${look}`,
        }),
      );
    front.append(name, drawn("circle", { cx: at(row.mean), cy: y, r: 4.5, class: `dot ${look}` }));
  });
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, width, height }))
    svg.setAttribute(key, value);
  svg.replaceChildren(back, front);
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
  const file = () => {
    const address = URL.createObjectURL(new Blob([csv(data)], { type: "text/csv" }));
    element("a", { href: address, download: `${model.get("name")}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };
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
    if (model.get("baseline") !== NONE && !data.factors[factor].levels.includes(model.get("baseline")))
      model.set("baseline", NONE);
    const rest = several.filter((name) => name !== factor && name !== model.get("hue"));
    const filters = rest.map((name) => {
      const filter = {
        get: () => model.get("where")[name],
        set: (_, value) => model.set("where", { ...model.get("where"), [name]: value }),
        save_changes: () => model.save_changes(),
        on() {},
      };
      return select(filter, `where ${name}`, name, data.factors[name].levels);
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
      select(quiet, "baseline", "Difference to", [NONE, ...data.factors[factor].levels]),
      ...filters,
    );
    if (had) controls.querySelector(`[data-trait="${had}"]`)?.focus();
    draw();
  }

  function draw() {
    const choice = Object.fromEntries(
      ["factor", "hue", "measure", "baseline", "where"].map((name) => [name, model.get(name)]),
    );
    const rows = choose(data, choice),
      hues = choice.hue === NONE ? [NONE] : data.factors[choice.hue].levels,
      difference = choice.baseline !== NONE;
    const counts = rows.map(({ n }) => n),
      n = Math.min(...counts) === Math.max(...counts) ? counts[0] : `${Math.min(...counts)} to ${Math.max(...counts)}`;
    const label = difference ? `${choice.measure}, minus that of ${choice.baseline}` : choice.measure;
    const describe = (row) => `${row.level} ${hues.length > 1 ? row.hue : ""} ${number(row.mean)}`;
    const unit = model.get("unit");
    const faulty = rows.some(({ repeated }) => repeated),
      single = Math.max(0, ...rows.map((row) => row.single || 0));
    note.textContent = rows.length
      ? `Points are means over n = ${n} ${unit}, bars are 95 % intervals, faint dots are single ${unit}.` +
        (difference ? " Differences are paired." : "") +
        (single ? ` ${single} without a partner are left out.` : "") +
        (faulty ? " Some units occur several times here, so the bars are too short." : "")
      : "The table has no row of this kind.";
    if (!rows.length) svg.replaceChildren();
    if (width && rows.length) drawRows(svg, width, rows, { label, hues, difference });
    const head = [
      choice.factor,
      ...(hues.length > 1 ? [choice.hue] : []),
      difference ? "difference" : "mean",
      "low",
      "high",
      "n",
    ];
    const { node, fill } = table(label, head);
    fill(
      rows.map((row) => [
        row.level,
        ...(hues.length > 1 ? [row.hue] : []),
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
  model.on("change:where", draw);
  choices();
  return stop;
}
