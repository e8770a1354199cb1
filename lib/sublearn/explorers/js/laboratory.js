// The laboratory: a teacher, a student and a control that train before the reader's eyes.

import { numberIn, oneOf, someOf, wholeIn } from "./checks.js";
import { assign, button, calm, drawn, element, follow, percent, radios, select, sized, voice } from "./controls.js";
import { drawCurves, legend, settingsText } from "./curves.js";
import { unpack } from "./digits.js";
import { start } from "./driver.js";
import { floats } from "./packed.js";
import { digitsPanel, inputPanel, mapPanel } from "./panels.js";
import { runsPanel } from "./runs.js";
import { settingControls } from "./settings.js";
import { TEACHER } from "./training.js";

const SETTINGS = ["seed", "aux_dim", "perturbation", "lr", "shared", "inputs", "loss", "width", "steps"];
const PACES = [
  ["watch", "to watch"],
  ["full", "full"],
];
const MAPS = [
  ["student", "the student"],
  ["control", "the control"],
];
const WATCHED = 150; // steps per second that one can follow
const MANY = 20;
const BRIEF = 1000; // ms: a run that a sliding finger ended sooner is not worth keeping

// A recorded run in the shape of the engine's news: shown until the reader plays one.
function recording(packed) {
  if (!packed?.points) return null;
  const who = (name) => ({ ...packed[name], map: floats(packed[name].map) });
  return { ...packed, map: floats(packed.map), student: who("student"), control: who("control"), recorded: true };
}

function sentence(state, runs) {
  const { phase, step, points, config } = state;
  const [student, control, teacher] = [state.student.accuracy, state.control.accuracy, state.teacher].map(percent);
  const now = `the student reads ${student} of the test digits, the control ${control}, the teacher ${teacher}.`;
  if (state.recorded) return `A recorded run: ${now} Press Play, and your browser trains its own.`;
  if (phase === "teacher" && (step || state.playing)) return "The teacher is learning to read digits.";
  if (phase === "teacher")
    return runs ? "Ready: press Play." : "Press Play: first the teacher learns, then the students.";
  if (phase === "done") return `After ${config.steps.toLocaleString("en")} steps ${now}`;
  const half = points.find(([, student]) => student > 0.5);
  if (half) return `After ${half[0]} steps the student reads more than half of the test digits.`;
  return "The teacher is ready. The students begin.";
}

// Where a run is, in numbers.
function progressText({ phase, step, config, loss, recorded }) {
  if (recorded) return `Networks ${config.seed}, recorded with this book's scripts at the first settings.`;
  const now = step.toLocaleString("en");
  if (phase === "teacher") return `Networks ${config.seed}, teacher, step ${now} of ${TEACHER.steps}.`;
  const of = `step ${now} of ${config.steps.toLocaleString("en")}`;
  return `Networks ${config.seed}, ${of}, loss on the auxiliary logits ${loss.toPrecision(2)}.`;
}

function build(model, el, digits) {
  const recorded = recording(model.get("recorded"));
  let state = null,
    maps = {},
    ghost = recorded, // the run before the latest change
    begun = -Infinity,
    chartWidth = 0,
    drawnAs = "",
    tileAt = 0,
    due = 0,
    queue = 0,
    request = 0,
    runs = [...model.get("runs")];
  const engine = start(receive);
  const config = () => Object.fromEntries(SETTINGS.map((name) => [name, model.get(name)]));
  const order = (name, more = {}) => engine.send({ do: name, ...more });
  const restart = () => order("configure", { config: config() });
  const ordinary = () => order("pace", { steps: model.get("pace") === "full" ? Infinity : WATCHED });
  const same = (one, other) => SETTINGS.every((name) => String(one[name]) === String(other[name]));
  // Leave a row of many runs, if there is one.
  const alone = () => {
    queue = 0;
    ordinary();
  };
  const next = () => {
    const left = queue;
    assign(model, "seed", model.get("seed") + 1); // which restarts, and leaves the row as the reader's changes do
    queue = left;
  };
  // What is shown before anything was played, where the settings are those of the recorded run.
  const visible = () => {
    const rests = state.phase === "teacher" && !state.step && !state.playing && !runs.length;
    return rests && recorded && same(recorded.config, state.config) ? recorded : state;
  };

  // Answer at once: the engine's own news may take a moment.
  function answer(playing) {
    if (!state || state.phase === "done") return;
    state = { ...state, playing };
    drawnAs = "";
    draw();
  }

  // Keep the curve that a change interrupts, or that it makes comparable.
  function remember() {
    const brief = performance.now() - begun < BRIEF;
    begun = performance.now();
    if (queue || brief || !state || state.phase === "teacher" || state.points.length < 2) return;
    const drawn = state.phase === "done" && settingsText(state.config) === settingsText(config());
    if (!drawn) ghost = { config: state.config, points: state.points };
  }

  // A changed setting begins the run anew, and goes on playing if it was played.
  function changed() {
    remember();
    const playing = state?.playing && !queue;
    alone();
    restart();
    if (playing) order("play");
  }

  const play = button(
    "Play",
    () => {
      alone();
      if (state?.phase === "done") restart();
      order(state?.playing ? "pause" : "play");
      answer(!state?.playing);
    },
    { class: "primary" },
  );
  const many = button(`Run ${MANY} seeds`, () => {
    const stopping = queue > 0;
    alone();
    if (stopping) return order("pause");
    queue = MANY;
    restart();
    order("pace", { steps: Infinity });
    order("play");
  });
  const tools = element(
    "div",
    { class: "explorer-tools" },
    play,
    button("Step", () => {
      alone();
      order("step", { count: 1 });
    }),
    button("Restart", () => {
      alone();
      ghost = null;
      restart();
    }),
    button("New networks", () => {
      alone();
      next();
    }),
    many,
    select(model, "pace", "Speed", PACES),
  );
  const svg = drawn("svg", { class: "explorer-chart", role: "img" }),
    bar = element("progress", { "aria-label": "How far the run is", value: 0 }),
    curves = element("div", { class: "explorer-stage" }, bar, svg);
  const input = inputPanel(),
    ten = digitsPanel(digits),
    mapped = radios(model, "mapped", "Map of", MAPS),
    map = mapPanel(digits.testLabels, mapped),
    table = runsPanel(),
    spoken = voice();
  const count = element("p", { class: "explorer-note", "aria-hidden": "true" }),
    faint = element("p", { class: "explorer-note" });
  const texts = [spoken.node, count, faint];
  const stop = sized(curves, (width) => {
    chartWidth = width;
    drawnAs = "";
    draw();
  });
  const words =
    "Student and control copy the teacher's auxiliary logits on the inputs shown; nothing ever trains their " +
    "digit heads. The control began with other weights.";
  el.append(
    element("p", { class: "explorer-title" }, "The laboratory"),
    element("p", { class: "explorer-note" }, words),
    tools,
    element(
      "div",
      { class: "explorer-main" },
      element("div", { class: "explorer-wide" }, curves, ...texts),
      input.node,
    ),
    ...settingControls(model),
    ten.node,
    map.node,
    table.node,
  );
  table.show(runs);

  function receive(news) {
    if (news.student.map) maps = { map: news.map, student: news.student.map, control: news.control.map };
    if (news.phase === "teacher") maps = {};
    const ended = news.phase === "done" && state?.phase !== "done";
    state = {
      ...news,
      map: maps.map,
      student: { ...news.student, map: maps.student },
      control: { ...news.control, map: maps.control },
    };
    if (ended) finish();
    const wait = calm() ? Math.max(0, due - performance.now()) : 0;
    if (wait && state.playing) return;
    cancelAnimationFrame(request);
    request = requestAnimationFrame(draw);
  }

  function finish() {
    const { points, teacher, ceiling, student, control, worker } = state;
    const accuracies = { teacher, ceiling, student: student.accuracy, control: control.accuracy };
    const run = { config: state.config, ...accuracies, points };
    // once more the same run is no further run
    runs = [...runs.filter((other) => !same(other.config, run.config)), run].slice(-400);
    model.set("result", { ...run, worker });
    assign(
      model,
      "runs",
      runs.map(({ points, ...rest }) => rest),
    );
    table.show(runs);
    if (queue && --queue) {
      next();
      order("pace", { steps: Infinity });
      order("play");
    } else ordinary();
  }

  function draw() {
    if (!state || !chartWidth) return;
    due = performance.now() + 1000;
    const shown = visible(),
      { config } = shown,
      text = settingsText(config),
      before = ghost && !same(ghost.config, config) ? ghost : null;
    play.textContent = state.playing ? "Pause" : state.phase === "done" ? "Play again" : "Play";
    many.textContent = queue ? `Stop (${queue} to go)` : `Run ${MANY} seeds`;
    bar.max = TEACHER.steps + config.steps;
    bar.value = state.phase === "teacher" ? state.step : TEACHER.steps + state.step;
    count.textContent = progressText(shown);
    faint.textContent = legend({ band: model.get("band"), ghost: before, config });
    spoken.say(sentence(shown, runs.length));
    if (performance.now() - tileAt > (calm() ? 2000 : 450) || !state.playing) {
      tileAt = performance.now();
      input.show(shown.tile, config);
    }
    const parts = [shown.points.length, state.phase, chartWidth, runs.length, model.get("mapped"), text, config.seed];
    const drawing = [...parts, state.playing && state.phase, shown.recorded, before?.points.length].join();
    if (drawing === drawnAs) return;
    drawnAs = drawing;
    const earlier = runs
      .filter((run) => run.points && settingsText(run.config) === text && run.config.seed !== config.seed)
      .slice(-40);
    drawCurves(svg, chartWidth, shown, { band: model.get("band"), earlier, ghost: before });
    svg.setAttribute("aria-label", `Accuracy along the students' training. ${sentence(shown, runs.length)}`);
    ten.show(shown);
    map.show(shown, model.get("mapped"));
  }

  order("init", { digits });
  for (const name of SETTINGS) model.on(`change:${name}`, changed);
  model.on("change:mapped", draw);
  follow(model, "pace", ordinary);
  restart();
  const hidden = () => document.hidden && state?.playing && order("pause");
  document.addEventListener("visibilitychange", hidden);
  return () => {
    engine.stop();
    stop();
    table.stop();
    document.removeEventListener("visibilitychange", hidden);
  };
}

// What a link may set.
export const address = () => ({
  seed: wholeIn(0, 1e6),
  aux_dim: wholeIn(1, 20),
  perturbation: numberIn(0, 1),
  lr: numberIn(1e-5, 0.1),
  shared: someOf(["hidden", "class_head", "aux_head"]),
  inputs: oneOf(["noise", "digits"]),
  loss: oneOf(["mse", "kl"]),
  width: oneOf([32, 64, 128]),
  steps: oneOf([300, 600, 1000, 1500, 3000]),
  pace: oneOf(PACES.map(([value]) => value)),
  mapped: oneOf(MAPS.map(([value]) => value)),
});

export async function render({ model, el }) {
  return build(model, el, await unpack(model.get("digits")));
}
