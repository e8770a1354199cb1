// The laboratory: a teacher, a student and a control that train before the reader's eyes.

import { chart } from "./chart.js";
import {
  assign,
  button,
  calm,
  drawn,
  element,
  folded,
  follow,
  percent,
  radios,
  select,
  sized,
  voice,
} from "./controls.js";
import { unpack } from "./digits.js";
import { start } from "./driver.js";
import { digitsPanel, inputPanel, mapPanel, runsPanel, settingsText } from "./panels.js";
import { settingControls } from "./settings.js";
import { DEFAULTS } from "./training.js";

const SETTINGS = ["seed", "aux_dim", "perturbation", "lr", "shared", "inputs", "loss", "width", "steps"];
const WATCHED = 150; // steps per second that one can follow
const MANY = 20;

function drawCurves(svg, width, state, { band, earlier }) {
  const narrow = width < 480,
    { steps } = state.config;
  const frame = chart(svg, {
    width,
    x: [0, steps],
    y: [0, 1],
    right: narrow ? 84 : 110,
    format: percent,
    xLabel: "students' training steps",
    xFormat: (value) => value.toLocaleString("en"),
  });
  if (band)
    frame.band(
      band.points.filter(([at]) => at <= steps),
      "student",
    );
  for (const run of earlier)
    frame.line(
      run.points.map(([at, student]) => [at, student]),
      "student earlier",
    );
  const levels = [
    ["chance", 0.1],
    ["teacher", state.teacher],
    ["ceiling", state.ceiling],
  ];
  for (const [name, value] of levels) {
    if (value == null) continue;
    frame.level(value, name);
    frame.name(value, name === "chance" ? "chance" : `${name} ${percent(value)}`, name);
  }
  for (const [place, who] of [
    [2, "control"],
    [1, "student"],
  ]) {
    if (!state.points.length) continue;
    const points = state.points.map((point) => [point[0], point[place]]),
      [at, value] = points.at(-1);
    frame.line(points, who);
    frame.dot(at, value, who);
    frame.name(value, `${who} ${percent(value)}`, who);
  }
  frame.finish();
}

function sentence(state) {
  const { phase, step, points, config } = state;
  if (phase === "teacher")
    return step
      ? "The teacher is learning to read digits."
      : "Press Play: first the teacher learns, then the students copy its auxiliary logits.";
  const [student, control, teacher] = [state.student.accuracy, state.control.accuracy, state.teacher].map(percent);
  const now = `the student reads ${student} of the test digits, the control ${control}, the teacher ${teacher}.`;
  if (phase === "done") return `After ${config.steps.toLocaleString("en")} steps ${now}`;
  const half = points.find(([, student]) => student > 0.5);
  if (half) return `After ${half[0]} steps the student reads more than half of the test digits.`;
  return "The teacher is ready. The students begin.";
}

function build(model, el, digits) {
  let state = null,
    maps = {},
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
  const play = button(
    "Play",
    () => {
      alone();
      if (state?.phase === "done") restart();
      order(state?.playing ? "pause" : "play");
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
      restart();
    }),
    button("New networks", () => {
      alone();
      next();
    }),
    many,
    select(model, "pace", "Speed", [
      ["watch", "to watch"],
      ["full", "full"],
    ]),
  );
  const svg = drawn("svg", {
      class: "explorer-chart",
      role: "img",
      "aria-label": "Accuracy along the students' training",
    }),
    curves = element("div", { class: "explorer-wide" }, svg);
  const input = inputPanel(),
    ten = digitsPanel(digits),
    mapped = radios(model, "mapped", "Map of", [
      ["student", "the student"],
      ["control", "the control"],
    ]),
    map = mapPanel(digits.testLabels, mapped),
    table = runsPanel(),
    spoken = voice();
  const count = element("p", { class: "explorer-note", "aria-hidden": "true" });
  const stop = sized(curves, (width) => {
    chartWidth = width;
    drawnAs = "";
    draw();
  });
  el.append(
    element("p", { class: "explorer-title" }, "The laboratory"),
    element(
      "p",
      { class: "explorer-note" },
      "Student and control copy the teacher's auxiliary logits on the inputs shown; nothing ever trains their " +
        "digit heads. The control began with other weights.",
    ),
    tools,
    ...settingControls(model),
    element("div", { class: "explorer-main" }, curves, input.node),
    spoken.node,
    count,
    ten.node,
    map.node,
    folded("Runs so far", table.node),
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
    const run = {
      config: state.config,
      teacher,
      ceiling,
      student: student.accuracy,
      control: control.accuracy,
      points,
    };
    const same = (other) => SETTINGS.every((name) => String(other.config[name]) === String(run.config[name]));
    runs = [...runs.filter((other) => !same(other)), run].slice(-400); // once more the same run is no further run
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
    play.textContent = state.playing ? "Pause" : state.phase === "done" ? "Play again" : "Play";
    many.textContent = queue ? `Stop (${queue} to go)` : `Run ${MANY} seeds`;
    const done =
      state.phase === "teacher"
        ? "teacher, step"
        : `step ${state.step.toLocaleString("en")} of ${state.config.steps.toLocaleString("en")},`;
    const now =
      state.phase === "teacher"
        ? `${done} ${state.step}`
        : `${done} loss on the auxiliary logits ${state.loss.toPrecision(2)}`;
    const text = settingsText(state.config),
      band = text === settingsText(DEFAULTS) ? model.get("band") : null;
    const shaded = band ? `Shaded: the middle 90 % of ${band.runs} such runs.` : "";
    count.textContent = `Networks ${state.config.seed}, ${now}. ${shaded}`;
    spoken.say(sentence(state));
    if (performance.now() - tileAt > (calm() ? 2000 : 450) || !state.playing) {
      tileAt = performance.now();
      input.show(state.tile, state.config);
    }
    const drawing = [
      state.points.length,
      state.phase,
      chartWidth,
      runs.length,
      model.get("mapped"),
      text,
      state.config.seed,
    ].join();
    if (drawing === drawnAs) return;
    drawnAs = drawing;
    const earlier = runs
      .filter((run) => run.points && settingsText(run.config) === text && run.config.seed !== state.config.seed)
      .slice(-40);
    drawCurves(svg, chartWidth, state, { band, earlier });
    svg.setAttribute("aria-label", `Accuracy along the students' training. ${sentence(state)}`);
    ten.show(state);
    map.show(state, model.get("mapped"));
  }

  order("init", { digits });
  for (const name of SETTINGS) {
    model.on(`change:${name}`, () => {
      alone();
      restart();
    });
  }
  model.on("change:mapped", draw);
  follow(model, "pace", ordinary);
  restart();
  const hidden = () => document.hidden && state?.playing && order("pause");
  document.addEventListener("visibilitychange", hidden);
  return () => {
    engine.stop();
    stop();
    document.removeEventListener("visibilitychange", hidden);
  };
}

export async function render({ model, el }) {
  return build(model, el, await unpack(model.get("digits")));
}
