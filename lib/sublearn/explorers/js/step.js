// Theorem 1 as a picture: the teacher's step, what the student makes of it, and the sign of their inner product.

import { plane } from "./arrows.js";
import { numbers, oneOf } from "./checks.js";
import { assign, button, element, fixed, radios, table } from "./controls.js";
import { imitation } from "./linear.js";

const TRAITS = ["step", "teacher_head", "student_head", "start"];
const PRESETS = [
  ["toward", { step: [1.5, 0.5], teacher_head: [0.5, 1.4], student_head: [-0.9, 0.8] }],
  ["nothing seen", { step: [0.8, 1], teacher_head: [1, -0.8], student_head: [-0.3, 1] }],
  ["away", { step: [1.3, 0.5], teacher_head: [0.9, 0.4], student_head: [-1, 0.5], start: "other" }],
];

export function render({ model, el }) {
  const put = (trait) => (tip) => assign(model, trait, tip);
  const view = plane("One row of the hidden weights", {
    arrows: [
      { key: "line", name: "", look: "guide", line: true },
      { key: "moved", name: "student", look: "student" },
      { key: "teacher_head", name: "a", look: "third", label: "Teacher's auxiliary head", drag: put("teacher_head") },
      {
        key: "student_head",
        name: "a′",
        look: "control",
        label: "Student's auxiliary head",
        drag: put("student_head"),
      },
      { key: "step", name: "teacher", look: "teacher", label: "Teacher's step", drag: put("step") },
    ],
  });
  const { node, fill } = table("What the student's step has in common with the teacher's", ["measure", "value"]);
  const presets = PRESETS.map(([name, values]) =>
    button(name, () => {
      for (const [trait, value] of Object.entries({ start: "same", ...values })) model.set(trait, value);
      model.save_changes();
    }),
  );
  el.append(
    element("p", { class: "explorer-title" }, "One step"),
    element(
      "p",
      { class: "explorer-note" },
      "The teacher moves a row of hidden weights. Its auxiliary logit reports only how far along its head a the step " +
        "went; the student moves along its own head by as much (with the same head: the teacher's step, projected). " +
        "Drag the arrows, or use the arrow keys.",
    ),
    element("div", { class: "explorer-tools", role: "group", "aria-label": "Cases" }, ...presets),
    element(
      "div",
      { class: "explorer-beside" },
      view.node,
      element(
        "div",
        {},
        radios(model, "start", "The student's auxiliary head is", [
          ["same", "the teacher's (shared start)"],
          ["other", "its own (other start)"],
        ]),
        node,
      ),
    ),
  );

  function draw() {
    const [step, teacherHead, studentHead, start] = TRAITS.map((name) => model.get(name));
    const head = start === "same" ? teacherHead : studentHead;
    const { moved, inner, report } = imitation(step, teacherHead, head);
    const sign =
      inner > 1e-9
        ? "positive: the student moves the teacher's way"
        : inner < -1e-9
          ? "negative: it moves away"
          : "zero";
    const spoken = `The inner product is ${sign}.`;
    view.place("line", head);
    view.place("moved", moved);
    view.place("teacher_head", teacherHead, spoken);
    view.place("student_head", start === "same" ? null : studentHead, spoken);
    view.place("step", step, spoken);
    view.finish();
    fill([
      ["what the auxiliary logit reports, ⟨step, a⟩", fixed(report)],
      ["inner product of both steps", `${fixed(inner)}, ${sign}`],
    ]);
    assign(model, "result", { moved, inner, report });
  }
  for (const name of TRAITS) model.on(`change:${name}`, draw);
  draw();
}

// What a link may set.
export const address = () => ({
  step: numbers([2], 2),
  teacher_head: numbers([2], 2),
  student_head: numbers([2], 2),
  start: oneOf(["same", "other"]),
});
