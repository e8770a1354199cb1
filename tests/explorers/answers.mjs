// Answers questions about the explorers' modules for the tests in Python: {"name": [arguments...]} on standard input.

import { readFileSync } from "node:fs";
import { imitation, projector, solve } from "../../lib/sublearn/explorers/js/linear.js";
import * as network from "../../lib/sublearn/explorers/js/network.js";
import { nearest } from "../../lib/sublearn/explorers/js/noise.js";
import { ranked, unpacked } from "../../lib/sublearn/explorers/js/partners.js";
import { workspace } from "../../lib/sublearn/explorers/js/product.js";
import { key, normal, uniform } from "../../lib/sublearn/explorers/js/random.js";
import { choose } from "../../lib/sublearn/explorers/js/results.js";
import { paired, quantile, summary } from "../../lib/sublearn/explorers/js/statistics.js";
import { DEFAULTS } from "../../lib/sublearn/explorers/js/training.js";

const LOSSES = { crossEntropy: "class_head", squaredError: "aux_head", divergence: "aux_head" };

function gradient({ seed, width, aux_dim, batch, loss, inputs, targets, plain }) {
  const space = workspace({ plain }),
    made = network.initial(space, seed, "start", width, aux_dim);
  const buffers = network.buffers(made, batch),
    head = LOSSES[loss],
    images = space.zeros(inputs.length);
  images.set(inputs);
  network.forward(made, images, buffers, [head]);
  // biome-ignore lint/performance/noDynamicNamespaceImportAccess: the question names the loss
  const value = network[loss](buffers, targets, aux_dim);
  network.backward(made, images, buffers, head);
  const parts = ["hidden0", "hidden1", head];
  return {
    value,
    compiled: space.compiled,
    gradient: parts.map((part) =>
      [buffers.gradient[part].weight, buffers.gradient[part].bias].map((values) => Array.from(values)),
    ),
  };
}

function product({ rows, inner, columns, turned }) {
  const results = [false, true].map((plain) => {
    const space = workspace({ plain }),
      [A, B, C] = [rows * inner, inner * columns, rows * columns].map((size) => space.zeros(size));
    A.forEach((_, at) => (A[at] = uniform(1, at) - 0.5));
    B.forEach((_, at) => (B[at] = uniform(2, at) - 0.5));
    space.multiply(C, A, turned ? 1 : inner, turned ? rows : 1, B, rows, inner, columns);
    return { compiled: space.compiled, C: Array.from(C), A: Array.from(A), B: Array.from(B) };
  });
  return {
    ...results[1],
    compiled: results[0].compiled,
    same: results[0].C.every((value, at) => value === results[1].C[at]),
  };
}

const places = (count) => Array.from({ length: count }, (_, place) => place);
const answers = {
  defaults: () => DEFAULTS,
  nearest: (argument) => nearest(...argument),
  uniform: ([seed, use, part, count]) => places(count).map((place) => uniform(key(seed, use, part), place)),
  normal: ([seed, use, part, count]) => places(count).map((place) => normal(key(seed, use, part), place)),
  gradient,
  product,
  quantile,
  summary,
  choose: ([data, choice]) => choose(data, choice),
  paired: ([rows, base]) => paired(rows, base),
  ranked: ([state, text, measure]) => {
    const data = unpacked(state);
    return ranked(data, text, measure).map((pair) => [
      data.words[pair.word],
      data.numbers[pair.at],
      data.value(measure, pair.word, pair.at),
    ]);
  },
  projector,
  solve: ([hidden, heads, logits]) => solve(hidden, heads, logits),
  imitation: (vectors) => imitation(...vectors),
};
const questions = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(questions.map(([name, argument]) => answers[name](argument))));
