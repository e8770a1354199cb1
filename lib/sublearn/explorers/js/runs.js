// The laboratory's finished runs: a small chart, a table with means and intervals, and a file.

import { button, drawn, element, folded, percent, sized, table } from "./controls.js";
import { save } from "./csv.js";
import { settingsText, shortText } from "./curves.js";
import { drawRows } from "./rows.js";
import { summary } from "./statistics.js";

const ROLES = ["student", "control", "ceiling", "teacher"];

function shown(values) {
  const { mean, low, n } = summary(values);
  return n < 2 ? percent(mean) : `${percent(mean)} ± ${(100 * (mean - low)).toFixed(1)}`;
}

// Runs by all of their settings but the seed; equal settings share a group.
function grouped(runs) {
  const groups = new Map();
  for (const run of runs) {
    const text = settingsText(run.config);
    groups.set(text, [...(groups.get(text) || []), run]);
  }
  return groups;
}

function chartRows(groups) {
  return [...groups.values()].flatMap((group) =>
    ["student", "control"].map((who) => {
      const points = group.map((run) => run[who]);
      return { name: `${who}, ${shortText(group[0].config)}`, look: who, points, ...summary(points) };
    }),
  );
}

// Call `show` with the runs whenever one has ended.
export function runsPanel() {
  const caption =
    "Accuracy on the 500 test digits at the end of each run; ± is a 95 % t interval over runs of equal settings";
  const { node, fill } = table(caption, ["settings", "runs", ...ROLES]);
  const svg = drawn("svg", {
      role: "img",
      "aria-label": "Accuracies of your finished runs; the table holds the numbers",
    }),
    wide = element("div", { class: "explorer-wide" }, svg);
  let runs = [],
    width = 0;
  const download = button("Download the runs (CSV)", () => {
    const names = Object.keys(runs[0].config);
    const cells = ({ config, ...run }) => [
      ...names.map((name) => (Array.isArray(config[name]) ? config[name].join(" ") : config[name])),
      ...ROLES.map((who) => run[who]),
    ];
    save("laboratory-runs", [[...names, ...ROLES], ...runs.map(cells)]);
  });
  const panel = folded("Runs so far", wide, node, download);
  panel.open = true;

  function draw() {
    const rows = chartRows(grouped(runs));
    if (width && rows.length) drawRows(svg, width, rows, { label: "accuracy at the end" });
    wide.hidden = download.hidden = !runs.length;
  }
  const stop = sized(panel, (next) => {
    width = next;
    draw();
  });
  return {
    node: panel,
    stop,
    show(finished) {
      runs = finished;
      const lines = [...grouped(runs)].map(([text, group]) => [
        text,
        String(group.length),
        ...ROLES.map((who) => shown(group.map((run) => run[who]))),
      ]);
      fill(lines.length ? lines : [["none yet: play one to its end", "0", "–", "–", "–", "–"]]);
      draw();
    },
  };
}
