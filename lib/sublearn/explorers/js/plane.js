// Chapter 1's explorer: drag the columns of W1 and W2, and see what the student learns.

import { plane } from "./arrows.js";
import { numbers, oneOf } from "./checks.js";
import { assign, button, element, fixed, follow, radios, table } from "./controls.js";
import { column, solve } from "./linear.js";

const NAMES = ["c", "a₁", "a₂"],
  LOOKS = ["third", "student", "control"];
const PRESETS = [
  [
    "a general teacher",
    {
      hidden: [
        [1.2, -0.5],
        [0.4, 1],
      ],
      heads: [
        [0.6, 1.2, -0.5],
        [1.1, 0.3, 0.9],
      ],
      logits: 1,
    },
  ],
  [
    "heads side by side",
    {
      hidden: [
        [1.2, -0.5],
        [0.4, 1],
      ],
      heads: [
        [0.6, 1.2, -0.5],
        [0.6, 1.2, 0.9],
      ],
      logits: 1,
    },
  ],
  [
    "heads at right angles",
    {
      hidden: [
        [1.2, -0.5],
        [0.4, 1],
      ],
      heads: [
        [-0.8, 1, -0.5],
        [1, 0.8, 0.9],
      ],
      logits: 1,
    },
  ],
  [
    "the student turns away",
    {
      hidden: [
        [1.2, 1.1],
        [-0.3, 0.6],
      ],
      heads: [
        [-0.5, 1.3, -0.5],
        [1.3, 0.2, 0.9],
      ],
      logits: 1,
    },
  ],
  [
    "two logits",
    {
      hidden: [
        [1.2, -0.5],
        [0.4, 1],
      ],
      heads: [
        [0.6, 1.2, -0.5],
        [1.1, 0.3, 0.9],
      ],
      logits: 2,
    },
  ],
  [
    "two logits, one line",
    {
      hidden: [
        [1.2, -0.5],
        [0.4, 1],
      ],
      heads: [
        [0.6, 1.2, -0.6],
        [1.1, 0.6, -0.3],
      ],
      logits: 2,
    },
  ],
];

// A range that holds all of `vectors`, one of few, so that it does not change with every move.
const fitting = (vectors) =>
  [2, 3, 4, 6, 10].find((range) => vectors.flat().every((value) => Math.abs(value) < 0.93 * range)) || 20;

export function render({ model, el }) {
  const grown = (trait) => () => fitting(model.get(trait));
  let reach = 2;
  const put = (trait, place) => (tip) =>
    assign(
      model,
      trait,
      model.get(trait).map((row, axis) => row.map((old, at) => (at === place ? tip[axis] : old))),
    );
  const hidden = plane("Columns of W₁: drag", {
    range: grown("hidden"),
    arrows: [0, 1].map((place) => ({
      key: place,
      name: `h${"₁₂"[place]}`,
      look: "teacher",
      label: `Column ${place + 1} of W1, hidden unit ${place + 1}`,
      drag: put("hidden", place),
    })),
  });
  const heads = plane("Columns of W₂: drag", {
    range: grown("heads"),
    arrows: [0, 1, 2].map((place) => ({
      key: place,
      name: NAMES[place],
      look: LOOKS[place],
      label: place ? `Column ${place + 1} of W2, auxiliary logit ${place}` : "Column 1 of W2, class logit",
      drag: put("heads", place),
    })),
  });
  const bands = NAMES.map((name, place) => ({ key: `teacher ${place}`, name, look: "band", band: true }));
  const results = plane("A: bands, A′: arrows", {
    range: () => reach,
    arrows: [...bands, ...[1, 2, 0].map((place) => ({ key: place, name: `${NAMES[place]}′`, look: LOOKS[place] }))],
  });
  const { node, fill } = table(
    "How near the student's class column is to the teacher's, though nothing asked it to be",
    ["measure", "value"],
  );
  const presets = PRESETS.map(([name, values]) =>
    button(name, () => {
      for (const [trait, value] of Object.entries(values)) model.set(trait, value);
      model.save_changes();
    }),
  );
  el.append(
    element("p", { class: "explorer-title" }, "Two layers in the plane"),
    element(
      "p",
      { class: "explorer-note" },
      "The student gets the teacher's W₂ and matches the auxiliary logits only. " +
        "Drag an arrow, or focus it and use the arrow keys " +
        "(with Shift for larger steps). c: class logit; a: auxiliary logits.",
    ),
    element("div", { class: "explorer-tools", role: "group", "aria-label": "Cases" }, ...presets),
    radios(model, "logits", "Auxiliary logits", [
      [1, "one"],
      [2, "two"],
    ]),
    element("div", { class: "explorer-planes" }, hidden.node, heads.node, results.node),
    node,
  );

  function draw() {
    const [W1, W2, logits] = ["hidden", "heads", "logits"].map((name) => model.get(name));
    const solution = solve(W1, W2, logits);
    reach = fitting([...solution.teacher, ...solution.student]);
    const spoken = `The student's class column is off by ${fixed(solution.angle, 0)} degrees.`;
    for (const place of [0, 1]) hidden.place(place, column(W1, place), spoken);
    for (const place of [0, 1, 2]) {
      const used = place <= logits;
      heads.place(place, used ? column(W2, place) : null, spoken);
      results.place(`teacher ${place}`, used ? column(solution.teacher, place) : null);
      results.place(place, used ? column(solution.student, place) : null);
    }
    for (const view of [hidden, heads, results]) view.finish();
    fill([
      ["angle between the class columns of A and A′", solution.angle == null ? "–" : `${fixed(solution.angle, 1)}°`],
      ["error of the class column, relative to its length", fixed(solution.error)],
      ["share of the class head that passes the projector", fixed(solution.share)],
    ]);
    const { angle, error, share } = solution;
    assign(model, "result", { angle, error, share, student: solution.student, teacher: solution.teacher });
  }
  for (const name of ["hidden", "heads"]) model.on(`change:${name}`, draw);
  follow(model, "logits", draw);
}

// What a link may set.
export const address = () => ({ hidden: numbers([2, 2], 20), heads: numbers([2, 3], 20), logits: oneOf([1, 2]) });
