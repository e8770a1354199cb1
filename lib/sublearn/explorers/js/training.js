// A teacher, then a student and a control beside each other, one step at a time.
//
// The teacher learns labels from digits. Student and control match its auxiliary logits, on noise or on digits
// without labels. Every number comes from a named stream, so that the same configuration gives the same run anywhere.

import { components, correlation, project } from "./components.js";
import {
  adam,
  backward,
  buffers,
  CLASSES,
  copy,
  crossEntropy,
  divergence,
  forward,
  initial,
  PIXELS,
  squaredError,
  update,
} from "./network.js";
import { key, uniform } from "./random.js";

export const BATCH = 64;
export const TEACHER = { steps: 300, lr: 0.001 };
export const DEFAULTS = {
  seed: 1,
  aux_dim: 3,
  perturbation: 0,
  lr: 0.003,
  shared: ["hidden", "class_head", "aux_head"],
  inputs: "noise",
  loss: "mse",
  width: 64,
  steps: 1500,
};
const HEAD = ["class_head"],
  AUX = ["aux_head"];
const AFTER_TEACHER = 100000; // batches of the student are numbered from here on

// Whether the accuracies are looked at after so many steps.
export function isChecked(step, steps) {
  return step % (step < 200 ? 10 : 25) === 0 || step === steps;
}

function largest(logits, row) {
  let best = 0;
  for (let j = 1; j < CLASSES; j++) if (logits[row * CLASSES + j] > logits[row * CLASSES + best]) best = j;
  return best;
}

// `digits` holds train and test images (n x 64, from -1 to 1) and their labels.
export function laboratory(digits, space) {
  const kept = {};
  for (const part of ["train", "test"]) {
    kept[part] = space.zeros(digits[part].length);
    kept[part].set(digits[part]);
  }
  const base = space.mark();
  const tests = digits.testLabels.length,
    teachers = new Map();
  const labels = new Uint8Array(BATCH);
  let config, run;

  function configure(settings) {
    config = { ...DEFAULTS, ...settings };
    space.reset(base);
    const { seed, width, aux_dim } = config;
    const start = initial(space, seed, "start", width, aux_dim),
      ownStart = initial(space, seed, "own start", width, aux_dim);
    const parts = { hidden0: "hidden", hidden1: "hidden" };
    const mix = (part) => [ownStart, config.shared.includes(parts[part] || part) ? config.perturbation : 1];
    run = { phase: "teacher", step: 0, points: [], loss: 0, start, teacher: copy(start) };
    run.student = { network: copy(start, mix) };
    run.control = { network: initial(space, seed, "control start", width, aux_dim) };
    run.inputs = space.zeros(BATCH * PIXELS);
    run.buffers = { teacher: buffers(start, BATCH), test: buffers(start, tests) };
    run.optimizer = adam(run.teacher, ["hidden0", "hidden1", "class_head"]);
    for (const state of [run.student, run.control]) {
      state.buffers = buffers(start, BATCH);
      state.optimizer = adam(state.network, ["hidden0", "hidden1", "aux_head"]);
    }
    const saved = teachers.get(`${seed} ${width}`);
    if (saved) restore(saved);
  }

  function restore(saved) {
    for (const [part, { weight, bias }] of Object.entries(saved)) {
      run.teacher[part].weight.set(weight);
      run.teacher[part].bias.set(bias);
    }
    finishTeacher();
  }

  function fillDigits(number) {
    const stream = key(config.seed, "batches", number),
      count = digits.trainLabels.length;
    for (let i = 0; i < BATCH; i++) {
      const chosen = Math.floor(uniform(stream, i) * count);
      labels[i] = digits.trainLabels[chosen];
      run.inputs.set(kept.train.subarray(chosen * PIXELS, (chosen + 1) * PIXELS), i * PIXELS);
    }
  }

  function fillNoise(number) {
    const stream = key(config.seed, "noise", number);
    for (let at = 0; at < BATCH * PIXELS; at++) run.inputs[at] = 2 * uniform(stream, at) - 1;
  }

  function teacherStep() {
    fillDigits(run.step);
    forward(run.teacher, run.inputs, run.buffers.teacher, HEAD);
    run.loss = crossEntropy(run.buffers.teacher, labels);
    backward(run.teacher, run.inputs, run.buffers.teacher, "class_head");
    update(run.teacher, run.buffers.teacher.gradient, run.optimizer, TEACHER.lr);
    run.step += 1;
    if (run.step === TEACHER.steps) finishTeacher();
  }

  // The teacher is ready: keep its weights, and begin with the students.
  function finishTeacher() {
    const saved = Object.fromEntries(
      run.optimizer.parts.map((part) => {
        const { weight, bias } = run.teacher[part];
        return [part, { weight: weight.slice(), bias: bias.slice() }];
      }),
    );
    teachers.set(`${config.seed} ${config.width}`, saved);
    run.teacherAccuracy = accuracy(run.teacher);
    run.axes = components(run.buffers.test.second, tests, config.width);
    run.map = project(run.axes, run.buffers.test.second, tests);
    run.ceiling = accuracy({ ...run.teacher, class_head: run.start.class_head });
    Object.assign(run, { phase: "student", step: 0, loss: 0 });
    check();
  }

  function accuracy(network) {
    forward(network, kept.test, run.buffers.test, HEAD);
    let right = 0;
    for (let i = 0; i < tests; i++) right += largest(run.buffers.test.class_head, i) === digits.testLabels[i];
    return right / tests;
  }

  function predictions() {
    const chosen = Array.from({ length: CLASSES }, (_, digit) => digits.testLabels.indexOf(digit));
    return chosen.map((place) => largest(run.buffers.test.class_head, place));
  }

  function check() {
    for (const state of [run.student, run.control]) {
      state.accuracy = accuracy(state.network);
      state.predictions = predictions();
      state.map = project(run.axes, run.buffers.test.second, tests);
      state.agreement = [0, 1].map((axis) => correlation(state.map, run.map, axis));
    }
    run.points.push([run.step, run.student.accuracy, run.control.accuracy]);
  }

  function studentStep() {
    if (config.inputs === "digits") fillDigits(AFTER_TEACHER + run.step);
    else fillNoise(run.step);
    const measure = config.loss === "kl" ? divergence : squaredError;
    forward(run.teacher, run.inputs, run.buffers.teacher, AUX);
    for (const state of [run.student, run.control]) {
      forward(state.network, run.inputs, state.buffers, AUX);
      state.loss = measure(state.buffers, run.buffers.teacher.aux_head, config.aux_dim);
      backward(state.network, run.inputs, state.buffers, "aux_head");
      update(state.network, state.buffers.gradient, state.optimizer, config.lr);
    }
    run.loss = run.student.loss;
    run.step += 1;
    if (isChecked(run.step, config.steps)) check();
    if (run.step >= config.steps) run.phase = "done";
  }

  function step() {
    if (run.phase === "teacher") teacherStep();
    else if (run.phase === "student") studentStep();
  }

  // What a reader can see of the run now; the maps (test digits x 2) lie in the plane of the teacher's features.
  function snapshot() {
    const { phase, step, loss, points, ceiling, axes } = run;
    const visible = ({ accuracy, predictions, map, agreement }) => ({ accuracy, predictions, map, agreement });
    const tile =
      phase === "teacher" || step === 0
        ? null
        : {
            input: Array.from(run.inputs.subarray(0, PIXELS)),
            teacher: Array.from(run.buffers.teacher.aux_head.subarray(0, config.aux_dim)),
            student: Array.from(run.student.buffers.aux_head.subarray(0, config.aux_dim)),
          };
    return {
      config,
      phase,
      step,
      loss,
      points,
      ceiling,
      tile,
      teacher: run.teacherAccuracy,
      map: run.map,
      variance: axes?.share,
      student: visible(run.student),
      control: visible(run.control),
    };
  }

  return {
    configure,
    step,
    snapshot,
    get phase() {
      return run.phase;
    },
  };
}
