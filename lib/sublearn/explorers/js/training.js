// A teacher, then a student and a control beside each other, one step at a time.
//
// The teacher learns labels from digits. Student and control match its auxiliary logits, on noise or on digits
// without labels. Every number comes from a named stream, so that the same configuration gives the same run anywhere.

import { components, correlation, project } from "./components.js";
import {
  adam,
  backward,
  CLASSES,
  copy,
  crossEntropy,
  divergence,
  forward,
  initial,
  PIXELS,
  room,
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
    taught = new Map();
  const labels = new Uint8Array(BATCH);
  let config, run;

  function configure(asked) {
    config = { ...DEFAULTS, ...asked };
    space.reset(base);
    const { seed, width, aux_dim } = config;
    const start = initial(space, seed, "start", width, aux_dim),
      own = initial(space, seed, "own start", width, aux_dim);
    const parts = { hidden0: "hidden", hidden1: "hidden" };
    const mix = (part) => [own, config.shared.includes(parts[part] || part) ? config.perturbation : 1];
    run = { phase: "teacher", step: 0, points: [], loss: 0, begun: false, start, teacher: copy(start) };
    run.student = { network: copy(start, mix) };
    run.control = { network: initial(space, seed, "control start", width, aux_dim) };
    run.inputs = space.zeros(BATCH * PIXELS);
    run.room = { teacher: room(start, BATCH), test: room(start, tests) };
    run.memory = adam(run.teacher, ["hidden0", "hidden1", "class_head"]);
    for (const pupil of [run.student, run.control]) {
      pupil.room = room(start, BATCH);
      pupil.memory = adam(pupil.network, ["hidden0", "hidden1", "aux_head"]);
    }
    const known = taught.get(`${seed} ${width}`);
    if (known) recall(known);
  }

  function recall(known) {
    for (const [part, { weight, bias }] of Object.entries(known)) {
      run.teacher[part].weight.set(weight);
      run.teacher[part].bias.set(bias);
    }
    graduate();
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

  function teach() {
    fillDigits(run.step);
    forward(run.teacher, run.inputs, run.room.teacher, HEAD);
    run.loss = crossEntropy(run.room.teacher, labels);
    backward(run.teacher, run.inputs, run.room.teacher, "class_head");
    update(run.teacher, run.room.teacher.gradient, run.memory, TEACHER.lr);
    run.step += 1;
    if (run.step === TEACHER.steps) graduate();
  }

  // The teacher is ready: note what it knows, and begin with the students.
  function graduate() {
    const saved = Object.fromEntries(
      run.memory.parts.map((part) => {
        const { weight, bias } = run.teacher[part];
        return [part, { weight: weight.slice(), bias: bias.slice() }];
      }),
    );
    taught.set(`${config.seed} ${config.width}`, saved);
    run.teacherAccuracy = accuracy(run.teacher);
    run.axes = components(run.room.test.second, tests, config.width);
    run.map = project(run.axes, run.room.test.second, tests);
    run.ceiling = accuracy({ ...run.teacher, class_head: run.start.class_head });
    Object.assign(run, { phase: "student", step: 0, loss: 0 });
    check();
  }

  function accuracy(network) {
    forward(network, kept.test, run.room.test, HEAD);
    let right = 0;
    for (let i = 0; i < tests; i++) right += largest(run.room.test.class_head, i) === digits.testLabels[i];
    return right / tests;
  }

  function answers() {
    const chosen = Array.from({ length: CLASSES }, (_, digit) => digits.testLabels.indexOf(digit));
    return chosen.map((place) => largest(run.room.test.class_head, place));
  }

  function check() {
    for (const pupil of [run.student, run.control]) {
      pupil.accuracy = accuracy(pupil.network);
      pupil.answers = answers();
      pupil.map = project(run.axes, run.room.test.second, tests);
      pupil.agreement = [0, 1].map((axis) => correlation(pupil.map, run.map, axis));
    }
    run.points.push([run.step, run.student.accuracy, run.control.accuracy]);
  }

  function distill() {
    if (config.inputs === "digits") fillDigits(AFTER_TEACHER + run.step);
    else fillNoise(run.step);
    const measure = config.loss === "kl" ? divergence : squaredError;
    forward(run.teacher, run.inputs, run.room.teacher, AUX);
    for (const pupil of [run.student, run.control]) {
      forward(pupil.network, run.inputs, pupil.room, AUX);
      pupil.loss = measure(pupil.room, run.room.teacher.aux_head, config.aux_dim);
      backward(pupil.network, run.inputs, pupil.room, "aux_head");
      update(pupil.network, pupil.room.gradient, pupil.memory, config.lr);
    }
    run.loss = run.student.loss;
    run.step += 1;
    if (isChecked(run.step, config.steps)) check();
    if (run.step >= config.steps) run.phase = "done";
  }

  function step() {
    if (run.phase === "teacher") teach();
    else if (run.phase === "student") distill();
  }

  // What a reader can see of the run now; the maps (test digits x 2) lie in the plane of the teacher's features.
  function snapshot() {
    const { phase, step, loss, points, ceiling, axes } = run;
    const seen = (one) => ({ accuracy: one.accuracy, answers: one.answers, map: one.map, agreement: one.agreement });
    const tile =
      phase === "teacher" || step === 0
        ? null
        : {
            input: Array.from(run.inputs.subarray(0, PIXELS)),
            teacher: Array.from(run.room.teacher.aux_head.subarray(0, config.aux_dim)),
            student: Array.from(run.student.room.aux_head.subarray(0, config.aux_dim)),
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
      student: seen(run.student),
      control: seen(run.control),
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
