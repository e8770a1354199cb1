// The laboratory's settings as controls.

import { checks, element, folded, follow, percent, radios, select, slider } from "./controls.js";

const RATES = [0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02];

// One element for each row of controls.
export function settingControls(model) {
  const start = [
    ["hidden", "hidden layers"],
    ["class_head", "digit head"],
    ["aux_head", "auxiliary head"],
  ];
  const note = element("p", { class: "explorer-note" });
  const warn = () => {
    const silent = model.get("loss") === "kl" && model.get("aux_dim") === 1;
    note.textContent = silent
      ? "With one logit the KL divergence teaches nothing: the softmax of one number is always 1."
      : "";
  };
  for (const name of ["loss", "aux_dim"]) follow(model, name, warn);
  return [
    element(
      "div",
      { class: "explorer-controls" },
      slider(
        model,
        "aux_dim",
        "Auxiliary logits m",
        Array.from({ length: 20 }, (_, place) => place + 1),
      ),
      slider(
        model,
        "perturbation",
        "Perturbation of the start",
        Array.from({ length: 21 }, (_, place) => place / 20),
        percent,
      ),
      slider(model, "lr", "Learning rate", RATES),
      radios(model, "inputs", "The students see", [
        ["noise", "random noise"],
        ["digits", "real digits (no labels)"],
      ]),
      checks(model, "shared", "Copied from the teacher's start", start),
    ),
    note,
    folded(
      "More settings",
      element(
        "div",
        { class: "explorer-controls" },
        select(model, "loss", "Loss", [
          ["mse", "squared error"],
          ["kl", "KL divergence"],
        ]),
        select(model, "width", "Hidden units per layer", [32, 64, 128]),
        select(model, "steps", "Steps of the students", [300, 600, 1000, 1500, 3000]),
      ),
    ),
  ];
}
